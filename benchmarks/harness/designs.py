"""Trains levels of this library for a given time, and measures them."""

import time
from collections.abc import Sequence

import keras
import numpy as np

from benchmarks.harness.clocks import OverTime, TimeLimit
from benchmarks.harness.table import row
from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.pca import to_patches
from stacked_autoencoder.training.fit import optimizer_for
from stacked_autoencoder.training.model import ReconstructionModel
from stacked_autoencoder.utils.images import scaled

BATCH = 32
VALIDATE_EVERY = 250  # steps


def steps_per_validation(count: int, batch_size: int = BATCH) -> int:
    """Steps from one validation to the next: at most one pass over `count` images."""
    return min(VALIDATE_EVERY, count // batch_size)


def train_levels(
    levels: Sequence[ConvLevel],
    images: np.ndarray,
    valid: np.ndarray,
    seconds: float,
    batch_size: int = BATCH,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[Autoencoder, float]:
    """Trains a stack of one or two levels for `seconds`; returns it and the seconds it took.

    With two levels, the first one gets little of the time. The second level causes most of the loss, and the further
    the first is trained away from PCA, the more an error in its encodings costs in the image.
    """
    shares = [1.0] if len(levels) == 1 else [0.05, 0.95]
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=images.shape[1:], levels=levels)
    began = time.perf_counter()
    for index, share in enumerate(shares):
        limit = TimeLimit(share * seconds)
        sae.train(
            images,
            epochs=10_000,
            levels=[index],
            validation_data=valid,
            batch_size=batch_size,
            steps_per_epoch=steps_per_validation(
                len(images), batch_size
            ),  # of level 0; level 1 takes one pass per epoch
            learning_rate=OverTime(limit),
            callbacks=[limit, *callbacks],
            verbose=2,
        )
    return sae, time.perf_counter() - began


def as_if_trained(sae: Autoencoder) -> None:
    """Makes the residual paths nonzero: `encode` and `decode` skip paths that are zero."""
    for level in sae.levels:
        for model in (level.encoder, level.decoder):
            bias = model.get_layer("residual").bias
            bias.assign(bias + 1e-6)


def reconstruction(sae: Autoencoder, images: np.ndarray) -> keras.Model:
    """The Keras model that `train` fits, to measure its training step."""
    model = ReconstructionModel(sae.levels)
    model.compile(optimizer=optimizer_for(sae.levels, scaled(images).numpy(), 1.0, 1e-4))
    model.optimizer.build(model.trainable_variables)
    return model


def share_worse_than_pca(sae: Autoencoder, tiles: np.ndarray) -> float:
    """The share of `tiles` on which a stack of one level has a higher loss than PCA with the same number of values."""
    images, level = scaled(tiles).numpy(), sae.levels[0]
    ours = np.mean(np.square(sae.reconstruct(tiles) - images), axis=(1, 2, 3))
    patches = (to_patches(image[None], level.factor).astype(np.float64) for image in images)
    pca = [level.linear_code.squared_error(rows) / rows.size for rows in patches]
    return float(np.mean(ours > pca))


CODES = {"16x16x32": 2, "8x8x32": 3, "4x4x32": 4}  # encoding of a 64x64x3 image → `n_scalings`
N_OUT = 32
SIZE = 64


def level_for(code: str) -> ConvLevel:
    return ConvLevel(N_OUT, CODES[code], SIZE)


def budgets_of(sae: Autoencoder, *sets: np.ndarray) -> list[dict]:
    """The error budget of a stack of one level on each set of tiles."""
    return [sae.evaluate(tiles, return_dict=True)[0] for tiles in sets]


def photographs_row(
    code: str, design: str, sae: Autoencoder, test: np.ndarray, budgets: list[dict], seconds: float, step: float = 0.0
) -> dict:
    """The row of a stack of one level, from its error budgets on the test set and the validation set."""
    of_test, of_validation = budgets
    return row(
        "photographs",
        code,
        int(of_test["values"]),
        design,
        of_test["full_loss"],
        of_test["pca_loss"],
        seconds,
        step,
        valid=of_validation["full_loss"],
        worse=share_worse_than_pca(sae, test),
    )


FASHION_SIZE = 64


def fashion_levels() -> list[ConvLevel]:
    """Levels for Fashion-MNIST: nearly all weights are in the second, which causes nearly all of the loss."""
    return [
        ConvLevel(14, 2, FASHION_SIZE // 4, depth=0),
        ConvLevel(n_scalings=0, size=FASHION_SIZE, depth=3, latent_dim=30),
    ]


HALVINGS = (2, 1, 1)  # of `greedy_stack`: 128x128x3 to 8x8x32


def greedy_stack(side: int, size: int) -> Autoencoder:
    keras.utils.set_random_seed(0)
    return Autoencoder(shape=(side, side, 3), levels=[ConvLevel(32, halvings, size) for halvings in HALVINGS])
