"""A boundary equilibrium generative adversarial network of encodings."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.arguments import non_negative
from stacked_autoencoder.heads.adversarial import Adversarial
from stacked_autoencoder.heads.refined import Refined
from stacked_autoencoder.heads.restorer import streamed
from stacked_autoencoder.level import Level, Shape
from stacked_autoencoder.levels.conv import ConvLevel
from stacked_autoencoder.levels.dense import DenseLevel

LEARNING_RATE = 1e-3
SPEED = 0.1  # of the equilibrium term: a hundred times the paper's, whose training is as many times longer


@keras.saving.register_keras_serializable("stacked_autoencoder")
class BEGAN(Refined, Adversarial):
    """Draws encodings that an autoencoder restores as well as real ones.

    ```
    encodings ────────────▶ level.encoder ─▶ level.decoder ─▶ error of real ones, made smaller
    draws ─▶ generator ───▶ level.encoder ─▶ level.decoder ─▶ error of made ones, made larger, k times
                 └─ trained to make that smaller
    ```

    Not in `heads` yet: its samples fall to a few kinds, and are no nearer to real ones than those of a Gaussian.

    The discriminator *is* an autoencoder level on encodings, with its closed-form start. The term `k` keeps the error
    of made encodings at `gamma` times that of real ones, so that neither network wins.

    Args:
        encoding_shape: of one encoding, `sae.encoding_shape`.
        latent_dim: values that an encoding is made of, and values of the discriminator's code.
        gamma: between 0 and 1: the lower, the sharper the samples and the fewer kinds of them.
        width: filters of the networks, and a quarter of the units of dense ones.

    Attributes:
        k: the equilibrium term, between 0 and 1, a weight that isn't trained.

    Input shape:
        `(N, *encoding_shape)`, float32.

    Raises:
        ValueError: an argument isn't what it should be, or encodings have another shape.

    Example:
        >>> began = BEGAN(sae.encoding_shape)
        >>> history = began.fit(sae.encode(images), epochs=50)     # "convergence" falls as samples get better
        >>> images = sae.decode(began.generate(64, seed=0))

    Reference:
        Berthelot et al. 2017, "BEGAN: boundary equilibrium generative adversarial networks" (arXiv:1703.10717),
        section 3.3 for `k`, section 3.4 for the measure of convergence. Draws are standard normal instead of uniform,
        as the linear start asks for.
    """

    def __init__(
        self, encoding_shape: Shape, latent_dim: int = 32, gamma: float = 0.5, width: int = 64, **options: Any
    ) -> None:
        super().__init__(encoding_shape, latent_dim, width, **options)
        self.gamma = non_negative("gamma", gamma)
        if self.gamma > 1:
            raise ValueError(f"`gamma` must be between 0 and 1. Received: gamma={gamma!r}")
        self.level = self._build_level()
        self.encoder, self.decoder = self.level.encoder, self.level.decoder
        self.k = self.add_weight(shape=(), initializer="zeros", trainable=False, name="k")
        names = ("real", "made", "convergence", "k")
        self.trackers = [keras.metrics.Mean(name=name) for name in names]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gamma": self.gamma}

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(LEARNING_RATE, beta_1=0.5)

    def _build_level(self) -> Level:
        if len(self.encoding_shape) == 3:
            level = ConvLevel(n_scalings=0, size=self.width, latent_dim=self.latent_dim)
        else:
            level = DenseLevel([4 * self.width, self.latent_dim], ["relu", "linear"])
        level.build(self.encoding_shape)
        return level

    def start(self, values: np.ndarray, labels: np.ndarray | None) -> None:
        super().start(values, labels)
        self.level.start(streamed(values))

    # === Training ===

    def errors(self, values: tf.Tensor, training: bool) -> tf.Tensor:
        """`(N,)`: mean absolute error of what the discriminator makes of each."""
        restored = self.decoder(self.encoder(values, training=training), training=training)
        difference = ops.absolute(self.seen(values) - self.seen(restored))
        return ops.mean(difference, axis=tuple(range(1, len(difference.shape))))

    def train_step(self, data: Any) -> dict[str, Any]:
        values = self.values_of(data)
        judging = self.encoder.trainable_variables + self.decoder.trainable_variables
        making = self.network.trainable_variables
        with tf.GradientTape(persistent=True) as tape:
            real = ops.mean(self.errors(values, True))
            made = ops.mean(self.errors(self.network(self.draws(values), training=True), True))
            loss = real - self.k * made
        gradients = tape.gradient(loss, judging) + tape.gradient(made, making)
        del tape
        self.apply(gradients, judging + making)
        self.step.assign_add(1.0)
        self.average(self.step)
        self.k.assign(ops.clip(self.k + SPEED * (self.gamma * real - made), 0.0, 1.0))
        return self._report(real, made, ops.shape(values)[0])

    def test_step(self, data: Any) -> dict[str, Any]:
        values = self.values_of(data)
        real, made = (ops.mean(self.errors(each, False)) for each in (values, self.restorer(self.draws(values))))
        return self._report(real, made, ops.shape(values)[0])

    def _report(self, real: tf.Tensor, made: tf.Tensor, count: tf.Tensor) -> dict[str, Any]:
        convergence = real + ops.absolute(self.gamma * real - made)
        return self.report(real, made, convergence, self.k, count=count)
