"""The networks of `AnomalyDetector`: from the encodings of a level to features, distances and maps.

They consist of built-in Keras layers, so a saved detector runs in any program with Keras.

Reference:
    Zhang et al. 2021, "AnomalyHop: An SSL-based image anomaly localization method", arXiv:2105.03797 (Gaussians of
    features of PCA levels); Defard et al. 2020, "PaDiM: a patch distribution modeling framework for anomaly detection
    and localization", arXiv:2011.08785 (a Gaussian at each place).
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from stacked_autoencoder.heads.place_gaussians import Whitening
from stacked_autoencoder.levels.base import EXACT
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.images import Shape

POOL = 5  # side of the window in which magnitudes are averaged, at most half of the encoding
STRIDE = 2


def feature_network(encoding_shape: Shape) -> keras.Model:
    """Returns a network from encodings of a level, `(N, H, W, C)`, to feature vectors `(N, h, w, 2 * C)`.

    The positive and the negative parts of each channel are averaged over small windows, and their fourth root is taken,
    which makes the heavy-tailed distributions of magnitudes nearly Gaussian. Encodings `(N, timesteps, C)` become
    features `(N, h, 1, 2 * C)`.
    """
    *sides, channels = encoding_shape
    inputs = values = layers.Input(encoding_shape)
    if len(sides) == 1:
        values = ops.expand_dims(values, 2)
    parts = layers.Dense(2 * channels, "relu", use_bias=False, dtype=EXACT, name="parts")
    values = parts(values)
    parts.set_weights([np.concatenate([np.eye(channels), -np.eye(channels)], axis=1)])
    pool, strides = _pools(encoding_shape)
    values = layers.AveragePooling2D(pool, strides, "same", dtype=EXACT, name="magnitudes")(values)
    values = ops.sqrt(ops.sqrt(values))
    return keras.Model(inputs, values)


def strides_of(encoding_shape: Shape) -> list[int]:
    """Returns the numbers of places of an encoding between neighbouring feature vectors, for both axes."""
    return _pools(encoding_shape)[1]


def _pools(encoding_shape: Shape) -> tuple[list[int], list[int]]:
    """Returns the sides of the windows in which magnitudes are averaged, and their strides."""
    sides = (*encoding_shape[:-1], 1)[:2]
    pool = [POOL if side is None else max(1, min(POOL, side // 2)) for side in sides]
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


def map_network(shape: Shape, margin: tuple[int, int], step: tuple[int, int]) -> keras.Model:
    """Returns a network from distances `(N, h, w)` to smooth maps on the pixels, `(N, H, W)`.

    Args:
        shape: `(h, w)`.
        margin: places to add at each side, where windows did not fit.
        step: pixels between neighbouring places.
    """
    inputs = layers.Input(shape)
    values = ops.expand_dims(inputs, -1)
    if any(margin):
        values = ops.pad(values, [(0, 0), (margin[0],) * 2, (margin[1],) * 2, (0, 0)], mode="symmetric")
    if step != (1, 1):
        values = layers.UpSampling2D(step, interpolation="nearest", dtype=EXACT)(values)
        smooth = [2 * (side // 2) + 1 for side in step]
        for _ in range(2):  # two box filters are nearly a Gaussian
            values = layers.AveragePooling2D(smooth, 1, "same", dtype=EXACT)(values)
    return keras.Model(inputs, ops.squeeze(values, -1))
