"""What the adversarial heads share: a generator that starts as a Gaussian, and an average of it that draws."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops, random

from stacked_autoencoder.heads.base import LatentHead
from stacked_autoencoder.heads.networks import follow, linear_code, restorer, start_restorer
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.images import Shape

DEPTH = 2


class Adversarial(LatentHead):
    """A head whose generator learns from what another network says of its encodings.

    Args:
        encoding_shape: of one encoding.
        latent_dim: values that one is made of.
        width: as in `restorer`.

    Attributes:
        network: the generator that trains, on standardised encodings.
        restorer: the same with weights averaged over the last steps, which draws.
    """

    def __init__(self, encoding_shape: Shape, latent_dim: int, width: int, **options: Any) -> None:
        super().__init__(encoding_shape, latent_dim, **options)
        self.width = positive_int("width", width)
        self.network, self.restorer = (
            restorer(self.encoding_shape, self.latent_dim, self.width, DEPTH) for _ in range(2)
        )
        self.restorer.trainable = False
        self.step = self.add_weight(shape=(), initializer="zeros", trainable=False, name="step")
        self.seed_generator = random.SeedGenerator()
        self.built = True  # `fit` doesn't call it

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}

    def start(self, values: np.ndarray, labels: np.ndarray | None) -> None:
        start_restorer(self.network, linear_code(values, self.latent_dim))
        self.restorer.set_weights(self.network.get_weights())

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`(N, latent_dim)` standard normal → `(N, *encoding_shape)`, as `generator`."""
        return self.in_units(self.restorer(inputs))

    def values_of(self, data: Any) -> tf.Tensor:
        """The standardised encodings of a batch, as a step is given it."""
        return self.standardised(keras.utils.unpack_x_y_sample_weight(data)[0])

    def draws(self, values: tf.Tensor) -> tf.Tensor:
        return random.normal((ops.shape(values)[0], self.latent_dim), dtype=values.dtype, seed=self.seed_generator)

    def average(self, step: tf.Tensor) -> None:
        follow(self.restorer, self.network, step)

    def report(self, *terms: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        """Tracks them; what a step returns."""
        self.track(*terms, count=count)
        return {tracker.name: tracker.result() for tracker in self.trackers}
