"""A variational autoencoder of encodings."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops, random

from stacked_autoencoder.heads.base import ComparedValues, LatentHead
from stacked_autoencoder.heads.networks import linear_code, restorer, silu, start_restorer
from stacked_autoencoder.layers.noise import sample_normal
from stacked_autoencoder.layers.penalties import divergence
from stacked_autoencoder.levels.base import EXACT, LOG_VARIANCE
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.checks import non_negative, positive_int
from stacked_autoencoder.utils.images import Shape

SMALLEST = 1e-6  # avoids the logarithm of zero


@keras.saving.register_keras_serializable("stacked_autoencoder")
class VAE(LatentHead):
    """Variational autoencoder of encodings: generates encodings by decoding draws from a standard normal distribution.

    ```
    standardised encoding ─┬─▶ linear ──────────(+)─▶ mean, variance ─▶ draw
                           └─▶ network (zeros) ──┘
    draw ─┬─▶ linear ──────────(+)─▶ reconstruction
          └─▶ network (zeros) ──┘
    ```

    The linear paths are initialised as probabilistic PCA, the optimal linear model of this kind, in closed form. The
    last layers of the networks are initialised with zeros. This avoids posterior collapse, in which a randomly
    initialised VAE may ignore its latent values for a long time.

    The variance of the decoder's noise is set to its mean squared error, which balances the two terms of the loss
    without a weight to tune. The loss per value is the logarithm of the root mean squared error of the batch, plus
    `beta` times the Kullback-Leibler divergence.

    Args:
        encoding_shape: shape of one encoding without the batch axis, `sae.encoding_shape`. All sides must be known.
        latent_dim: number of latent values from which one encoding is generated.
        beta: weight of the divergence from the standard normal distribution. 1 gives the evidence lower bound.
        width: size of the networks. Convolutions have `width / 2` filters, and dense layers mainly `2 * width` units.

    Input shape:
        `(N, *encoding_shape)`, float32.

    Output shape:
        `(N, *encoding_shape)`, float32: the reconstructions.

    Raises:
        ValueError: an argument is out of its range, or encodings have another shape.

    Example:
        >>> vae = heads.VAE(sae.encoding_shape)
        >>> vae.fit(sae.encode(images), epochs=20)
        >>> images = sae.decode(vae.generate(64, seed=0))
        >>> keras.Sequential([vae.generator, sae.decoder]).save("clothes.keras")     # loads without this package

    Reference:
        Kingma and Welling 2014, "Auto-encoding variational Bayes" (arXiv:1312.6114), equation 10. Rybkin et al. 2021,
        "Simple and effective VAE training with calibrated decoders" (arXiv:2006.13202), for the noise. Higgins et al.
        2017, "beta-VAE", for `beta`. For the initialisation: Tipping and Bishop 1999, "Probabilistic principal
        component analysis", section 3.2; Lucas et al. 2019, "Don't blame the ELBO!" (arXiv:1911.02469), section 4.
    """

    def __init__(
        self, encoding_shape: Shape, latent_dim: int = 32, beta: float = 1.0, width: int = 128, **options: Any
    ) -> None:
        super().__init__(encoding_shape, latent_dim, **options)
        self.beta = non_negative("beta", beta)
        self.width = positive_int("width", width)
        self.posterior = self._build_posterior()
        self.restorer = restorer(self.encoding_shape, self.latent_dim, self.width // 2)
        self.seed_generator = random.SeedGenerator()
        self.compared = ComparedValues(self)
        self.trackers = [keras.metrics.Mean(name=name) for name in ("reconstruction", "kl")]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "beta": self.beta, "width": self.width}

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """Returns Adam with a learning rate of 1e-3."""
        return keras.optimizers.Adam(1e-3)

    # === Networks, on standardised encodings ===

    def _build_posterior(self) -> keras.Model:
        inputs = hidden = flat = layers.Input(self.encoding_shape)
        if len(self.encoding_shape) == 3:
            for _ in range(2):
                hidden = layers.Conv2D(self.width // 2, 3, padding="same", activation=silu)(hidden)
        if len(self.encoding_shape) > 1:
            hidden, flat = layers.Flatten()(hidden), layers.Flatten(dtype=EXACT)(inputs)
        hidden = layers.Dense(2 * self.width, activation=silu)(hidden)
        zeros = {"kernel_initializer": "zeros", "dtype": EXACT}
        residual = layers.Dense(self.latent_dim, name="residual", **zeros)(hidden)
        linear = layers.Dense(self.latent_dim, dtype=EXACT, name="linear")(flat)
        mean = layers.Add(dtype=EXACT)([linear, residual])
        log_variance = layers.Dense(self.latent_dim, name=LOG_VARIANCE, **zeros)(hidden)
        return keras.Model(inputs, [mean, log_variance], name="posterior")

    def start(self, values: np.ndarray, labels: np.ndarray | None) -> None:
        """Initialises the linear paths as probabilistic PCA.

        Args:
            values: `(N, *encoding_shape)`, standardised encodings.
            labels: not used.
        """
        code = linear_code(values, self.latent_dim)
        down, log_variance = start_restorer(self.restorer, code)
        kernel = code.components * down
        self.posterior.get_layer("linear").set_weights([kernel, -code.mean @ kernel])
        self.posterior.get_layer(LOG_VARIANCE).bias.assign(log_variance)

    # === Training ===

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int = 128,
        decoder: keras.Model | None = None,
        **options: Any,
    ) -> keras.callbacks.History:
        """Trains the head, as `Head.fit` does. With `decoder`, the loss compares decoded images.

        Args:
            x: encodings: array `(N, *encoding_shape)`, `tf.data.Dataset` of batches, `PyDataset`, or `EncodingStore`.
            y: not used; must be `None`.
            batch_size: encodings per training step. Ignored for datasets.
            decoder: `sae.decoder`, to measure errors in decoded images instead of encodings, in this call only. It is
                not trained. Use it if the decoder does not preserve distances. Each step then takes longer, by the time
                of decoding.
            options: further arguments of `Head.fit`, such as `epochs`, `validation_data`, `callbacks` or `origin`.

        Returns:
            `keras.callbacks.History` with the metrics `reconstruction` (mean squared error) and `kl`.

        Raises:
            ValueError: as in `Head.fit`, or the decoder is for encodings of another shape.
        """
        with self.compared.as_images(decoder):
            return super().fit(x, y, batch_size, **options)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Reconstructs encodings `(N, *encoding_shape)` from the means of their latent values."""
        mean, _ = self.posterior(self.standardised(inputs))
        return self.in_units(self.restorer(mean))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor:
        """Returns the loss, computed from random draws in training and validation.

        The output of `call` is not used, so TensorFlow removes it from the training step.
        """
        values = self.standardised(x)
        mean, log_variance = self.posterior(values)
        restored = self.restorer(sample_normal(mean, log_variance, self.seed_generator))
        error = ops.mean(ops.square(self.compared(values) - self.compared(restored)))
        kl = divergence(mean, log_variance)
        self.track(error, kl, count=ops.shape(x)[0])
        return ops.log(error + SMALLEST) / 2 + self.beta * kl / math.prod(self.encoding_shape)

    # === Use ===

    def encode(self, encodings: np.ndarray) -> np.ndarray:
        """Returns the means of the latent values of encodings.

        Args:
            encodings: `(N, *encoding_shape)`, float32.

        Returns:
            `(N, latent_dim)`, float32.

        Raises:
            ValueError: encodings have another shape.
        """
        encodings = np.asarray(encodings, np.float32)
        self.check_shape(encodings.shape[1:])
        return self.posterior.predict(np.asarray(self.standardised(encodings)), verbose=0)[0]

    def interpolate(self, first: np.ndarray, last: np.ndarray, n: int = 8) -> np.ndarray:
        """Interpolates between two encodings, in equal steps between their latent values.

        Args:
            first: `(*encoding_shape)`, one encoding.
            last: `(*encoding_shape)`, another encoding.
            n: number of results, at least 2.

        Returns:
            `(n, *encoding_shape)`, float32, from the reconstruction of `first` to the reconstruction of `last`.

        Raises:
            ValueError: encodings have another shape, or `n` is below 2.
        """
        start, end = self.encode(np.stack([first, last]))
        shares = np.linspace(0, 1, positive_int("n", n, least=2), dtype=np.float32)[:, None]
        return self.restored(start + shares * (end - start))
