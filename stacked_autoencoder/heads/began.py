"""A boundary equilibrium generative adversarial network (BEGAN) of encodings."""

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
SPEED = 0.01  # learning rate of `k`: ten times the paper's, because the paper trains ten times as long
PROBES = 1024  # number of draws used to measure the initial codes of draws


@keras.saving.register_keras_serializable("stacked_autoencoder")
class BEGAN(Adversarial):
    """Boundary equilibrium GAN: generates encodings that an autoencoder reconstructs as well as real ones.

    ```
    encodings ──────────▶ encoder ─▶ decoder ─▶ error of real encodings
    draws ─▶ generator ─▶ encoder ─▶ decoder ─▶ error of generated encodings
    ```

    The discriminator, an encoder and a decoder, is a level with closed-form initialisation. It is trained to reduce the
    error of real encodings and to increase the error of generated ones, weighted by `k`. The generator is trained to
    reduce the error of generated encodings. The equilibrium term `k` keeps this error at `gamma` times the error of
    real encodings, so that neither network dominates.

    This objective does not reward variety. The argument `constraint` preserves it: it keeps the discriminator's code
    of each generated encoding close to the code at initialisation, when the generator is a Gaussian model of the
    encodings. Samples are sharp after a few thousand steps with small batches. Rare kinds of encodings may be missing.

    Args:
        encoding_shape: shape of one encoding without the batch axis, `sae.encoding_shape`. All sides must be known.
        latent_dim: number of standard normal values from which one encoding is generated, and size of the
            discriminator's code.
        gamma: between 0 and 1. Lower values give sharper but less varied samples.
        constraint: weight of the mean squared distance between the codes of generated encodings and their initial
            codes, relative to the variance of the initial codes. 0 is the objective of the paper. With large values,
            samples stay as blurred as those of the Gaussian model.
        width: filters of the networks, and a quarter of the units of dense layers.

    Attributes:
        k: the equilibrium term, between 0 and 1, a weight that is not trained by gradients.

    Input shape:
        `(N, *encoding_shape)`, float32.

    Raises:
        ValueError: an argument is out of its range, or encodings have another shape.

    Example:
        >>> began = heads.BEGAN(sae.encoding_shape)
        >>> history = began.fit(sae.encode(images), epochs=50)     # "convergence" decreases as samples improve
        >>> images = sae.decode(began.generate(64, seed=0))

    Reference:
        Berthelot et al. 2017, "BEGAN: boundary equilibrium generative adversarial networks" (arXiv:1703.10717), section
        3.3 for `k`, section 3.4 for the measure of convergence. Here draws are standard normal instead of uniform.
        Chang et al. 2018, "Escaping from collapsing modes in a constrained space" (arXiv:1808.07258), section 3.3, for
        the constraint, which there applies to the discriminator only.
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
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "gamma": self.gamma, "constraint": self.constraint}

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int = 32,
        decoder: keras.Model | None = None,
        **options: Any,
    ) -> keras.callbacks.History:
        """Trains the head. The default batch size is small: many steps matter more than low noise in each step.

        Args:
            x: encodings: array `(N, *encoding_shape)`, `tf.data.Dataset` of batches, `PyDataset`, or `EncodingStore`.
            y: not used; must be `None`.
            batch_size: encodings per training step. Ignored for datasets.
            decoder: `sae.decoder`, to measure errors in decoded images instead of encodings, in this call only. It is
                not trained. Each step then takes longer, by the time of decoding.
            options: further arguments of `Head.fit`, such as `epochs`, `validation_data`, `callbacks` or `origin`.

        Returns:
            `keras.callbacks.History` with the metrics `real` and `made` (errors of real and generated encodings),
            `convergence`, `k` and `constraint`.

        Raises:
            ValueError: as in `Head.fit`, or the decoder is for encodings of another shape.
        """
        with self.compared.as_images(decoder):
            return super().fit(x, y, batch_size, **options)

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """Returns Adam with a learning rate of 5e-4 and `beta_1=0.5`."""
        return keras.optimizers.Adam(LEARNING_RATE, beta_1=0.5)

    def _build_level(self) -> Level:
        if len(self.encoding_shape) == 3:
            level = ConvLevel(n_scalings=0, size=self.width, latent_dim=self.latent_dim)
        else:
            level = DenseLevel([4 * self.width, self.latent_dim], ["relu", "linear"])
        level.build(self.encoding_shape)
        return level

    def start(self, values: np.ndarray, labels: np.ndarray | None) -> None:
        """Initialises generator and discriminator in closed form, and measures the initial codes of draws.

        Args:
            values: `(N, *encoding_shape)`, standardised encodings.
            labels: not used.
        """
        super().start(values, labels)
        self.level.adapt(streamed(values))
        draws = np.random.default_rng(0).standard_normal((PROBES, self.latent_dim), dtype=np.float32)
        codes = np.asarray(self.encoder.predict(self.network.predict(draws, verbose=0), verbose=0))
        solution = np.linalg.lstsq(np.pad(draws, ((0, 0), (0, 1)), constant_values=1), codes, rcond=None)[0]
        self.code_kernel.assign(solution[:-1])
        self.code_bias.assign(solution[-1])

    # === Training ===

    def errors(self, values: tf.Tensor, codes: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the discriminator's mean absolute error for each encoding, `(N,)`.

        Args:
            values: standardised encodings.
            codes: their codes in the discriminator.
            training: whether layers are in training mode.
        """
        restored = self.decoder(codes, training=training)
        difference = ops.absolute(self.compared(values) - self.compared(restored))
        return ops.mean(difference, axis=tuple(range(1, len(difference.shape))))

    def _terms(self, values: tf.Tensor, generator: keras.Model, training: bool) -> tuple[tf.Tensor, ...]:
        """Returns the errors of real and generated encodings, and the distance of codes from their initial values."""
        real = self.errors(values, self.encoder(values, training=training), training)
        draws = self.draws(values)
        generated = generator(draws, training=training)
        codes = self.encoder(generated, training=training)
        drift = ops.square(codes - (ops.matmul(draws, self.code_kernel) + self.code_bias))
        variance = ops.mean(ops.sum(ops.square(self.code_kernel), axis=0))
        return (
            ops.mean(real),
            ops.mean(self.errors(generated, codes, training)),
            ops.mean(drift) / (variance + SMALLEST),
        )

    @without_all_reduce
    def train_step(self, data: Any) -> dict[str, Any]:
        """Runs one training step of both networks, updates `k`, and returns the metrics."""
        values = self.values_of(data)
        discriminator_weights = self.encoder.trainable_variables + self.decoder.trainable_variables
        generator_weights = self.network.trainable_variables
        with tf.GradientTape(persistent=True) as tape:
            real, generated, drift = self._terms(values, self.network, True)
            discriminator_loss = self.optimizer.scale_loss(real - self.k * generated + self.constraint * drift)
            generator_loss = self.optimizer.scale_loss(generated + self.constraint * drift)
        gradients = tape.gradient(discriminator_loss, discriminator_weights) + tape.gradient(
            generator_loss, generator_weights
        )
        del tape
        self.optimizer.apply(gradients, discriminator_weights + generator_weights)
        self.step.assign_add(1.0)
        self.average(self.step)
        self.k.assign(ops.clip(self.k + SPEED * (self.gamma * real - generated), 0.0, 1.0))
        return self._report(real, generated, drift, ops.shape(values)[0])

    def test_step(self, data: Any) -> dict[str, Any]:
        """Returns the metrics of a batch of validation data, with averaged weights of the generator."""
        values = self.values_of(data)
        return self._report(*self._terms(values, self.restorer, False), ops.shape(values)[0])

    def _report(self, real: tf.Tensor, generated: tf.Tensor, drift: tf.Tensor, count: tf.Tensor) -> dict[str, Any]:
        convergence = real + ops.absolute(self.gamma * real - generated)
        return self.report(real, generated, convergence, self.k, drift, count=count)
