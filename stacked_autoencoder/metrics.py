"""Quality of images (PSNR, SSIM, and losses based on SSIM), and distances between two sets of features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.utils.value_range import ValueRange

__all__ = ["SSIMWithL1", "frechet_distance", "kernel_distance", "psnr", "ssim", "ssim_loss"]


SSIM_WINDOW = 11  # pixels; smaller images have no SSIM

Images = np.ndarray | tf.Tensor | Sequence[np.ndarray]  # a sequence of images of one size


def psnr(images: Images, reconstructions: Images, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Computes the peak signal-to-noise ratio of each image, in dB.

    Args:
        images: `(N, H, W, C)`, or another shape whose first axis counts examples. Either floats in `value_range`, or
            `uint8`, which is scaled to that range.
        reconstructions: array of the same shape, floats in `value_range` or `uint8`. It may have another dtype than
            `images`.
        value_range: `(low, high)`, the lowest and the highest possible value of floats. The peak is `high - low`.

    Returns:
        `(N,)` float64, in dB; infinite for an exact reconstruction.

    Raises:
        ValueError: the shapes differ, or an array contains neither floats nor `uint8`.

    Example:
        >>> metrics.psnr(images, sae.reconstruct(images))  # (N,)
    """
    images, reconstructions = _comparable(images, reconstructions, value_range)
    error = np.mean(np.square(np.asarray(images, np.float64) - reconstructions), axis=tuple(range(1, images.ndim)))
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10((value_range[1] - value_range[0]) ** 2 / error)


