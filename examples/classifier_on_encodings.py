"""A classifier of clothes: trained on encodings, on pixels, and on encodings with a fine-tuned encoder.

Two levels encode 28x28 pixels as 7x7x8 encodings, without labels. `heads.classifier` is then trained on the encodings,
and the same kind of network is trained on pixels for half as many epochs. At the end the encoder and its head are
fine-tuned together, as `keras.Sequential([sae.encoder, head])`.

    python examples/classifier_on_encodings.py

Expected time: about 15 minutes on two cores.
Expected score: a test accuracy of 0.914 on encodings, 0.922 on pixels, where an epoch takes three to four times as
long, and 0.914 after fine-tuning.

File written to ./classifier:

    mistakes.png    test images that are classified correctly on pixels only, on encodings only, and on neither
"""

import time

import keras
import numpy as np
from clothes import CLASSES, add_enlarge, load, parser, print_table
from judge import BATCH, train_autoencoder
from stopwatch import Clock

from stacked_autoencoder import heads, plots

# === Training ===
EPOCHS = {"encodings": 2.0, "pixels": 1.0, "whole": 2 / 3}  # multiples of `--epochs`
LEARNING_RATE, FINE_TUNING_RATE = 2e-3, 1e-3
DROPOUT = 0.5

# === Pictures ===
N_SHOWN = 20


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    argument_parser = parser(__doc__, "classifier", epochs=12)
    add_enlarge(argument_parser)
    arguments = argument_parser.parse_args(argv)
    data = load(arguments.dataset, arguments.count, arguments.enlarge)  # images (55000, 28, 28, 1) in [0, 1]

    # === Train the autoencoder and encode every image once ===
    sae, seconds = train_autoencoder(data.images, data.valid_images, epochs=2, n_levels=2)
    began = time.perf_counter()
    inputs = {"encodings": (sae.encode(data.images), sae.encode(data.test_images))}
    rows = {
        "autoencoder": {"epochs": 2, "s/epoch": seconds / 2},
        "encoding everything": {"epochs": 1, "s/epoch": time.perf_counter() - began},
    }
    inputs["pixels"] = data.images, data.test_images

    # === Train the same kind of network on encodings and on pixels ===
    classifiers, correct = {}, {}
    for name, (train_inputs, test_inputs) in inputs.items():
        keras.utils.set_random_seed(0)
        statistics = {"mean": train_inputs.mean(axis=(0, 1, 2)), "std": train_inputs.std()}
        classifiers[name] = heads.classifier(train_inputs.shape[1:], len(CLASSES), dropout=DROPOUT, **statistics)
        epochs = round(EPOCHS[name] * arguments.epochs)
        rows[name] = train(classifiers[name], train_inputs, data.labels, epochs, LEARNING_RATE)
        correct[name] = classifiers[name].predict(test_inputs, BATCH, verbose=0).argmax(axis=1) == data.test_labels
        rows[name]["accuracy"] = float(correct[name].mean())
        print_table(arguments.dataset, rows)

    # === Fine-tune the encoder and its head together ===
    whole = keras.Sequential([sae.encoder, classifiers["encodings"]])
    epochs = max(1, round(EPOCHS["whole"] * arguments.epochs))
    rows["encoder and head, fine-tuned"] = train(whole, data.images, data.labels, epochs, FINE_TUNING_RATE)
    rows["encoder and head, fine-tuned"]["accuracy"] = whole.evaluate(data.test_images, data.test_labels, verbose=0)[1]
    print_table(arguments.dataset, rows)

    # === Show the test images on which the two classifiers differ ===
    groups = {
        "correct on pixels only": correct["pixels"] & ~correct["encodings"],
        "correct on encodings only": correct["encodings"] & ~correct["pixels"],
        "correct on neither": ~correct["encodings"] & ~correct["pixels"],
    }
    for name, members in groups.items():
        print(f"{name}: {np.mean(members):.1%}")
    pictures = {name: data.test_images[members][:N_SHOWN] for name, members in groups.items()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    plots.grid(pictures, value_range=(0, 1)).savefig(arguments.out / "mistakes.png", dpi=150)
    return rows


def train(
    net: keras.Model, images: np.ndarray, labels: np.ndarray, epochs: int, learning_rate: float
) -> dict[str, float]:
    """Trains a classifier; returns the number of epochs and the median seconds per epoch.

    The first epoch, in which Keras compiles the network, is left out of the median if there are more.
    """
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(images) // BATCH))
    net.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = Clock()
    net.fit(images, labels, batch_size=BATCH, epochs=epochs, callbacks=[clock], verbose=0)
    return {"epochs": epochs, "s/epoch": float(np.median(clock.epochs[1:] or clock.epochs))}


if __name__ == "__main__":
    main()
