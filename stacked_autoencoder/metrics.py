"""How good images are: PSNR and SSIM, as measures and as losses, and how far two sets of features are apart."""

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
    """Peak signal-to-noise ratio of each image, in dB.

    Args:
        images: `(N, H, W, C)`, or of another rank; floats in `value_range`, or `uint8`, which is scaled to it.
        reconstructions: the same shape; floats or `uint8`, whichever `images` are.
        value_range: lowest and highest possible value of floats; their distance is the peak.

    Returns:
        `(N,)`; infinite where an image is reproduced exactly.

    Raises:
        ValueError: the shapes differ, or an array holds neither floats nor `uint8`.
    """
    images, reconstructions = _comparable(images, reconstructions, value_range)
    error = np.mean(np.square(np.asarray(images, np.float64) - reconstructions), axis=tuple(range(1, images.ndim)))
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10((value_range[1] - value_range[0]) ** 2 / error)


def ssim(images: Images, reconstructions: Images, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Structural similarity of each image (Wang et al. 2004), 11x11 Gaussian window.

    Args:
        images: `(N, H, W, C)`; floats in `value_range`, or `uint8`, which is scaled to it.
        reconstructions: the same shape; floats or `uint8`, whichever `images` are.
        value_range: lowest and highest possible value of floats.

    Returns:
        `(N,)`; NaN where a side is shorter than the window, and for what isn't an image.

    Raises:
        ValueError: the shapes differ, or an array holds neither floats nor `uint8`.
    """
    images, reconstructions = _comparable(images, reconstructions, value_range)
    if images.ndim != 4 or min(images.shape[1:3]) < SSIM_WINDOW:
        return np.full(len(images), np.nan)
    return _ssim(images, reconstructions, value_range).numpy()


@keras.saving.register_keras_serializable("stacked_autoencoder")
def ssim_loss(images: tf.Tensor, reconstructions: tf.Tensor) -> tf.Tensor:
    """1 - SSIM of each image in [-1, 1], as a loss: `ConvLevel(loss=metrics.ssim_loss)`.

    Args:
        images: `(N, H, W, C)`, sides of at least 11 pixels; floats, or `uint8`, which is scaled to [-1, 1].
        reconstructions: the same shape; floats or `uint8`, whichever `images` are.

    Returns:
        `(N,)`, from 0 for the same image to 2.

    Raises:
        ValueError: a side is shorter than the window, these aren't images, or they hold neither floats nor `uint8`.
    """
    return _ssim_loss(images, reconstructions, (-1.0, 1.0))


@keras.saving.register_keras_serializable("stacked_autoencoder")
class SSIMWithL1(keras.losses.Loss):
    """`weight` of 1 - SSIM and the rest of the mean absolute error: structure from the one, brightness from the other.

    Args:
        weight: share of the former, from 0 to 1.
        low: lowest possible value of the images.
        high: highest possible value.

    Reference:
        Zhao et al. 2017, "Loss functions for image restoration with neural networks", section III; theirs has SSIM at
        several scales and Gaussian weights.

    Example:
        >>> ConvLevel(n_out=32, loss=metrics.SSIMWithL1(weight=0.84))
    """

    def __init__(self, weight: float = 0.84, low: float = -1.0, high: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        if not 0 <= weight <= 1:
            raise ValueError(f"`weight` is a share, from 0 to 1. Received: weight={weight!r}")
        if not low < high:
            raise ValueError(f"`low` must be less than `high`. Received: low={low!r}, high={high!r}")
        self.weight, self.low, self.high = float(weight), float(low), float(high)

    def __call__(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: Any = None) -> tf.Tensor:
        # Here, since Keras turns `uint8` into floats from 0 to 255 before `call`.
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
            f"SSIM is of images whose sides have at least {SSIM_WINDOW} pixels; use it for level 0 and another loss, "
            f"such as the default, for encodings. Received: shape={tuple(images.shape)}"
        )
    return 1.0 - _ssim(images, reconstructions, value_range)


def _ssim(images: Any, reconstructions: Any, value_range: tuple[float, float]) -> tf.Tensor:
    low, high = value_range
    images, reconstructions = (tf.cast(each, tf.float32) - low for each in (images, reconstructions))
    return tf.image.ssim(images, reconstructions, max_val=high - low)


def _comparable(images: Any, reconstructions: Any, value_range: tuple[float, float]) -> list[np.ndarray]:
    """Arrays of one shape, floats in the range."""
    named = {"images": images, "reconstructions": reconstructions}
    for name, each in named.items():
        if isinstance(each, (list, tuple)) and len({np.shape(image) for image in each}) > 1:
            raise ValueError(
                f"`{name}` must be images of one size; compare images of different sizes one by one, each as a batch "
                f"`image[None]`. Received: shapes {', '.join(sorted({str(np.shape(image)) for image in each})[:3])}"
            )
        named[name] = np.asarray(each)
    shapes = [each.shape for each in named.values()]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "`images` and `reconstructions` must have the same shape: give one reconstruction for each image, such as "
            f"`sae.reconstruct(images)`. Received: shapes {shapes[0]} and {shapes[1]}"
        )
    return [np.asarray(each) for each in _in_range(value_range, **named)]


def _in_range(value_range: tuple[float, float], **named: Any) -> list[Any]:
    """Arrays or tensors, by their names: floats as they are, `uint8` scaled to the range."""
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


BLOCK = 2048  # rows of a kernel matrix that are in memory at once


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians that have the means and covariances of two sets of features.

    `|mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 (cov_a cov_b)^(1/2))`. With the features of Inception that is known
    as FID; with others it is comparable only to itself. It is biased upwards, more for fewer samples, so compare sets
    of equal size, of many more samples than features.

    Args:
        features_a: `(N, features)`, such as a classifier's last hidden layer for `N` images.
        features_b: `(M, features)`.

    Returns:
        0 for equal means and covariances; in squared units of the features.

    Raises:
        ValueError: these aren't two sets of finite vectors of one length, or one has fewer than two of them.

    Reference:
        Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions"; Heusel et al. 2017,
        "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", equation 6.
    """
    a, b = _checked(features_a, features_b)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (a, b))
    # The trace of the root of a product is that of a symmetric matrix, whose eigenvalues aren't complex by rounding.
    values, vectors = np.linalg.eigh(covariance_a)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance_b @ root), 0.0)).sum()
    difference = np.square(mean_a - mean_b).sum() + np.trace(covariance_a) + np.trace(covariance_b) - 2 * shared
    return max(float(difference), 0.0)


