"""Fashion-MNIST in 30 values: PCA, the textbook net and ours; and greedy against joint training."""

import time

import keras
import tensorflow as tf

from benchmarks.clocks import step_times
from benchmarks.data import fashion_mnist
from benchmarks.ours import BATCH, reconstruction, train_ours
from benchmarks.rivals import textbook_dense, train_plain
from benchmarks.table import row
from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.optimizer import PEAK_LEARNING_RATE

SIZE = 64


def fashion_levels() -> list[ConvLevel]:
    """Nearly all weights in the level that loses nearly everything: greedy training can't use those of the other."""
    return [ConvLevel(14, 2, SIZE // 4, depth=0), ConvLevel(n_scalings=0, size=SIZE, depth=3, latent_dim=30)]


def compare_fashion(seconds: float) -> list[dict]:
    images, valid = fashion_mnist()
    keras.utils.set_random_seed(0)
    textbook = textbook_dense()
    textbook_seconds = train_plain(textbook, images, valid, seconds, BATCH, steps=len(images) // BATCH)
    textbook_loss = textbook.evaluate(valid, valid, verbose=0)
    sae, ours_seconds = train_ours(fashion_levels(), images, valid, seconds, batch_size=64)
    budget = sae.evaluate(valid, return_dict=True)[1]
    batch = images[:BATCH]
    steps = step_times({"ours": reconstruction(sae, batch), "textbook": textbook}, tf.constant(batch))
    began = time.perf_counter()
    sae.fine_tune(images, epochs=1, validation_data=valid, batch_size=BATCH, verbose=2)
    tuned_seconds = time.perf_counter() - began
    about, pca = ("Fashion-MNIST", "30", 30), budget["pca_loss"]
    return [
        row(*about, "PCA", pca, pca),
        row(*about, "textbook dense 100-30", textbook_loss, pca, textbook_seconds, steps["textbook"]),
        row(*about, "ours, two greedy levels", budget["full_loss"], pca, ours_seconds, steps["ours"]),
        row(*about, "  … and fine_tune", sae.evaluate(valid), pca, ours_seconds + tuned_seconds),
    ]


def compare_greedy_with_joint(epochs: int) -> list[dict]:
    """Two levels trained one after the other, and the same net trained jointly from the same start."""
    images, valid = fashion_mnist()
    rows = []
    for name in ("greedy", "joint"):
        keras.utils.set_random_seed(0)
        sae = Autoencoder(shape=(28, 28, 1), levels=fashion_levels())
        began = time.perf_counter()
        if name == "greedy":
            sae.train(images, epochs=epochs, validation_data=valid, verbose=2)
        else:
            sae.train(images, epochs=0, verbose=0)  # the same start
            sae.fine_tune(images, epochs=epochs, validation_data=valid, learning_rate=PEAK_LEARNING_RATE, verbose=2)
        budget = sae.evaluate(valid, return_dict=True)[1]
        design, seconds = f"ours, {name}, {epochs} epochs", time.perf_counter() - began
        rows.append(row("Fashion-MNIST", "30", 30, design, budget["full_loss"], budget["pca_loss"], seconds))
    return rows
