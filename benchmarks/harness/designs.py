"""Training this library's levels for so long, and what is measured of them."""

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
LOOK = 250  # steps between two looks at the validation set


def steps_to_look(count: int, batch_size: int = BATCH) -> int:
    """From one look at the validation set to the next, of so many images: one pass at most."""
    return min(LOOK, count // batch_size)


def train_ours(
    levels: Sequence[ConvLevel],
    images: np.ndarray,
    valid: np.ndarray,
    seconds: float,
    batch_size: int = BATCH,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[Autoencoder, float]:
    """Trains a stack for so long; returns it and the seconds it took.

    The first level takes little of the time where a second follows: most is lost in the last, and the further the first
    is trained away from its linear start, the more an error in its encodings costs in the image.
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
            steps_per_epoch=steps_to_look(len(images), batch_size),  # of level 0; the other's is one pass
            learning_rate=OverTime(limit),
            callbacks=[limit, *callbacks],
            verbose=2,
        )
    return sae, time.perf_counter() - began


def as_if_trained(sae: Autoencoder) -> None:
    """Gives residual paths an effect: before training they have none, and `encode` and `decode` leave them out."""
    for level in sae.levels:
        for model in (level.encoder, level.decoder):
            bias = model.get_layer("residual").bias
            bias.assign(bias + 1e-6)


def reconstruction(sae: Autoencoder, images: np.ndarray) -> keras.Model:
    """The stack as `train` fits it, to time its step like that of any Keras model."""
    model = ReconstructionModel(sae.levels)
    model.compile(optimizer=optimizer_for(sae.levels, scaled(images).numpy(), 1.0, 1e-4))
    model.optimizer.build(model.trainable_variables)
    return model


def share_worse_than_pca(sae: Autoencoder, tiles: np.ndarray) -> float:
    """The share of `tiles` on which a stack of one level loses more than PCA of the same size."""
    images, level = scaled(tiles).numpy(), sae.levels[0]
    ours = np.mean(np.square(sae.reconstruct(tiles) - images), axis=(1, 2, 3))
    patches = (to_patches(image[None], level.factor).astype(np.float64) for image in images)
    pca = [level.linear_code.squared_error(rows) / rows.size for rows in patches]
    return float(np.mean(ours > pca))


CODES = {"16x16x32": 2, "8x8x32": 3, "4x4x32": 4}  # code shape of a 64x64 picture → halvings


N_OUT = 32


SIZE = 64


def level_for(code: str) -> ConvLevel:
    return ConvLevel(N_OUT, CODES[code], SIZE)


def budgets_of(sae: Autoencoder, *sets: np.ndarray) -> list[dict]:
    """The error budget of a stack of one level on each set of tiles."""
    return [sae.evaluate(tiles, return_dict=True)[0] for tiles in sets]


def our_row(
    code: str, design: str, sae: Autoencoder, test: np.ndarray, budgets: list[dict], seconds: float, step: float = 0.0
) -> dict:
    """The row of a stack of one level, from its error budgets on the test and the validation set."""
    judged, chosen = budgets
    return row(
        "photographs",
        code,
        int(judged["values"]),
        design,
        judged["full_loss"],
        judged["pca_loss"],
        seconds,
        step,
        valid=chosen["full_loss"],
        worse=share_worse_than_pca(sae, test),
    )


FASHION_SIZE = 64


def fashion_levels() -> list[ConvLevel]:
    """Nearly all weights in the level that loses nearly everything: greedy training can't use those of the other."""
    return [
        ConvLevel(14, 2, FASHION_SIZE // 4, depth=0),
        ConvLevel(n_scalings=0, size=FASHION_SIZE, depth=3, latent_dim=30),
    ]


HALVINGS = (2, 1, 1)  # of the stack that is trained: 128x128x3 to 8x8x32


def greedy_stack(side: int, size: int) -> Autoencoder:
    keras.utils.set_random_seed(0)
    return Autoencoder(shape=(side, side, 3), levels=[ConvLevel(32, halvings, size) for halvings in HALVINGS])
