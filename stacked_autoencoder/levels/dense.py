"""The dense level: the symmetric net of the textbooks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.distribution import BatchFunction
from stacked_autoencoder.layers.penalties import KLSparsity
from stacked_autoencoder.levels.activations import (
    INVERSES,
    SATURATING,
    SLOPES,
    WITHIN_UNIT_INTERVAL,
    activation_name,
    apply,
)
from stacked_autoencoder.levels.base import EXACT, LOG_VARIANCE, Level
from stacked_autoencoder.pca import LinearCode, fit_linear_code, least_squares, variational_gains
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.checks import SMALLEST, positive_ints
from stacked_autoencoder.utils.images import Shape

SAMPLE_IMAGES = 8192  # that the start is fitted on, beyond the first layer
SAMPLE_VALUES = 1 << 25  # of these at most
# How far, in standard deviations of a unit's input, the start lies from the bend of `relu` and its like. At 2 the start
# is within 5 % of PCA, at 1 nearer to where training goes: tied 100-30 on Fashion-MNIST after 6 epochs 0.0115 instead
# of 0.0118.
SHIFT = 1.0


class DenseLevel(Level):
    """Dense layers down to a vector, and the same number of units back up.

    ```
    image ─▶ flatten ─▶ Dense units[0] ─▶ … ─▶ Dense units[-1] = encoding ─▶ … ─▶ Dense units[0] ─▶ Dense ─▶ image
    ```

    Several units make one deep level, `DenseLevel([100, 30])`; several levels a greedy stack,
    `levels=[DenseLevel(100), DenseLevel(30)]`. The level starts near the best linear code of its size: each layer sees
    the principal components of what is below it, mostly where its activation is about linear, and the decoder's layers
    are fitted by least squares.

    Args:
        units: of the encoder's layers, from the image on; one number for a single layer.
        activation: name of a Keras activation, for all layers but the decoder's last; or one name for each of `units`.
            `None` is linear. With `kl_weight` the encoding itself is always linear.
        output_activation: of the decoder's last layer; `"sigmoid"` for images in [0, 1] with
            `loss="binary_crossentropy"`.
        loss: the name of a Keras loss, a `keras.losses.Loss`, or a function such as `metrics.ssim_loss`.
        tied: whether the decoder uses the encoder's kernels, transposed, with biases of its own. What is saved has
            copies.
        penalty: Keras regularizer on the encodings, taken per image; or `KLSparsity`, for encodings in [0, 1].
        corruption: Keras layer that acts on the inputs in training, such as `Mask(0.3)`; the loss is against clean
            ones. Validation data is corrupted, too: what is learnt is to repair. `evaluate` measures without.
        kl_weight: makes the encoding a distribution in training (a variational autoencoder), and weighs its divergence
            from the standard normal: per image, divided by the number of values that the level sees. The saved encoder
            gives the mean.

    Input shape:
        `(N, …)`, float32, of one known size.

    Output shape:
        `(N, units[-1])`.

    Raises:
        ValueError: an argument isn't what it should be, or the images' size is open.

    Example:
        >>> sae = Autoencoder(shape=(28, 28, 1), levels=[DenseLevel([100, 30], tied=True)])

    Reference:
        Hinton and Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks". For the start of a
        variational level: Lucas et al. 2019, "Don't blame the ELBO!", section 4.
    """

    kind = "dense"
    factor = 1

    def __init__(
        self,
        units: int | Sequence[int],
        activation: str | Sequence[str | None] | None = "relu",
        output_activation: str | None = None,
        loss: Any = "mse",
        tied: bool = False,
        penalty: Any = None,
        corruption: Any = None,
        kl_weight: float = 0.0,
    ) -> None:
        self.units = positive_ints("units", units)
        each = list(activation) if isinstance(activation, (list, tuple)) else [activation] * len(self.units)
        if len(each) != len(self.units):
            raise ValueError(
                f"`activation` must be one name, or one for each of {len(self.units)} layers. "
                f"Received: activation={activation!r}"
            )
        self.activations = [activation_name("activation", name) for name in each]
        if kl_weight:
            self.activations[-1] = "linear"
        self.output_activation = activation_name("output_activation", output_activation)
        self.tied = bool(tied)
        super().__init__(loss=loss, penalty=penalty, corruption=corruption, kl_weight=kl_weight)

    @property
    def is_within_unit_interval(self) -> bool:
        return self.activations[-1] in WITHIN_UNIT_INTERVAL

    def get_config(self) -> dict[str, Any]:
        return {
            "units": self.units,
            "activation": self.activations,
            "output_activation": self.output_activation,
            "tied": self.tied,
            **self.objective.get_config(),
        }

    def tied_layers(self) -> dict[str, layers.Layer]:
        return {layer.name: layer for layer in self._down()} if self.tied else {}

    def build(self, input_shape: Shape, index: int = 0) -> None:
        if None in input_shape:
            raise ValueError(
                "A DenseLevel needs inputs of one known size: give the Autoencoder `shape=(height, width, channels)`. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.input_shape, self.index = tuple(input_shape), index
        self._build_encoder(f"encoder{index}")
        self._build_decoder(f"decoder{index}")

    def _build_encoder(self, name: str) -> None:
        inputs = layers.Input(self.input_shape)
        hidden = inputs if len(self.input_shape) == 1 else layers.Flatten(dtype=EXACT)(inputs)
        for depth, (units, activation) in enumerate(zip(self.units, self.activations, strict=True)):
            dtype = EXACT if depth == len(self.units) - 1 else None
            below, hidden = hidden, layers.Dense(units, activation, dtype=dtype, name=f"dense{depth}")(hidden)
        self.encoder = keras.Model(inputs, hidden, name=name)
        if self.objective.kl_weight > 0:
            log_variance = layers.Dense(self.units[-1], kernel_initializer="zeros", dtype=EXACT, name=LOG_VARIANCE)
            self.posterior = keras.Model(inputs, [hidden, log_variance(below)])

    def _build_decoder(self, name: str) -> None:
        inputs = hidden = layers.Input((self.units[-1],))
        for depth in reversed(range(1, len(self.units))):
            hidden = layers.Dense(self.units[depth - 1], self.activations[depth - 1], name=f"dense{depth}")(hidden)
        hidden = layers.Dense(math.prod(self.input_shape), self.output_activation, dtype=EXACT, name="dense0")(hidden)
        outputs = hidden if len(self.input_shape) == 1 else layers.Reshape(self.input_shape, dtype=EXACT)(hidden)
        self.decoder = keras.Model(inputs, outputs, name=name)

    def _down(self) -> list[layers.Dense]:
        return [self.encoder.get_layer(f"dense{depth}") for depth in range(len(self.units))]

    # === Start ===

    def adapt(self, stream: BatchFunction) -> LinearCode:
        first = fit_linear_code(stream, None, max(self.units[0], self.units[-1]))
        images = self._sample(stream)
        seen = images if self.objective.corruption is None else self._corrupted(images)
        inner = self._start_encoder(first.leading(self.units[0]), seen)
        self._start_decoder(images, inner)
        self.started = True
        return first.leading(self.units[-1])

    def _sample(self, stream: BatchFunction) -> np.ndarray:
        """`(N, values)`: as many flattened inputs as are needed, or as memory allows."""
        taken, count = [], 0
        for batch in stream():
            taken.append(batch.reshape(len(batch), -1))
            count += len(batch)
            if count >= min(SAMPLE_IMAGES, SAMPLE_VALUES // taken[0].shape[1]):
                break
        return np.concatenate(taken).astype(np.float64)

    def _corrupted(self, images: np.ndarray) -> np.ndarray:
        shaped = images.astype(np.float32).reshape(-1, *self.input_shape)
        return np.asarray(self.objective.corruption(shaped, training=True), np.float64).reshape(images.shape)

    def _start_encoder(self, code: LinearCode, values: np.ndarray) -> list[np.ndarray]:
        """Sets the encoder's layers; returns what each gives for the sample before its activation."""
        power, rng, inner = max(values.var(axis=0).sum(), SMALLEST), np.random.default_rng(0), []
        for depth, (layer, activation) in enumerate(zip(self._down(), self.activations, strict=True)):
            if depth > 0:
                code = fit_linear_code(lambda values=values: [values], None, self.units[depth])
            kernel = self._kernel(depth, code, values.var(axis=0).sum() / power, rng)
            coded = (values - code.mean) @ kernel
            is_sparse = depth == len(self.units) - 1 and isinstance(self.objective.penalty, KLSparsity)
            bends = activation != "linear" and activation not in SATURATING
            shift = SHIFT * coded.std(axis=0) if bends else np.zeros(len(kernel[0]))
            if is_sparse and activation == "sigmoid":  # about as active as wanted
                shift += np.log(self.objective.penalty.target / (1 - self.objective.penalty.target))
            layer.set_weights([kernel, shift - code.mean @ kernel])
            inner.append(coded + shift)
            values = apply(activation, inner[-1])
        return inner

    def _kernel(self, depth: int, code: LinearCode, growth: float, rng: np.random.Generator) -> np.ndarray:
        """The components of a layer's inputs, each as strong as its activation and its purpose want it.

        Args:
            growth: of the inputs' power since the image.
            rng: turns the components, so that no unit bends more often than another, and no two are alike.
        """
        units, activation, is_last = self.units[depth], self.activations[depth], depth == len(self.units) - 1
        kept = min(units, len(code.mean))
        components, variances = code.components[:, :kept], code.variances[:kept]
        rms = np.sqrt(max(float(variances.sum()) / units, SMALLEST))
        if is_last and self.objective.kl_weight > 0:
            noise = self.objective.kl_weight / 2 * growth
            down, _, log_variance = variational_gains(variances, noise)
            self._log_variance().bias.assign(np.pad(log_variance, (0, units - kept)))
        elif self.tied:
            down = 1 / np.sqrt(SLOPES.get(activation, 1.0))
        else:
            down = 1 / rms if is_last or activation in SATURATING else 1.0
        components = components * down
        if activation == "linear" and (units == kept or self.objective.kl_weight > 0):
            return np.pad(components, ((0, 0), (0, units - kept)))
        return components @ np.linalg.qr(rng.standard_normal((units, kept)))[0].T

    def _start_decoder(self, images: np.ndarray, inner: list[np.ndarray]) -> None:
        """Sets the decoder's layers, from the encoding on, to restore what the encoder's layers were given."""
        values = apply(self.activations[-1], inner[-1])
        if self.objective.kl_weight > 0:
            deviation = np.exp(np.asarray(self._log_variance().bias) / 2)
            values = values + deviation * np.random.default_rng(1).standard_normal(values.shape)
        gain, offset = INVERSES.get(self.output_activation, (1.0, 0.0))
        for depth in reversed(range(len(self.units))):
            wanted = inner[depth - 1] if depth > 0 else gain * images + offset
            kernel = np.asarray(self._down()[depth].kernel, np.float64).T
            if not self.tied:
                strengths = np.square(kernel).sum(axis=1, keepdims=True)
                slope = SLOPES.get(self.activations[depth], 1.0)
                guess = kernel / np.maximum(strengths * slope, SMALLEST) * (gain if depth == 0 else 1.0)
                kernel = guess + least_squares(values, wanted - values @ guess)
            bias = (wanted - values @ kernel).mean(axis=0)
            self.decoder.get_layer(f"dense{depth}").set_weights([kernel, bias])
            if depth > 0:
                values = apply(self.activations[depth - 1], values @ kernel + bias)

    def _log_variance(self) -> layers.Dense:
        return self.posterior.get_layer(LOG_VARIANCE)
