"""Training this library's levels for so long, and what is measured of them."""

import statistics
import time
from collections.abc import Callable

import keras
import numpy as np

from benchmarks import data
from benchmarks.clocks import Clock, TimeLimit, step_times
from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.principal import to_patches
from stacked_autoencoder.sources.base import scaled
from stacked_autoencoder.training import LevelMuon, step_scales

BATCH = 32
TRIAL = 60  # steps of an epoch of the short run that tells the pace
LOOK = 250  # steps between two looks at the validation set
RESERVE = 0.1  # share of the time left for the start, for compiling and for slower minutes than the trial's


def train_ours(
    levels: Callable[[], list[ConvLevel]],
    images: np.ndarray,
    valid: np.ndarray,
    seconds: float,
    batch_size: int = BATCH,
    learning_rate: float | None = None,
) -> tuple[Autoencoder, float]:
    """Trains a stack for so long: as many epochs as fit at the best pace of a short run before, fewer if slowed.

    The first level takes little of the time where a second follows: most is lost in the last, and the further the first
    is trained away from its linear start, the more an error in its encodings costs in the image.
    """
    shape, steps = images.shape[1:], len(images) // batch_size
    trial, paces = Autoencoder(shape=shape, levels=levels()), []
    some = images[: TRIAL * batch_size]
    for index in range(len(trial.levels)):
        clock = Clock()
        trial.train(some, epochs=3, levels=[index], batch_size=batch_size, verbose=0, callbacks=[clock])
        paces.append(min(clock.epochs[1:]) / min(TRIAL, steps))  # the first epoch also compiles
    shares = [1.0] if len(paces) == 1 else [0.05, 0.95]
    looks = [min(LOOK, steps)] + [steps] * (len(paces) - 1)  # only level 0 has a choice of steps per epoch
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=shape, levels=levels())
    began = time.perf_counter()
    for index, (share, pace, look) in enumerate(zip(shares, paces, looks, strict=True)):
        limit = share * seconds
        sae.train(
            images,
            epochs=max(1, round((1 - RESERVE) * limit / (look * pace))),
            levels=[index],
            validation_data=valid,
            batch_size=batch_size,
            steps_per_epoch=look,
            learning_rate=learning_rate,
            callbacks=[TimeLimit(limit)],
            verbose=2,
        )
    return sae, time.perf_counter() - began


def reconstruction(sae: Autoencoder, images: np.ndarray) -> keras.Model:
    """The stack as a Keras autoencoder with the optimizer of `train`, to time its step like the usual design's."""
    model = keras.Sequential([sae.encoder, sae.decoder])
    scales = step_scales(sae.levels, scaled(images).numpy(), 1.0)
    model.compile(optimizer=LevelMuon(1e-4, scales=scales, unit=1.0), loss="mse")
    return model


def fit_over_step(level: ConvLevel, rounds: int = 3, steps: int = 48) -> float:
    """Time of a step within `train` over that of the bare compiled step, taken in turns; the median of the ratios."""
    some = data.training_crops(steps * BATCH)
    sae, clock, ratios = Autoencoder(shape=some.shape[1:], levels=[level]), Clock(), []
    for _ in range(rounds):
        sae.train(some, epochs=4, batch_size=BATCH, verbose=0, callbacks=[clock])
        batch = some[:BATCH]
        bare = step_times({"bare": reconstruction(sae, batch)}, scaled(batch), rounds=3, steps=steps)["bare"]
        ratios.append(min(clock.epochs[1:]) / steps / bare)  # the first epoch also compiles
    return statistics.median(ratios)


def share_worse_than_pca(sae: Autoencoder, tiles: np.ndarray) -> float:
    """The share of `tiles` on which a stack of one level loses more than PCA of the same size."""
    images, level = scaled(tiles).numpy(), sae.levels[0]
    ours = np.mean(np.square(sae.reconstruct(tiles) - images), axis=(1, 2, 3))
    patches = (to_patches(image[None], level.factor).astype(np.float64) for image in images)
    pca = [level.linear_code.squared_error(rows) / rows.size for rows in patches]
    return float(np.mean(ours > pca))
