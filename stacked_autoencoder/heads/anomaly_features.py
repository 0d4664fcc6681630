"""The networks of `AnomalyDetector`: from the encodings of a level to features, distances and maps.

They consist of built-in Keras layers, so a saved detector runs in any program with Keras.

Reference:
    Zhang et al. 2021, "AnomalyHop: An SSL-based image anomaly localization method", arXiv:2105.03797 (Gaussians of
    features of PCA levels); Defard et al. 2020, "PaDiM: a patch distribution modeling framework for anomaly detection
    and localization", arXiv:2011.08785 (a Gaussian at each place).
"""

from __future__ import annotations

from functools import lru_cache

import keras
import numpy as np
from keras import ops

from stacked_autoencoder.heads.place_gaussians import Whitening
from stacked_autoencoder.levels.base import EXACT
from stacked_autoencoder.pca import LinearCode
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.images import Shape

POOL = 5  # side of the window in which magnitudes are averaged, at most half of the encoding
STRIDE = 2
OFFSET = 1e-3  # share of the scale of the encodings that is added to magnitudes: the root is steep at 0
ROUNDING = 1e-5  # squared errors below this share of the squared values are 0, as they can be rounding errors


def feature_network(
    encoding_shape: Shape, image_shape: Shape, code: LinearCode, factor: int, scale: float
) -> keras.Model:
    """Returns a network from encodings `(N, H, W, C)` and images to feature vectors `(N, h, w, 2 * C + 1)`.

    The positive and the negative parts of each channel are averaged over small windows, and so is the squared error of
    PCA, which shows details that the encodings don't have. The fourth root of these magnitudes is nearly Gaussian,
    while the magnitudes have heavy tails.

    Args:
        encoding_shape: shape of an encoding.
        image_shape: shape of an image, padded.
        code: PCA of the images with the same number of values as the encodings.
        factor: side of the patches of `code`.
        scale: mean standard deviation of the encodings.
    """
    channels = encoding_shape[-1]
    inputs, images = layers.Input(encoding_shape), layers.Input(image_shape)
    parts = layers.Dense(2 * channels, "relu", use_bias=False, dtype=EXACT, name="parts")
    halves = parts(inputs)
    parts.set_weights([np.concatenate([np.eye(channels), -np.eye(channels)], axis=1)])
    errors = _squared_errors(images, code, factor)
    pool, strides = _pools(encoding_shape)
    # Images are extended by reflection. Otherwise, windows at the border would average fewer values than other windows.
    margins = [((size - 1) // 2, size // 2) for size in pool]
    means = [
        layers.AveragePooling2D(pool, strides, "valid", dtype=EXACT)(
            ops.pad(values, [(0, 0), *margins, (0, 0)], mode="symmetric")
        )
        for values in (halves, errors)
    ]
    values = layers.Concatenate(dtype=EXACT)([means[0], ops.sqrt(means[1])])
    return keras.Model([inputs, images], ops.sqrt(ops.sqrt(values + OFFSET * scale)))


def _squared_errors(images: keras.KerasTensor, code: LinearCode, factor: int) -> keras.KerasTensor:
    """Returns the mean squared error of PCA of each patch, `(N, H, W, 1)`."""
    kernel_shape = (factor, factor, images.shape[-1])
    # The mean of PCA differs between the pixels of a patch, so it is subtracted from the results of the convolutions:
    # |x - m|^2 = |x|^2 - 2 m x + |m|^2, and the components are orthonormal.
    components = code.components
    encode = layers.Conv2D(components.shape[1], factor, factor, dtype=EXACT, name="components")
    squares = layers.Conv2D(1, factor, factor, dtype=EXACT, name="squares")
    cross = layers.Conv2D(1, factor, factor, use_bias=False, dtype=EXACT, name="cross")
    encoded, powers, products = encode(images), squares(ops.square(images)), cross(images)
    encode.set_weights([components.reshape(*kernel_shape, -1), -code.mean @ components])
    squares.set_weights([np.ones((*kernel_shape, 1)), np.sum(np.square(code.mean), keepdims=True)])
    cross.set_weights([2 * code.mean.reshape(*kernel_shape, 1)])
    errors = (1 - ROUNDING) * powers - products - ops.sum(ops.square(encoded), axis=-1, keepdims=True)
    return ops.relu(errors) / len(code.mean)


def strides_of(encoding_shape: Shape) -> list[int]:
    """Returns the numbers of places of an encoding between neighbouring feature vectors, for both axes."""
    return _pools(encoding_shape)[1]


def _pools(encoding_shape: Shape) -> tuple[list[int], list[int]]:
    """Returns the sides of the windows in which magnitudes are averaged, and their strides."""
    pool = [POOL if side is None else max(1, min(POOL, side // 2)) for side in encoding_shape[:-1]]
    return pool, [STRIDE if side >= 2 * STRIDE else 1 for side in pool]


def window_network(shape: Shape, side: tuple[int, int]) -> keras.Model:
    """Returns a network that joins the feature vectors of each window: `(N, h, w, D)` → `(N, h', w', rows * D)`."""
    rows, features = side[0] * side[1], shape[-1]
    inputs = layers.Input(shape)
    windows = layers.DepthwiseConv2D(side, depth_multiplier=rows, use_bias=False, dtype=EXACT, name="windows")
    outputs = windows(inputs)
    kernel = np.eye(rows).reshape(*side, 1, rows)
    windows.set_weights([np.broadcast_to(kernel, (*side, features, rows))])
    return keras.Model(inputs, outputs)


def distance_network(shape: Shape, whitening: Whitening) -> keras.Model:
    """Returns a network from feature vectors `(N, h, w, D)` to squared distances `(N, h, w)`.

    The squared Mahalanobis distance is divided by the number of features, so that it is about 1 for normal images.
    """
    inputs = values = layers.Input(shape)
    kernel, mean = whitening.matrix, whitening.mean
    bias = -np.einsum("pd,pde->pe", mean, kernel)
    if len(mean) == 1:
        white = layers.Dense(shape[-1], dtype=EXACT, name="whitening")
        values = white(values)
        white.set_weights([kernel[0], bias[0]])
    else:
        height, width, features = shape
        values = layers.Reshape((height * width, features), dtype=EXACT)(values)
        white = layers.EinsumDense(
            "npd,pde->npe", (height * width, features), bias_axes="pe", dtype=EXACT, name="whitening"
        )
        values = white(values)
        white.set_weights([kernel, bias])
        values = layers.Reshape((height, width, features), dtype=EXACT)(values)
    return keras.Model(inputs, ops.mean(ops.square(values), axis=-1))


@lru_cache(maxsize=16)  # building it takes longer than applying it to one image
def map_network(shape: Shape, margins: tuple[tuple[int, int], ...], step: tuple[int, int]) -> keras.Model:
    """Returns a network from distances `(N, h, w)` to smooth maps on the pixels, `(N, H, W)`.

    Args:
        shape: `(h, w)`.
        margins: places to add before and after each axis, where windows did not fit.
        step: pixels between neighbouring places.
    """
    inputs = layers.Input(shape)
    values = ops.expand_dims(inputs, -1)
    if any(map(any, margins)):
        values = ops.pad(values, [(0, 0), *margins, (0, 0)], mode="symmetric")
    if step != (1, 1):
        values = layers.UpSampling2D(step, interpolation="nearest", dtype=EXACT)(values)
        smooth = [2 * (side // 2) + 1 for side in step]
        for _ in range(2):  # two box filters are nearly a Gaussian
            values = layers.AveragePooling2D(smooth, 1, "same", dtype=EXACT)(values)
    return keras.Model(inputs, ops.squeeze(values, -1))
