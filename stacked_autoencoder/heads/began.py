"""A boundary equilibrium generative adversarial network of encodings."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.distribution import without_all_reduce
from stacked_autoencoder.heads.adversarial import Adversarial
from stacked_autoencoder.heads.base import ComparedValues
from stacked_autoencoder.heads.networks import streamed
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.conv import ConvLevel
from stacked_autoencoder.levels.dense import DenseLevel
from stacked_autoencoder.utils.checks import SMALLEST, non_negative
from stacked_autoencoder.utils.images import Shape

LEARNING_RATE = 5e-4
SPEED = 0.01  # of the equilibrium term: ten times the paper's, whose training is as many times longer
PROBES = 1024  # draws that tell which codes they start with


@keras.saving.register_keras_serializable("stacked_autoencoder")
class BEGAN(Adversarial):
    """Draws encodings that an autoencoder restores as well as real ones.

    ```
    encodings ────────────▶ level.encoder ─▶ level.decoder ─▶ error of real ones, made smaller
    draws ─▶ generator ───▶ level.encoder ─▶ level.decoder ─▶ error of made ones, made larger, k times
                 └─ trained to make that smaller
    ```

    The discriminator *is* an autoencoder level on encodings, with its closed-form start. The term `k` keeps the error
    of made encodings at `gamma` times that of real ones, so that neither network wins.

    Nothing in this rewards that samples differ. What keeps them apart is where they start: a draw's code, in the
    discriminator, is held near to the one that it has at the start, where draws are those of a Gaussian model. Samples
    are sharp after a few thousand steps of small batches; kinds that few encodings belong to may be left out.

    Args:
        encoding_shape: of one encoding, `sae.encoding_shape`.
        latent_dim: values that an encoding is made of, and values of the discriminator's code.
        gamma: between 0 and 1: the lower, the fewer kinds of samples.
        constraint: weight of the mean squared distance of draws' codes from those of the start, in variances of these;
            0 is the paper's own, much more keeps samples as blurred as those of the start.
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
        as the linear start asks for. Chang et al. 2018, "Escaping from collapsing modes in a constrained space"
        (arXiv:1808.07258), section 3.3, for the constraint, which there holds the discriminator alone.
    """

    def __init__(
        self,
        encoding_shape: Shape,
        latent_dim: int = 32,
        gamma: float = 1.0,
        constraint: float = 0.05,
        width: int = 64,
        **options: Any,
    ) -> None:
        super().__init__(encoding_shape, latent_dim, width, **options)
        self.gamma = non_negative("gamma", gamma)
        if self.gamma > 1:
            raise ValueError(f"`gamma` must be between 0 and 1. Received: gamma={gamma!r}")
        self.constraint = non_negative("constraint", constraint)
        self.compared = ComparedValues(self)
        self.level = self._build_level()
        self.encoder, self.decoder = self.level.encoder, self.level.decoder
        self.k = self.add_weight(shape=(), initializer="zeros", trainable=False, name="k")
        square = (self.latent_dim, self.latent_dim)
        self.code_kernel = self.add_weight(shape=square, initializer="zeros", trainable=False, name="code_kernel")
        self.code_bias = self.add_weight(shape=square[:1], initializer="zeros", trainable=False, name="code_bias")
        names = ("real", "made", "convergence", "k", "constraint")
        self.trackers = [keras.metrics.Mean(name=name) for name in names]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gamma": self.gamma, "constraint": self.constraint}

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int = 32,
        decoder: keras.Model | None = None,
        **options: Any,
    ) -> keras.callbacks.History:
        """As `VAE.fit`; small batches, since the number of steps matters more than the noise of each."""
        with self.compared.as_images(decoder):
            return super().fit(x, y, batch_size, **options)

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
        self.level.adapt(streamed(values))
        draws = np.random.default_rng(0).standard_normal((PROBES, self.latent_dim), dtype=np.float32)
        codes = np.asarray(self.encoder.predict(self.network.predict(draws, verbose=0), verbose=0))
        fitted = np.linalg.lstsq(np.pad(draws, ((0, 0), (0, 1)), constant_values=1), codes, rcond=None)[0]
        self.code_kernel.assign(fitted[:-1])
        self.code_bias.assign(fitted[-1])

    # === Training ===

    def errors(self, values: tf.Tensor, codes: tf.Tensor, training: bool) -> tf.Tensor:
        """`(N,)`: mean absolute error of what the discriminator makes of each, by its codes of them."""
        restored = self.decoder(codes, training=training)
        difference = ops.absolute(self.compared(values) - self.compared(restored))
        return ops.mean(difference, axis=tuple(range(1, len(difference.shape))))

    def _terms(self, values: tf.Tensor, generator: keras.Model, training: bool) -> tuple[tf.Tensor, ...]:
        """Errors of real and of made encodings, and how far codes are from those that draws have at the start."""
        real = self.errors(values, self.encoder(values, training=training), training)
        draws = self.draws(values)
        made = generator(draws, training=training)
        codes = self.encoder(made, training=training)
        off = ops.square(codes - (ops.matmul(draws, self.code_kernel) + self.code_bias))
        variance = ops.mean(ops.sum(ops.square(self.code_kernel), axis=0))
        return ops.mean(real), ops.mean(self.errors(made, codes, training)), ops.mean(off) / (variance + SMALLEST)

    @without_all_reduce
    def train_step(self, data: Any) -> dict[str, Any]:
        values = self.values_of(data)
        judging = self.encoder.trainable_variables + self.decoder.trainable_variables
        making = self.network.trainable_variables
        with tf.GradientTape(persistent=True) as tape:
            real, made, off = self._terms(values, self.network, True)
            judged = self.optimizer.scale_loss(real - self.k * made + self.constraint * off)
            generated = self.optimizer.scale_loss(made + self.constraint * off)
        gradients = tape.gradient(judged, judging) + tape.gradient(generated, making)
        del tape
        self.optimizer.apply(gradients, judging + making)
        self.step.assign_add(1.0)
        self.average(self.step)
        self.k.assign(ops.clip(self.k + SPEED * (self.gamma * real - made), 0.0, 1.0))
        return self._report(real, made, off, ops.shape(values)[0])

    def test_step(self, data: Any) -> dict[str, Any]:
        values = self.values_of(data)
        return self._report(*self._terms(values, self.restorer, False), ops.shape(values)[0])

    def _report(self, real: tf.Tensor, made: tf.Tensor, off: tf.Tensor, count: tf.Tensor) -> dict[str, Any]:
        convergence = real + ops.absolute(self.gamma * real - made)
        return self.report(real, made, convergence, self.k, off, count=count)
