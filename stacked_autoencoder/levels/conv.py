"""The convolutional level: a linear code plus what a small residual network adds to it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from stacked_autoencoder.distribution import BatchFunction
from stacked_autoencoder.levels.activations import INVERSES, activation_name
from stacked_autoencoder.levels.base import EXACT, LOG_VARIANCE, Level
from stacked_autoencoder.levels.presets import preset_named
from stacked_autoencoder.pca import WHITENING_FLOOR, LinearCode, LinearFit, variational_gains
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.images import Shape

# Of the residual path: one of 16 loses what a halving keeps (0.95 of PCA's loss against 0.91 at 4x4x32).
LARGEST_PATCH = 8
# Root mean square of what the decoder's first convolution gives at the start. A decoder that starts with strong random
# features keeps them: after 375 steps at 16x16x32 with 0.8 it stands at 0.95 of PCA's loss, with 0.08 at 0.90.
WIDEN_RMS = 0.1
# The same for a vector, whose features are those of its linear restoration: after three epochs on Fashion-MNIST's
# encodings 0.0601 with 0.1, 0.0597 with 0.5, 0.0602 with 1; with random ones 0.0621.
WIDEN_RMS_OF_VECTORS = 0.5


class ConvLevel(Level):
    """Shrinks height and width by `2**n_scalings` and gives `n_out` features per pixel, or a vector at the end.

    ```
    image ─┬─ linear: one convolution, kernel = stride = factor ────────────────────────────────(+)─▶ encoding
           └─ patchify ─▶ blocks (─▶ halve ─▶ blocks …) ─▶ tanh ─▶ 1x1, starts at zero ──────────┘
    encoding ─┬─ linear: one transposed convolution, kernel = stride = factor ──────────────────(+)─▶ image
              └─ 3x3 ─▶ blocks (─▶ double ─▶ blocks …) ─▶ tanh ─▶ patch by patch, starts at zero ┘
    ```

    The linear paths start as principal components, so before training the level is exactly PCA of the same size, and
    after it at least as good on the validation data. They are orthonormal up to one scalar, so that distances between
    encodings are distances between images. The residual paths never see full resolution, look a known number of pixels
    around them and have no normalisation, so large images can be encoded in tiles. They end in a tanh, so what they
    add is bounded even on pictures unlike all that trained them.

    Args:
        n_out: features per pixel of the encoding.
        n_scalings: halvings of height and width; the factor is `2**n_scalings`.
        size: width of the network, in filters per convolution. With a factor of 16 or more the residual path has
            several resolutions, an eighth of the image's first, and is twice as wide after each halving.
        depth: residual blocks per resolution in the encoder, and as many in the decoder. By default 3 at a factor of 8,
            where a block is cheap and there is one resolution; else 1.
        activation: name of a Keras activation, used before each convolution of a block. `silu` learns within a
            hundredth of `gelu` per step, and costs a third of it on a CPU; `relu` and `elu` learn less per step.
        latent_dim: ends the level in a vector of so many values; needs inputs of one known size.
        output_activation: of the restored image; `"sigmoid"` for images in [0, 1] and `loss="binary_crossentropy"`.
        upsampling: `"nearest"` or `"bilinear"` makes the decoder's residual path grow by doublings, each followed by a
            3x3 convolution, instead of patch by patch. That takes several times as long. `"bilinear"` needs inputs of
            one known size.
        tied: whether the decoder's linear path uses the encoder's kernel, and `double` that of `halve`, with biases of
            their own. The residual paths' ends stay free: they start at zero. What is saved has copies.
        loss, penalty, corruption, kl_weight: as in `DenseLevel`; penalty and divergence are summed over all places.

    Input shape:
        `(N, H, W, C)`, float32, height and width multiples of the factor.

    Output shape:
        `(N, H / factor, W / factor, n_out)`, or `(N, latent_dim)`. Before training, after the start, the mean square
        of an encoding value is 1.

    Raises:
        ValueError: an argument isn't a positive whole number, or a vector end is asked for with an open size.

    Example:
        >>> sae = Autoencoder(shape=(28, 28, 1), levels=[ConvLevel(n_out=8, n_scalings=2), ConvLevel(latent_dim=30)])
    """

    kind = "conv"
    output_layers = (("linear", "residual"), ("linear", "residual"))

    def __init__(
        self,
        n_out: int = 32,
        n_scalings: int = 2,
        size: int = 64,
        depth: int | None = None,
        activation: str = "silu",
        latent_dim: int | None = None,
        *,
        output_activation: str | None = None,
        upsampling: str | None = None,
        tied: bool = False,
        loss: Any = "mse",
        penalty: Any = None,
        corruption: Any = None,
        kl_weight: float = 0.0,
    ) -> None:
        super().__init__(loss=loss, penalty=penalty, corruption=corruption, kl_weight=kl_weight)
        if isinstance(size, (tuple, list)):
            raise ValueError(
                "`size` is the width of the network (filters per convolution), one whole number. "
                f"For the shape of the images use `shape=(height, width, channels)`. Received: size={size!r}"
            )
        self.n_out = positive_int("n_out", n_out)
        self.n_scalings = positive_int("n_scalings", n_scalings, least=0)
        self.size = positive_int("size", size)
        if depth is None:
            depth = 3 if self.factor == LARGEST_PATCH else 1
        self.depth = positive_int("depth", depth, least=0)
        self.activation = activation_name("activation", activation)
        self.output_activation = activation_name("output_activation", output_activation)
        if upsampling not in (None, "nearest", "bilinear"):
            raise ValueError(f'`upsampling` must be None, "nearest" or "bilinear". Received: upsampling={upsampling!r}')
        self.upsampling = upsampling
        self.tied = bool(tied)
        self.latent_dim = None if latent_dim is None else positive_int("latent_dim", latent_dim)

    @classmethod
    def preset(cls, name: str, **arguments: Any) -> ConvLevel:
        """A level whose width and depth go by a name, from the quickest to the one that loses least.

        Args:
            name: `"fast"`, `"balanced"`, which has the defaults, or `"best"`.
            arguments: all others, as in `ConvLevel`; `size` and `depth` given here win.

        Raises:
            ValueError: there is no such name.
        """
        return cls(**preset_named(name) | arguments)

    @property
    def factor(self) -> int:
        return 2**self.n_scalings

    @property
    def patch(self) -> int:
        """By how much the residual path shrinks the image at once, before it goes on in halvings."""
        return min(self.factor, LARGEST_PATCH)

    @property
    def widths(self) -> list[int]:
        """Filters at each resolution of the residual path, the largest resolution first."""
        halvings = (self.factor // self.patch).bit_length() - 1
        return [self.size * 2**stage for stage in range(halvings + 1)]

    def get_config(self) -> dict[str, Any]:
        names = ("n_out", "n_scalings", "size", "depth", "activation", "latent_dim")
        config = {name: getattr(self, name) for name in names} | self.objective.get_config()
        if self.output_activation != "linear":
            config["output_activation"] = self.output_activation
        if self.upsampling is not None:
            config["upsampling"] = self.upsampling
        return config | ({"tied": True} if self.tied else {})

    def tied_layers(self) -> dict[str, layers.Layer]:
        if not self.tied:
            return {}
        pairs = {"linear": "linear"}
        if self.upsampling is None:
            pairs |= {f"double{stage}": f"halve{stage}" for stage in range(1, len(self.widths))}
        return {up: self.encoder.get_layer(down) for up, down in pairs.items()}

    def build(self, input_shape: Shape, index: int = 0) -> None:
        if len(input_shape) != 3:
            raise ValueError(
                "A ConvLevel sees images of shape (height, width, channels), or encodings of such a shape: give the "
                "Autoencoder a `shape` with channels, and after a level that ends in a vector take a DenseLevel. "
                f"Received: input_shape={input_shape}"
            )
        if self.latent_dim is not None and None in input_shape:
            raise ValueError(
                f"`latent_dim={self.latent_dim}` ends in a vector, which needs images of one known size: give the "
                f"Autoencoder `shape=(height, width, channels)`. Received: input_shape={input_shape}"
            )
        if self.upsampling == "bilinear" and None in input_shape:
            raise ValueError(
                '`upsampling="bilinear"` needs images of one known size, since Keras computes it for no other: give '
                'the Autoencoder `shape=(height, width, channels)`, or take `upsampling="nearest"`. '
                f"Received: input_shape={input_shape}"
            )
        self.input_shape, self.index = tuple(input_shape), index
        self.encoder = conv_encoder(self, f"encoder{index}")
        self.decoder = conv_decoder(self, f"decoder{index}")
        if self.objective.kl_weight > 0:
            self.posterior = conv_posterior(self)

    def adapt(self, stream: BatchFunction) -> LinearCode:
        patches, code, best = self._linear_codes(stream)
        gains, back = self._gains(code.variances)
        down, up = code.components * gains, code.components * back
        stretch, shift = INVERSES.get(self.output_activation, (1.0, 0.0))
        linear_in, linear_out = self.encoder.get_layer("linear"), self.decoder.get_layer("linear")
        offset = -code.mean @ down
        if self.latent_dim is None:
            kernel = (self.factor, self.factor, self.input_shape[-1], self.n_out)
            linear_in.set_weights([down.reshape(kernel), offset])
            linear_out.set_weights([stretch * up.reshape(kernel), stretch * code.mean[: self.input_shape[-1]] + shift])
        else:
            linear_in.set_weights([down, offset])
            linear_out.set_weights([stretch * up.T, stretch * code.mean + shift])
        self._see_evenly(patches, code.variances * np.square(gains))
        self.started = True
        return best

    def _gains(self, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the components are multiplied by on the way down and up."""
        ones, power = np.ones_like(variances), float(np.mean(variances))
        if self.objective.kl_weight > 0:
            down, up, log_variance = variational_gains(variances, self.objective.kl_weight / 2)
            self.posterior.get_layer(LOG_VARIANCE).bias.assign(log_variance)
            if self.tied:
                down = up = np.sqrt(down * up)
            return down, up
        scale = 1.0 / np.sqrt(power) if power > 0 and not self.tied else 1.0  # one for the whole level: no whitening
        return scale * ones, ones / scale

    def _linear_codes(self, stream: BatchFunction) -> tuple[LinearCode, LinearCode, LinearCode]:
        """The code of as many components of a patch as `patchify` can take in, the level's own, and the best one."""
        seen = min(self.patch**2 * self.input_shape[-1], self.widths[0])
        patches = LinearFit(stream, self.patch)
        if self.latent_dim is None and self.patch == self.factor:
            code = patches.code(max(seen, self.n_out), channel_mean=True)
            return code.leading(seen), code.leading(self.n_out), patches.code(self.n_out)
        looked_at = patches.code(seen, channel_mean=True)
        if self.latent_dim is None:
            own = LinearFit(stream, self.factor)
            return looked_at, own.code(self.n_out, channel_mean=True), own.code(self.n_out)
        code = LinearFit(stream, None).code(self.latent_dim)
        return looked_at, code, code

    def _see_evenly(self, patches: LinearCode, variances: np.ndarray) -> None:
        """Lets the first convolutions of the residual paths see every principal component about equally strongly.

        Otherwise they see little but the brightness of a patch, whose variance is hundreds of times that of the details
        they are to learn. The decoder's is small at the start, and behind a vector it gives what the encoder's sees in
        the linear restoration. What the level restores is not changed: the residual paths still end in zeros.
        """
        patchify, widen = self.encoder.get_layer("patchify"), self.decoder.get_layer("widen")
        turn = keras.initializers.Orthogonal()((patches.components.shape[1], self.widths[0]))
        kernel = patches.whitening() @ np.asarray(turn)
        patchify.set_weights([kernel.reshape(patchify.kernel.shape), -patches.mean @ kernel])
        if self.latent_dim is None:
            kernel, bias = widen.get_weights()
            kernel, rms = kernel / np.sqrt(variances + WHITENING_FLOOR)[:, None], WIDEN_RMS
        else:
            (kernel, bias), rms = self._features_of_restoration(), WIDEN_RMS_OF_VECTORS
        power = float(np.sum(np.square(kernel) * variances[:, None])) / kernel.shape[-1]
        if power > 0:
            scale = rms / np.sqrt(power)
            widen.set_weights([kernel * scale, bias * scale])

    def _features_of_restoration(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias by which a vector becomes what the encoder's features would be of its linear restoration.

        The decoder's convolutions treat all places alike, and random features mean something else at each. As long as
        the residual path and its blocks end in zeros, restoration and features are linear: unit vectors tell all.
        """
        features = keras.Model(self.encoder.input, self.encoder.get_layer("features").input)
        units = np.eye(self.latent_dim + 1, self.latent_dim, dtype=np.float32)  # the last is the zero vector
        seen = features(self.decoder(units)).numpy().astype(np.float32).reshape(len(units), -1)
        return seen[:-1] - seen[-1], seen[-1]


def conv_encoder(level: ConvLevel, name: str) -> keras.Model:
    """Image → encoding: the linear path and the residual one, added."""
    inputs = layers.Input(level.input_shape)
    hidden = layers.Conv2D(level.widths[0], level.patch, strides=level.patch, name="patchify")(inputs)
    for stage, width in enumerate(level.widths):
        if stage > 0:
            hidden = layers.Conv2D(width, 2, strides=2, name=f"halve{stage}")(hidden)
        hidden = _blocks(level, hidden, width, stage)
    hidden = layers.Activation("tanh", name="features")(hidden)
    if level.latent_dim is None:
        linear = layers.Conv2D(level.n_out, level.factor, strides=level.factor, dtype=EXACT, name="linear")(inputs)
        residual = layers.Conv2D(level.n_out, 1, kernel_initializer="zeros", dtype=EXACT, name="residual")(hidden)
    else:
        linear = layers.Dense(level.latent_dim, dtype=EXACT, name="linear")(layers.Flatten(dtype=EXACT)(inputs))
        residual = layers.Flatten()(hidden)
        residual = layers.Dense(level.latent_dim, kernel_initializer="zeros", dtype=EXACT, name="residual")(residual)
    return keras.Model(inputs, layers.Add(dtype=EXACT, name="encoding")([linear, residual]), name=name)


def conv_posterior(level: ConvLevel) -> keras.Model:
    """Image → the encoding as a distribution's mean, and its log-variance from the same features."""
    features = level.encoder.get_layer("features").output
    if level.latent_dim is None:
        top = layers.Conv2D(level.n_out, 1, kernel_initializer="zeros", dtype=EXACT, name=LOG_VARIANCE)
    else:
        top = layers.Dense(level.latent_dim, kernel_initializer="zeros", dtype=EXACT, name=LOG_VARIANCE)
        features = layers.Flatten()(features)
    return keras.Model(level.encoder.input, [level.encoder.output, top(features)])


def conv_decoder(level: ConvLevel, name: str) -> keras.Model:
    """Encoding → image, the encoder's mirror; the encoder must have been built."""
    channels = level.input_shape[-1]
    if level.latent_dim is None:
        inputs = layers.Input((*level.encoder.output_shape[1:-1], level.n_out))
        linear = layers.Conv2DTranspose(channels, level.factor, strides=level.factor, dtype=EXACT, name="linear")(
            inputs
        )
        hidden = layers.Conv2D(level.widths[-1], 3, padding="same", name="widen")(inputs)
    else:
        height, width = (side // level.factor for side in level.input_shape[:2])
        inputs = layers.Input((level.latent_dim,))
        linear = layers.Dense(int(np.prod(level.input_shape)), dtype=EXACT, name="linear")(inputs)
        linear = layers.Reshape(level.input_shape, dtype=EXACT)(linear)
        hidden = layers.Dense(height * width * level.widths[-1], name="widen")(inputs)
        hidden = layers.Reshape((height, width, level.widths[-1]))(hidden)
    for stage in reversed(range(len(level.widths))):
        hidden = _blocks(level, hidden, level.widths[stage], stage)
        if stage > 0:
            hidden = _double(level, hidden, level.widths[stage - 1], f"double{stage}")
    if level.upsampling is None:
        hidden = layers.Activation("tanh")(hidden)
        residual = layers.Conv2DTranspose(
            channels, level.patch, strides=level.patch, kernel_initializer="zeros", dtype=EXACT, name="residual"
        )(hidden)
    else:
        for stage in range(level.patch.bit_length() - 1):
            hidden = _activated(level, hidden)
            hidden = _double(level, hidden, max(channels, level.widths[0] >> (stage + 1)), f"grow{stage}")
        hidden = layers.Activation("tanh")(hidden)
        residual = layers.Conv2D(channels, 3, padding="same", kernel_initializer="zeros", dtype=EXACT, name="residual")(
            hidden
        )
    outputs = layers.Add(dtype=EXACT, name="decoding")([linear, residual])
    if level.output_activation != "linear":
        outputs = layers.Activation(level.output_activation, dtype=EXACT, name="output")(outputs)
    return keras.Model(inputs, outputs, name=name)


def _activated(level: ConvLevel, hidden: keras.KerasTensor) -> keras.KerasTensor:
    if level.activation == "silu":  # TensorFlow's own would keep every graph that it is traced in, for good
        return layers.Multiply()([hidden, layers.Activation("sigmoid")(hidden)])
    return layers.Activation(level.activation)(hidden)


def _double(level: ConvLevel, hidden: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    if level.upsampling is None:
        return layers.Conv2DTranspose(filters, 2, strides=2, name=name)(hidden)
    hidden = layers.UpSampling2D(2, interpolation=level.upsampling)(hidden)
    return layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal", name=name)(hidden)


def _blocks(level: ConvLevel, hidden: keras.KerasTensor, width: int, stage: int) -> keras.KerasTensor:
    """Pre-activation residual blocks (He et al. 2016, "Identity mappings") whose last convolutions start at zero.

    Zero ends (Zhang et al. 2019, "Fixup") keep a deep path stable without normalisation. A second 3x3 instead of
    the 1x1 costs almost twice as much and learns no more in the same time (0.90 of PCA's loss against 0.89 at
    4x4x32, both after 3,250 steps).
    """
    for index in range(level.depth):
        name = f"block{stage}_{index}"
        inner = _activated(level, hidden)
        inner = layers.Conv2D(width, 3, padding="same", kernel_initializer="he_normal", name=f"{name}_first")(inner)
        inner = _activated(level, inner)
        inner = layers.Conv2D(width, 1, kernel_initializer="zeros", name=f"{name}_second")(inner)
        hidden = layers.Add()([hidden, inner])
    return hidden