def kernel_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Squared maximum mean discrepancy of two sets of features, with the kernel `(x·y / features + 1)^3`.

    Unlike the Fréchet distance it is unbiased, so sets of different size can be compared, and sees moments up to the
    third. With the features of Inception it is known as KID.

    Args:
        features_a: `(N, features)`.
        features_b: `(M, features)`.

    Returns:
        0 on average for sets of one distribution, and so sometimes less than 0.

    Raises:
        ValueError: these aren't two sets of finite vectors of one length, or one has fewer than two of them.

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
    """Sum of the kernel of each vector and itself."""
    return float(np.sum((np.sum(np.square(a), axis=1) / a.shape[1] + 1) ** 3))


def _blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    yield from (features[first : first + BLOCK] for first in range(0, len(features), BLOCK))


def _checked(*features: np.ndarray) -> list[np.ndarray]:
    checked = [np.asarray(each, np.float64) for each in features]
    for name, each in zip(("features_a", "features_b"), checked, strict=True):
        if each.ndim != 2 or len(each) < 2:
            raise ValueError(
                f"`{name}` must be at least two vectors, (N, features); flatten what has more axes with "
                f"`features.reshape(len(features), -1)`. Received: shape={each.shape}"
            )
        if not np.isfinite(each).all():
            raise ValueError(f"`{name}` must be finite. Received: NaN or infinity")
    if checked[0].shape[1] != checked[1].shape[1]:
        raise ValueError(
            "`features_a` and `features_b` must have as many features, from the same model. Received: shapes "
            f"{checked[0].shape} and {checked[1].shape}"
        )
    return checked


@dataclass
class Mean:
    """A mean over everything that was added, however it was batched."""

    total: float = 0.0
    count: int = 0

    def add(self, total: float, count: int) -> None:
        self.total += float(total)
        self.count += count

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else math.nan


def squared_error(images: np.ndarray, reconstructions: np.ndarray) -> tuple[float, int]:
    """Sum of squared differences in float64, and the number of values."""
    return float(np.sum(np.square(images - reconstructions), dtype=np.float64)), images.size
