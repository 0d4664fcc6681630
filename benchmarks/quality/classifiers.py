"""Accuracy of a classifier on pixels and on encodings, for the same number of epochs and for the same time.

    python -m benchmarks.quality.classifiers                    # 128x128x3, ten minutes

The task is to tell from which of six photographs a crop was taken. Training crops are from one half of each photograph,
test crops from the other half. Two levels encode 128x128x3 images as 32x32x32 and 8x8x32. `heads.classifier` is trained
on the pixels and on both encodings: first for the same number of epochs, then on encodings for the same total time,
which includes training the autoencoder and encoding.
"""

import time
from collections.abc import Sequence

import keras
import numpy as np

from benchmarks.harness import table
from benchmarks.harness.clocks import TimeLimit
from examples.stopwatch import Clock
from stacked_autoencoder import Autoencoder, ConvLevel, heads
from stacked_autoencoder.datasets import TRAINING, photograph, random_crops

BATCH = 64
MAX_EPOCHS = 10_000  # if the time is the limit
WIDTH = 32


def crops(count: int, side: int, second_half: bool) -> tuple[np.ndarray, np.ndarray]:
    """`count` crops of one half of each photograph, `(N, side, side, 3)` uint8, and the indices of the photographs."""
    images = []
    for index, name in enumerate(TRAINING):
        whole = photograph(name)
        middle = whole.shape[1] // 2
        half = whole[:, middle:] if second_half else whole[:, :middle]
        images.append(random_crops([half], count, side, swap_colours=False, seed=index))
    return np.concatenate(images), np.repeat(np.arange(len(TRAINING)), count)


def compare_classifiers(side: int, count: int, epochs: int) -> list[dict]:
    images, labels = crops(count, side, second_half=False)
    test_images, test_labels = crops(max(count // 4, 1), side, second_half=True)
    pixels = images / np.float32(255)
    test = test_images / np.float32(255), test_labels
    rows = [learn(new_classifier(pixels), (pixels, labels), test, epochs)]
    del pixels, test
    keras.utils.set_random_seed(0)
    began = time.perf_counter()
    sae = Autoencoder(shape=(side, side, 3), levels=[ConvLevel(32, 2, WIDTH), ConvLevel(32, 2, WIDTH)])
    sae.train(images, epochs=2, batch_size=BATCH, verbose=0)
    trained = time.perf_counter() - began
    for level in (0, 1):
        began = time.perf_counter()
        encodings = sae.encode(images, level)
        test = sae.encode(test_images, level), test_labels
        before = trained + time.perf_counter() - began
        print(f"training the autoencoder and encoding: {before:.0f} s", flush=True)
        net = new_classifier(encodings)
        rows.append(learn(net, (encodings, labels), test, epochs, before))
        left = TimeLimit(max(0.1, rows[0]["seconds"] - rows[-1]["seconds"]))
        longer = learn(net, (encodings, labels), test, MAX_EPOCHS, rows[-1]["seconds"], callbacks=[left])
        rows.append(longer | {"before": before, "epochs": epochs + longer["epochs"]})
    return rows


def learn(
    net: keras.Model,
    train: tuple[np.ndarray, ...],
    test: tuple[np.ndarray, ...],
    epochs: int,
    before: float = 0.0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict:
    """Trains a classifier; `before` seconds are added to its time."""
    clock, began = Clock(), time.perf_counter()
    net.fit(*train, batch_size=BATCH, epochs=epochs, callbacks=[clock, *callbacks], verbose=0)
    whole = clock.epochs[:-1] if callbacks else clock.epochs  # the last is cut short
    row = {"on": "x".join(map(str, train[0].shape[1:])), "epoch": min(whole[1:] or clock.epochs)}
    row |= {"epochs": len(clock.epochs), "before": before, "seconds": before + time.perf_counter() - began}
    row["accuracy"] = net.evaluate(*test, verbose=0)[1]
    text = "{on:11} {epochs:4} epochs of {epoch:.2f} s, {seconds:.0f} s in total, test accuracy {accuracy:.3f}"
    print(text.format(**row), flush=True)
    return row


def new_classifier(values: np.ndarray) -> keras.Model:
    keras.utils.set_random_seed(0)
    return heads.classifier(
        values.shape[1:], len(TRAINING), mean=values.mean(axis=(0, 1, 2)), std=values.std(axis=(0, 1, 2))
    )


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--count", type=int, default=400, help="number of training crops per photograph")
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args(argv)
    rows = compare_classifiers(arguments.side, arguments.count, arguments.epochs)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