def ssim(images: Images, reconstructions: Images, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Computes the structural similarity index of each image, with a Gaussian window of 11x11 pixels.

    Args:
        images: `(N, H, W, C)`, floats in `value_range`, or `uint8`, which is scaled to that range.
        reconstructions: array of the same shape, floats in `value_range` or `uint8`. It may have another dtype than
            `images`.
        value_range: `(low, high)`, the lowest and the highest possible value of floats.

    Returns:
        `(N,)` floats, at most 1, which means equal images. NaN if a side is shorter than 11 pixels, or if the arrays
        don't have 4 axes.

    Raises:
        ValueError: the shapes differ, or an array contains neither floats nor `uint8`.

    Example:
        >>> metrics.ssim(images, sae.reconstruct(images))  # (N,)

    Reference:
        Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", section III.
    """
    images, reconstructions = _comparable(images, reconstructions, value_range)
    if images.ndim != 4 or min(images.shape[1:3]) < SSIM_WINDOW:
        return np.full(len(images), np.nan)
    return _ssim(images, reconstructions, value_range).numpy()


@keras.saving.register_keras_serializable("stacked_autoencoder")
def ssim_loss(images: tf.Tensor, reconstructions: tf.Tensor) -> tf.Tensor:
    """Computes 1 - SSIM of each image, as a loss for level 0.

    Args:
        images: `(N, H, W, C)`, floats in [-1, 1], or `uint8`, which is scaled to that range. Each side has at least 11
            pixels.
        reconstructions: array of the same shape, floats in [-1, 1] or `uint8`.

    Returns:
        `(N,)` float32, from 0 for equal images to 2.

    Raises:
        ValueError: a side is shorter than 11 pixels, the arrays don't have 4 axes, or they contain neither floats nor
            `uint8`.

    Example:
        >>> level = ConvLevel(n_out=32, loss=metrics.ssim_loss)

    Reference:
        Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", section III.
    """
    return _ssim_loss(images, reconstructions, (-1.0, 1.0))


@keras.saving.register_keras_serializable("stacked_autoencoder")
class SSIMWithL1(keras.losses.Loss):
    """Weighted sum of 1 - SSIM and the mean absolute error: `weight * (1 - SSIM) + (1 - weight) * MAE`.

    SSIM preserves structure, and the mean absolute error preserves brightness and colour. Images are `(N, H, W, C)`
    with sides of at least 11 pixels, floats from `low` to `high`, or `uint8`, which is scaled to that range.

    Args:
        weight: weight of 1 - SSIM, from 0 to 1.
        low: lowest possible value of float images.
        high: highest possible value of float images.
        options: arguments of `keras.losses.Loss`, such as `name` and `reduction`.

    Raises:
        ValueError: `weight` is outside of [0, 1], `low` isn't less than `high`, or, in a call, images are smaller than
            11x11 pixels.

    Example:
        >>> level = ConvLevel(n_out=32, loss=metrics.SSIMWithL1(weight=0.84))

    Reference:
        Zhao et al. 2017, "Loss functions for image restoration with neural networks", section III. The loss of the
        paper uses SSIM at several scales and weights the absolute error by a Gaussian; this one does neither.
    """

    def __init__(self, weight: float = 0.84, low: float = -1.0, high: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        if not 0 <= weight <= 1:
            raise ValueError(f"`weight` must be a number from 0 to 1. Received: weight={weight!r}")
        if not low < high:
            raise ValueError(f"`low` must be less than `high`. Received: low={low!r}, high={high!r}")
        self.weight, self.low, self.high = float(weight), float(low), float(high)

    def __call__(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: Any = None) -> tf.Tensor:
        # Before `call`, for which Keras converts `uint8` to floats from 0 to 255.
        y_true, y_pred = _in_range((self.low, self.high), y_true=y_true, y_pred=y_pred)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        structure = _ssim_loss(y_true, y_pred, (self.low, self.high))
        brightness = tf.reduce_mean(tf.abs(y_true - y_pred), axis=(1, 2, 3))
        return self.weight * structure + (1 - self.weight) * brightness

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight, "low": self.low, "high": self.high}


def _ssim_loss(images: tf.Tensor, reconstructions: tf.Tensor, value_range: tuple[float, float]) -> tf.Tensor:
    images, reconstructions = _in_range(value_range, images=images, reconstructions=reconstructions)
    sides = images.shape[1:-1]
    if len(images.shape) != 4 or any(side is not None and side < SSIM_WINDOW for side in sides):
        raise ValueError(
            f"SSIM needs images (N, H, W, C) with sides of at least {SSIM_WINDOW} pixels. Use another loss, such as "
            f'the default `loss="mse"`, for smaller images and for encodings. Received: shape={tuple(images.shape)}'
        )
    return 1.0 - _ssim(images, reconstructions, value_range)


def _ssim(images: Any, reconstructions: Any, value_range: tuple[float, float]) -> tf.Tensor:
    low, high = value_range
    images, reconstructions = (tf.cast(each, tf.float32) - low for each in (images, reconstructions))
    return tf.image.ssim(images, reconstructions, max_val=high - low)


def _comparable(images: Any, reconstructions: Any, value_range: tuple[float, float]) -> list[np.ndarray]:
    """Returns both as float arrays in the range, after checking that they have the same shape."""
    named = {"images": images, "reconstructions": reconstructions}
    for name, each in named.items():
        if isinstance(each, (list, tuple)) and len({np.shape(image) for image in each}) > 1:
            raise ValueError(
                f"`{name}` must be images of one size. Compare images of different sizes one by one, each as a batch "
                f"`image[None]`. Received: shapes {', '.join(sorted({str(np.shape(image)) for image in each})[:3])}"
            )
        named[name] = np.asarray(each)
    shapes = [each.shape for each in named.values()]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "`images` and `reconstructions` must have the same shape. Pass one reconstruction for each image, such as "
            f"`sae.reconstruct(images)`. Received: shapes {shapes[0]} and {shapes[1]}"
        )
    return [np.asarray(each) for each in _in_range(value_range, **named)]


def _in_range(value_range: tuple[float, float], **named: Any) -> list[Any]:
    """Scales `uint8` arrays or tensors, given by name, to the range, and returns floats unchanged."""
    (low, high), scaled = value_range, []
    for name, values in named.items():
        values = values if hasattr(values, "dtype") else np.asarray(values)
        kind = tf.as_dtype(values.dtype)
        if kind != tf.uint8 and not kind.is_floating:
            raise ValueError(
                f"`{name}` must be floats from {low:g} to {high:g}, or uint8. Scale other integers by their largest "
                f"possible value, such as 65535 of uint16: `{name}.astype('float32') / 65535 * {high - low:g} "
                f"{'-' if low < 0 else '+'} {abs(low):g}`. Received: {name} of dtype {kind.name}"
            )
        if kind == tf.uint8:
            values = ValueRange.given(value_range).to_user(values)
        scaled.append(values)
    return scaled


BLOCK = 2048  # rows of the kernel matrix to hold in memory at once


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Computes the squared Fréchet distance between two sets of features, each described by a Gaussian.

    The distance is `|mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 (cov_a cov_b)^(1/2))`. Computed from features of the
    Inception network, it is called FID. Compare only distances that were computed from features of the same model. The
    estimate is biased upwards, and more so for fewer samples. So use sets of equal size, with many more samples than
    features.

    Args:
        features_a: `(N, features)` finite numbers, such as the output of a classifier's last hidden layer for N images.
        features_b: `(M, features)`, from the same model.

    Returns:
        A float, at least 0, in squared units of the features. It is 0 if means and covariances are equal.

    Raises:
        ValueError: an array doesn't have 2 axes, has fewer than 2 rows, or contains NaN or infinity; or the numbers of
            features differ.

    Example:
        >>> metrics.frechet_distance(model.predict(real_images), model.predict(generated_images))

    Reference:
        Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions"; Heusel et al. 2017,
        "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", equation 6.
    """
    a, b = _checked(features_a, features_b)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (a, b))
    # This symmetric matrix has the same trace as the root of the product, and its eigenvalues are always real.
    values, vectors = np.linalg.eigh(covariance_a)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance_b @ root), 0.0)).sum()
    difference = np.square(mean_a - mean_b).sum() + np.trace(covariance_a) + np.trace(covariance_b) - 2 * shared
    return max(float(difference), 0.0)


