"""Conversion of the rows that scikit-learn passes to the samples of an `Autoencoder`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stacked_autoencoder.levels.stack import BATCH
from stacked_autoencoder.utils.checks import positive_ints

ROUNDING = 1e-12  # relative difference of equal values that float64 can cause
DTYPES = (np.float64, np.float32)  # of `X`; other numbers are converted to the first


def checked_image_shape(image_shape: Any, n_features: int) -> tuple[int, int, int]:
    """Returns `image_shape` as a tuple of ints. Raises `ValueError` if rows of `n_features` values don't fit it."""
    shape = tuple(positive_ints("image_shape", image_shape))
    if len(shape) != 3 or math.prod(shape) != n_features:
        raise ValueError(
            "`image_shape` must be (height, width, channels), and each row of `X` must contain height * width * "
            f"channels values. Received: image_shape={image_shape!r} and `X` with n_features={n_features}"
        )
    return shape


def as_samples(X: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns rows as samples of a shape. Raises `ValueError` if values are too large for float32."""
    largest = np.finfo(np.float32).max
    if np.abs(X).max() > largest:
        raise ValueError(
            f"`X` contains values that are too large for float32, whose largest value is {largest:.3g}. Scale `X`, for "
            f"example with `StandardScaler`. Received: values up to {np.abs(X).max():.3g}"
        )
    return X.reshape(len(X), *shape)


def unit_range(X: np.ndarray) -> tuple[float, float]:
    """Returns a value range that is two standard deviations of the features wide, about the mean of all values."""
    mean, deviation = float(X.mean(dtype=np.float64)), float(np.sqrt(X.var(axis=0, dtype=np.float64).mean()))
    unit = max(deviation, ROUNDING * float(np.abs(X).max())) or 1.0
    return mean - unit, mean + unit


def by_sample(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """Applies a function of a batch, so that the result for a sample doesn't depend on the number of samples.

    For a batch of one sample, TensorFlow sums products in another order, which changes the rounding.
    """
    is_single = len(values) % BATCH == 1
    return function(np.concatenate([values, values[-1:]]))[:-1] if is_single else function(values)
