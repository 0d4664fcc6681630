"""The networks of `AnomalyDetector`: from the encodings of a level to features, distances and maps.

They consist of built-in Keras layers, so a saved detector runs in any program with Keras.

Reference:
    Zhang et al. 2021, "AnomalyHop: An SSL-based image anomaly localization method", arXiv:2105.03797 (Gaussians of
    features of PCA levels); Defard et al. 2020, "PaDiM: a patch distribution modeling framework for anomaly detection
    and localization", arXiv:2011.08785 (a Gaussian at each place).
"""

from __future__ import annotations

import math
from functools import lru_cache

import keras
import numpy as np
from keras import ops

from stacked_autoencoder.heads.place_gaussians import Whitening
from stacked_autoencoder.levels.base import EXACT, Level
from stacked_autoencoder.pca import LinearCode
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.images import Shape

POOL = 5  # side of the window in which magnitudes are averaged, at most half of the encoding
STRIDE = 2
OFFSET = 1e-3  # share of the scale of the encodings that is added to magnitudes: the root is steep at 0
MOST_ERRORS = 1024  # of a decoded vector that are features of their own
ROUNDING = 1e-5  # squared errors below this share of the squared values are 0, as they can be rounding errors


def feature_network(
    encoding_shape: Shape, image_shape: Shape, code: LinearCode | None, factor: int, scale: float
) -> keras.Model:
    """Returns a network from encodings `(N, H, W, C)` and images to feature vectors `(N, h, w, 2 * C + 1)`.

    Without `code`, the encodings are the only input, and the feature vectors have `2 * C` values.

    The positive and the negative parts of each channel are averaged over small windows, and so is the squared error of
    PCA, which shows details that the encodings don't have. The fourth root of these magnitudes is nearly Gaussian,
    while the magnitudes have heavy tails.

    Args:
        encoding_shape: shape of an encoding.
        image_shape: shape of an image, padded.
        code: PCA of the images with the same number of values as the encodings; `None` if the images are not known, or
            if PCA has no errors.
        factor: side of the patches of `code`.
        scale: mean standard deviation of the encodings.
    """
    channels = encoding_shape[-1]
    inputs, images = layers.Input(encoding_shape), layers.Input(image_shape)
    parts = layers.Dense(2 * channels, "relu", use_bias=False, dtype=EXACT, name="parts")
    values = parts(inputs)
    parts.set_weights([np.concatenate([np.eye(channels), -np.eye(channels)], axis=1)])
    if code is None:
        means = _window_means(values, encoding_shape)
    else:
        means = _window_means(_joined(values, _squared_errors(images, code, factor)), encoding_shape)
        means = _joined(means[..., :-1], ops.sqrt(means[..., -1:]))
    return keras.Model([inputs] if code is None else [inputs, images], ops.sqrt(ops.sqrt(means + OFFSET * scale)))


