"""Corruption layers for denoising. They are Keras layers that change inputs only in training.

Reference:
    Vincent et al. 2010, "Stacked denoising autoencoders", JMLR 11, section 3.3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops, random

from stacked_autoencoder.utils.checks import is_real
from stacked_autoencoder.utils.keras_layers import network_policy


class Corruption(layers.Layer, ABC):
    """Base class of layers that change a random share of the values in training.

    Args:
        rate: share of the values to change, from 0 to 1. Each value is chosen independently.
        seed: seed of the random choice. Drawn from Keras's random state by default.
    """

    def __init__(self, rate: float, seed: int | None = None, **options: Any) -> None:
        options.setdefault("dtype", network_policy())
        super().__init__(**options)
        if not is_real(rate) or not 0 <= rate <= 1:
            raise ValueError(
                f"`rate` must be a number from 0 to 1, the share of values to change. Received: rate={rate!r}"
            )
        self.rate = float(rate)
        self.seed = seed
        self.seed_generator = random.SeedGenerator(seed, name="corruption")
        self.supports_masking = True
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the corrupted inputs in training, and the inputs otherwise."""
        return self.corrupted(inputs) if training else inputs

    @abstractmethod
    def corrupted(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the corrupted batch."""

    def random_values(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns one random number from [0, 1) for each value."""
        return random.uniform(ops.shape(inputs), dtype=inputs.dtype, seed=self.seed_generator)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable("stacked_autoencoder")
class Mask(Corruption):
    """Sets random values to zero in training. In contrast to `Dropout`, the other values are not rescaled.

    Use it as `corruption` of a level, which then learns to restore the missing values (masking noise).

    Args:
        rate: share of the values to set to zero, from 0 to 1. Each value is chosen independently.
        seed: seed of the random choice. Drawn from Keras's random state by default.

    Input shape:
        Any, float.

    Output shape:
        The shape of the input.

    Raises:
        ValueError: `rate` is not a number from 0 to 1.

    Example:
        >>> ConvLevel(n_out=32, corruption=Mask(0.3))

    Reference:
        Vincent et al. 2010, "Stacked denoising autoencoders", JMLR 11, section 3.3.
    """

    def corrupted(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the batch with random values set to zero."""
        return ops.where(self.random_values(inputs) < self.rate, ops.zeros_like(inputs), inputs)


@keras.saving.register_keras_serializable("stacked_autoencoder")
class SaltAndPepper(Corruption):
    """Sets random values to the lowest or the highest value of the batch in training, with equal probability.

    Use it as `corruption` of a level, which then learns to remove salt-and-pepper noise.

    Args:
        rate: share of the values to replace, from 0 to 1. Each value is chosen independently.
        seed: seed of the random choice. Drawn from Keras's random state by default.

    Input shape:
        Any, float.

    Output shape:
        The shape of the input.

    Raises:
        ValueError: `rate` is not a number from 0 to 1.

    Example:
        >>> ConvLevel(n_out=32, corruption=SaltAndPepper(0.1))

    Reference:
        Vincent et al. 2010, "Stacked denoising autoencoders", JMLR 11, section 3.3.
    """

    def corrupted(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the batch with random values set to its lowest or highest value."""
        uniform = self.random_values(inputs)
        extremes = ops.where(uniform < self.rate / 2, ops.min(inputs), ops.max(inputs))
        return ops.where(uniform < self.rate, extremes, inputs)


def sample_normal(mean: tf.Tensor, log_variance: tf.Tensor, seed: random.SeedGenerator) -> tf.Tensor:
    """Draws from normal distributions so that gradients reach both arguments (Kingma and Welling 2014, section 2.4)."""
    return mean + ops.exp(log_variance / 2) * random.normal(ops.shape(mean), dtype=mean.dtype, seed=seed)
