"""What spoils a denoising level's inputs while it trains. Keras layers, which do nothing outside of training.

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
    """Changes a share of the values, each chosen for itself.

    Args:
        rate: the share, from 0 to 1.
        seed: of the choice; drawn from Keras's by default.
    """

    def __init__(self, rate: float, seed: int | None = None, **options: Any) -> None:
        options.setdefault("dtype", network_policy())
        super().__init__(**options)
        if not is_real(rate) or not 0 <= rate <= 1:
            raise ValueError(f"`rate` is the share of values to change, from 0 to 1. Received: rate={rate!r}")
        self.rate = float(rate)
        self.seed = seed
        self.seed_generator = random.SeedGenerator(seed, name="corruption")
        self.supports_masking = True
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.corrupted(inputs) if training else inputs

    @abstractmethod
    def corrupted(self, inputs: tf.Tensor) -> tf.Tensor:
        """What takes the place of a batch in training."""

    def drawn(self, inputs: tf.Tensor) -> tf.Tensor:
        """A number from [0, 1) for each value."""
        return random.uniform(ops.shape(inputs), dtype=inputs.dtype, seed=self.seed_generator)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable("stacked_autoencoder")
class Mask(Corruption):
    """Sets a share of the values to zero in training and leaves the others as they are, unlike `Dropout`.

    Args:
        rate: the share, from 0 to 1.
        seed: of the choice; drawn from Keras's by default.

    Example:
        >>> ConvLevel(n_out=32, corruption=Mask(0.3))
    """

    def corrupted(self, inputs: tf.Tensor) -> tf.Tensor:
        return ops.where(self.drawn(inputs) < self.rate, ops.zeros_like(inputs), inputs)


@keras.saving.register_keras_serializable("stacked_autoencoder")
class SaltAndPepper(Corruption):
    """Sets a share of the values to the highest or the lowest of the batch in training, either as likely.

    Args:
        rate: the share, from 0 to 1.
        seed: of the choice; drawn from Keras's by default.
    """

    def corrupted(self, inputs: tf.Tensor) -> tf.Tensor:
        drawn = self.drawn(inputs)
        extremes = ops.where(drawn < self.rate / 2, ops.min(inputs), ops.max(inputs))
        return ops.where(drawn < self.rate, extremes, inputs)


def drawn(mean: tf.Tensor, log_variance: tf.Tensor, seed: random.SeedGenerator) -> tf.Tensor:
    """A draw from each normal, through which gradients reach both (Kingma and Welling 2014, section 2.4)."""
    return mean + ops.exp(log_variance / 2) * random.normal(ops.shape(mean), dtype=mean.dtype, seed=seed)