def _joined(*values: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Concatenate(dtype=EXACT)(list(values))


def _window_means(values: keras.KerasTensor, encoding_shape: Shape) -> keras.KerasTensor:
    """Returns means over windows of the places of an encoding."""
    pool, strides = _pools(encoding_shape)
    # Images are extended by reflection. Otherwise, windows at the border would average fewer values than other windows.
    for axis, size in enumerate(pool, 1):
        values = _extended(values, axis, (size - 1) // 2, size // 2)
    return layers.AveragePooling2D(pool, strides, "valid", dtype=EXACT)(values)


def _extended(values: keras.KerasTensor, axis: int, before: int, after: int) -> keras.KerasTensor:
    """Extends an axis by reflection, as `ops.pad` does with `mode="symmetric"`, in half of the time."""
    first = [_places(values, axis, place, place + 1) for place in reversed(range(before))]
    last = [_places(values, axis, -1 - place, -place or None) for place in range(after)]
    return layers.Concatenate(axis, dtype=EXACT)([*first, values, *last]) if before or after else values


def _places(values: keras.KerasTensor, axis: int, start: int, stop: int | None) -> keras.KerasTensor:
    return values[(*[slice(None)] * axis, slice(start, stop))]


def _squared_errors(images: keras.KerasTensor, code: LinearCode, factor: int) -> keras.KerasTensor:
    """Returns the mean squared error of PCA of each patch, `(N, H, W, 1)`."""
    size, kept = code.components.shape
    if size <= 2 * kept:
        complement = np.linalg.qr(code.components, mode="complete")[0][:, kept:]
        return _power(images, complement, code.mean, factor) / size
    # |x - m|^2 = |x|^2 - 2 m x + |m|^2, and the components are orthonormal. The mean of PCA differs between the pixels
    # of a patch, so it can't be subtracted from images of open size.
    kernel_shape = (factor, factor, images.shape[-1])
    squares = layers.Conv2D(1, factor, factor, dtype=EXACT, name="squares")
    cross = layers.Conv2D(1, factor, factor, use_bias=False, dtype=EXACT, name="cross")
    powers, products = squares(ops.square(images)), cross(images)
    squares.set_weights([np.ones((*kernel_shape, 1)), np.sum(np.square(code.mean), keepdims=True)])
    cross.set_weights([2 * code.mean.reshape(*kernel_shape, 1)])
    errors = (1 - ROUNDING) * powers - products - _power(images, code.components, code.mean, factor)
    return ops.relu(errors) / size


def _power(images: keras.KerasTensor, components: np.ndarray, mean: np.ndarray, factor: int) -> keras.KerasTensor:
    """Returns the sum of the squares of orthonormal components of each patch, `(N, H, W, 1)`."""
    encode = layers.Conv2D(components.shape[1], factor, factor, dtype=EXACT, name="components")
    encoded = encode(images)
    encode.set_weights([components.reshape(factor, factor, images.shape[-1], -1), -mean @ components])
    return ops.sum(ops.square(encoded), axis=-1, keepdims=True)


def vector_feature_network(level: Level, error_unit: float | None) -> keras.Model:
    """Returns a network from encodings without height and width to features `(N, h, w, D)`.

    With an `error_unit`, the network has three inputs: the encodings, what the decoder makes of them, and what was
    encoded. Sequences `(N, T, C)` have features `(N, T, 1, D)`, at each step the encoding and the errors of the
    decoder. Vectors have features `(N, 1, 1, D)`. If a vector has many errors, their root mean square is one feature.

    Args:
        level: the level.
        error_unit: number by which errors of the decoder are divided; `None` if they are not features.
    """
    encodings = layers.Input(level.encoding_shape)
    inputs, joined = [encodings], encodings
    if error_unit is not None:
        decoded, expected = layers.Input(level.input_shape), layers.Input(level.input_shape)
        inputs += [decoded, expected]
        errors = _errors(level, decoded, expected) / error_unit
        if len(level.encoding_shape) == 1:
            errors = layers.Reshape((math.prod(level.input_shape),), dtype=EXACT)(errors)
            if errors.shape[1] > MOST_ERRORS:
                errors = ops.sqrt(ops.mean(ops.square(errors), axis=1, keepdims=True))
        joined = _joined(encodings, errors)
    *steps, features = joined.shape[1:]
    return keras.Model(inputs, layers.Reshape((*steps, *[1] * (2 - len(steps)), features), dtype=EXACT)(joined))


def error_network(first: Level) -> keras.Model:
    """Returns a network from reconstructions and images to their differences at each place, `(N, h, w, C)`.

    Sequences `(N, T, C)` have places `(T, 1)`, and vectors have one place per column.

    Args:
        first: level 0.
    """
    decoded, images = layers.Input(first.input_shape), layers.Input(first.input_shape)
    *places, channels = first.input_shape if len(first.input_shape) > 1 else (*first.input_shape, 1)
    outputs = layers.Reshape((*places, *[1] * (2 - len(places)), channels), dtype=EXACT)
    return keras.Model([decoded, images], outputs(_errors(first, decoded, images)))


def _errors(level: Level, decoded: keras.KerasTensor, expected: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the errors of values that count in the loss of a level, and 0 for other values."""
    errors, counts = ops.subtract(decoded, expected), level.loss_mask(expected)
    if counts is None:
        return errors
    if len(counts.shape) < len(errors.shape):
        counts = ops.expand_dims(counts, -1)
    return ops.where(counts, errors, 0.0)


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
        height, width = (2 * (side // 2) + 1 for side in step)
        # Two box filters are nearly a Gaussian. Each is applied along one axis at a time, since windows can be large.
        for window in ((height, 1), (1, width)) * 2:
            values = layers.AveragePooling2D(window, 1, "same", dtype=EXACT)(values)
    return keras.Model(inputs, ops.squeeze(values, -1))
