"""A classifier of large photographs: what an epoch costs on encodings, and on pixels.

    python -m benchmarks.classifiers                    # 128x128x3, eight minutes

Which of six photographs is a crop from? The crops to train on are of one half of each, those to judge by of the other.
Two levels take 128x128x3 to 8x8x32; `heads.classifier` learns from these, and the same kind of network from the pixels.
"""

import time

import keras
import numpy as np

from benchmarks import table
from examples.stopwatch import Clock
from stacked_autoencoder import Autoencoder, ConvLevel, heads
from stacked_autoencoder.photographs import TRAINING, photograph, random_crops

BATCH = 64
WIDTH = 32


def crops(count: int, side: int, second_half: bool) -> tuple[np.ndarray, np.ndarray]:
    """`count` of each photograph's halves, `(N, side, side, 3)` uint8, and whose they are."""
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
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=(side, side, 3), levels=[ConvLevel(32, 2, WIDTH), ConvLevel(32, 2, WIDTH)])
    began = time.perf_counter()
    sae.train(images, epochs=2, batch_size=BATCH, verbose=0)
    trained = time.perf_counter()
    encodings = sae.encode(images)
    encoded = time.perf_counter()
    rows = [{"on": "autoencoder, two epochs", "epoch": trained - began}, {"on": "encoding", "epoch": encoded - trained}]
    for name, values, test_values in (
        ("encodings", encodings, sae.encode(test_images)),
        ("pixels", images / np.float32(255), test_images / np.float32(255)),
    ):
        keras.utils.set_random_seed(0)
        statistics = {"mean": values.mean(axis=(0, 1, 2)), "std": values.std(axis=(0, 1, 2))}
        net, clock = heads.classifier(values.shape[1:], len(TRAINING), **statistics), Clock()
        net.fit(values, labels, batch_size=BATCH, epochs=epochs, callbacks=[clock], verbose=0)
        accuracy = net.evaluate(test_values, test_labels, verbose=0)[1]
        rows.append({"on": name, "epoch": min(clock.epochs[1:] or clock.epochs), "accuracy": accuracy})
    return rows


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--count", type=int, default=400, help="crops of each photograph")
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args(argv)
    rows = compare_classifiers(arguments.side, arguments.count, arguments.epochs)
    for row in rows:
        accuracy = f"{row['accuracy']:10.3f}" if "accuracy" in row else ""
        print(f"{row['on']:25}{row['epoch']:9.2f} s{accuracy}")
    print(f"an epoch on pixels takes {rows[-1]['epoch'] / rows[-2]['epoch']:.1f} times as long as one on encodings")
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