def kernel_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Computes the squared maximum mean discrepancy between two sets of features, with a cubic kernel.

    The kernel is `(x·y / features + 1)^3`, so the distance compares moments up to the third. Unlike the Fréchet
    distance, the estimate is unbiased, and sets of different sizes can be compared. Computed from features of the
    Inception network, it is called KID.

    Args:
        features_a: `(N, features)` finite numbers.
        features_b: `(M, features)`, from the same model.

    Returns:
        A float. For samples of the same distribution it is 0 on average, so it can be negative.

    Raises:
        ValueError: an array doesn't have 2 axes, has fewer than 2 rows, or contains NaN or infinity; or the numbers of
            features differ.

    Example:
        >>> metrics.kernel_distance(model.predict(real_images), model.predict(generated_images))

    Reference:
        Gretton et al. 2012, "A kernel two-sample test", lemma 6; Bińkowski et al. 2018, "Demystifying MMD GANs"
        (arXiv:1801.01401).
    """
    a, b = _checked(features_a, features_b)
    between = _sum_of_kernel(a, b) / (len(a) * len(b))
    within = [(_sum_of_kernel(each, each) - _kernel_of_pairs(each)) / (len(each) * (len(each) - 1)) for each in (a, b)]
    return sum(within) - 2 * between


def _sum_of_kernel(a: np.ndarray, b: np.ndarray) -> float:
    return sum(float(np.sum((block @ b.T / a.shape[1] + 1) ** 3)) for block in _blocks(a))


def _kernel_of_pairs(a: np.ndarray) -> float:
    """Returns the sum of the kernel of each vector with itself."""
    return float(np.sum((np.sum(np.square(a), axis=1) / a.shape[1] + 1) ** 3))


def _blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    yield from (features[first : first + BLOCK] for first in range(0, len(features), BLOCK))


def _checked(*features: np.ndarray) -> list[np.ndarray]:
    checked = [np.asarray(each, np.float64) for each in features]
    for name, each in zip(("features_a", "features_b"), checked, strict=True):
        if each.ndim != 2 or len(each) < 2:
            raise ValueError(
                f"`{name}` must have shape (N, features) with N of at least 2. Flatten arrays with more axes with "
                f"`features.reshape(len(features), -1)`. Received: shape={each.shape}"
            )
        if not np.isfinite(each).all():
            raise ValueError(f"`{name}` must be finite. Received: {name} with NaN or infinity")
    if checked[0].shape[1] != checked[1].shape[1]:
        raise ValueError(
            "`features_a` and `features_b` must have the same number of features, computed by the same model. "
            f"Received: shapes {checked[0].shape} and {checked[1].shape}"
        )
    return checked


@dataclass
class Mean:
    """A mean over all values that were added, in batches of any size."""

    total: float = 0.0
    count: int = 0

    def add(self, total: float, count: int) -> None:
        self.total += float(total)
        self.count += count

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else math.nan


def squared_error(images: np.ndarray, reconstructions: np.ndarray) -> tuple[float, int]:
    """Returns the sum of squared differences, summed in float64, and the number of values."""
    return float(np.sum(np.square(images - reconstructions), dtype=np.float64)), images.size
