"""Base class of the adversarial heads."""

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
    """Base class of heads whose generator is trained by another network that judges encodings.

    The generator is initialised as a Gaussian model of the encodings (probabilistic PCA).

    Args:
        encoding_shape: shape of one encoding.
        latent_dim: number of standard normal values from which one encoding is generated.
        width: as in `restorer`.

    Attributes:
        network: the generator in training, which outputs standardised encodings.
        restorer: a copy whose weights are averages over the last training steps. `generate` uses it.
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
        self.built = True  # `fit` never calls `call`, which would build it

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "width": self.width}

    def start(self, values: np.ndarray, labels: np.ndarray | None) -> None:
        """Initialises the generator with probabilistic PCA of standardised encodings `(N, *encoding_shape)`."""
        start_restorer(self.network, linear_code(values, self.latent_dim))
        self.restorer.set_weights(self.network.get_weights())

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Generates encodings `(N, *encoding_shape)` from standard normal values `(N, latent_dim)`, as `generator`."""
        return self.in_units(self.restorer(inputs))

    def values_of(self, data: Any) -> tf.Tensor:
        """Returns the standardised encodings of a batch of training data."""
        return self.standardised(keras.utils.unpack_x_y_sample_weight(data)[0])

    def draws(self, values: tf.Tensor) -> tf.Tensor:
        """Returns standard normal values `(N, latent_dim)` for a batch of N encodings."""
        return random.normal((ops.shape(values)[0], self.latent_dim), dtype=values.dtype, seed=self.seed_generator)

    def average(self, step: tf.Tensor) -> None:
        """Updates the averaged weights after a training step."""
        follow(self.restorer, self.network, step)

    def report(self, *terms: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        """Updates `trackers` and returns the metrics of a step."""
        self.track(*terms, count=count)
        return {tracker.name: tracker.result() for tracker in self.trackers}
