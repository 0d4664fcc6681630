"""Trains levels of this library for a given time, and measures them."""

import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.harness.clocks import OverTime, TimeLimit, step_times
from stacked_autoencoder import Autoencoder, ConvLevel, Level
from stacked_autoencoder.optimizers import PEAK_LEARNING_RATE
from stacked_autoencoder.training.fit import optimizer_for
from stacked_autoencoder.training.model import ReconstructionModel
from stacked_autoencoder.utils.images import scaled

BATCH = 32
VALIDATE_EVERY = 250  # steps


def steps_per_validation(count: int, batch_size: int = BATCH) -> int:
    """Steps from one validation to the next: at most one pass over `count` images."""
    return min(VALIDATE_EVERY, count // batch_size)


# The arguments of `Autoencoder` in the benchmarks of quality. All other arguments are the defaults.
PHOTOGRAPHS: dict[str, dict[str, Any]] = {"16x16x32": {}, "8x8x32": {"n_scalings": 3}, "4x4x32": {"n_levels": 2}}
FASHION: dict[str, Any] = {"shape": (28, 28, 1), "n_out": 8, "n_levels": 2, "latent_dim": 30}


def new_stack(**arguments: Any) -> Autoencoder:
    """A stack with reproducible initial weights."""
    keras.utils.set_random_seed(0)
    return Autoencoder(**arguments)


def stack_for(code: str) -> Autoencoder:
    """The stack for encodings of this size of 64x64x3 photographs."""
    return new_stack(shape=(64, 64, 3), **PHOTOGRAPHS[code])


def train_stack(
    sae: Autoencoder,
    images: np.ndarray,
    valid: np.ndarray,
    seconds: float,
    batch_size: int = BATCH,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> float:
    """Trains a stack of one or two levels for `seconds`; returns the seconds it took.

    With two levels, the first one gets little of the time, because the second level causes most of the loss.
    """
    shares = [1.0] if len(sae.levels) == 1 else [0.05, 0.95]
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
    return time.perf_counter() - began


def train_jointly(
    sae: Autoencoder, images: np.ndarray, valid: np.ndarray, seconds: float, peak: float = PEAK_LEARNING_RATE
) -> float:
    """Trains all levels of a stack jointly for `seconds`; returns the seconds it took.

    Args:
        peak: the highest learning rate.
    """
    began = time.perf_counter()
    limit = TimeLimit(seconds)
    if not all(level.started for level in sae.levels):
        sae.train(images, epochs=0, verbose=0)
    sae.fine_tune(
        images,
        epochs=10_000,
        validation_data=valid,
        batch_size=BATCH,
        steps_per_epoch=steps_per_validation(len(images)),
        learning_rate=OverTime(limit, peak),
        callbacks=[limit],
        verbose=2,
    )
    return time.perf_counter() - began


def as_if_trained(sae: Autoencoder) -> None:
    """Makes the residual paths nonzero: `encode` and `decode` skip paths that are zero."""
    for level in sae.levels:
        for model in (level.encoder, level.decoder):
            bias = model.get_layer("residual").bias
            bias.assign(bias + 1e-6)


def reconstruction(levels: Sequence[Level], inputs: np.ndarray) -> keras.Model:
    """The Keras model that `train` fits, to measure its training step. `inputs` is a batch of the first level."""
    model = ReconstructionModel(levels)
    model.compile(optimizer=optimizer_for(levels, scaled(inputs).numpy(), 1.0, 1e-4))
    model.optimizer.build(model.trainable_variables)
    return model


def step_of_last_level(sae: Autoencoder, images: np.ndarray) -> float:
    """Seconds of a training step of the last level of a stack, which sees the encodings of a batch of images."""
    inputs = scaled(images).numpy()
    for level in sae.levels[:-1]:
        inputs = level.encode(inputs)
    return step_times({"step": reconstruction(sae.levels[-1:], inputs)}, tf.constant(inputs))["step"]


CODES = {"16x16x32": 2, "8x8x32": 3, "4x4x32": 4}  # encoding of a 64x64x3 image → `n_scalings`
N_OUT = 32
SIZE = 64


def level_for(code: str) -> ConvLevel:
    return ConvLevel(N_OUT, CODES[code], SIZE)


HALVINGS = (2, 1, 1)  # of `greedy_stack`: 128x128x3 to 8x8x32


def greedy_stack(side: int, size: int) -> Autoencoder:
    keras.utils.set_random_seed(0)
    return Autoencoder(shape=(side, side, 3), levels=[ConvLevel(32, halvings, size) for halvings in HALVINGS])
