"""How good images are: PSNR and SSIM, as measures and as losses, and how far two sets of features are apart."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.distances import frechet_distance, kernel_distance

__all__ = ["SSIMWithL1", "frechet_distance", "kernel_distance", "psnr", "ssim", "ssim_loss"]

SSIM_WINDOW = 11  # pixels; smaller images have no SSIM


def psnr(images: np.ndarray, reconstructions: np.ndarray, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Peak signal-to-noise ratio of each image, in dB.

    Args:
        images: `(N, H, W, C)`, or of another rank.
        reconstructions: the same shape.
        value_range: lowest and highest possible value; their distance is the peak.

    Returns:
        `(N,)`; infinite where an image is reproduced exactly.
    """
    error = np.mean(np.square(np.asarray(images, np.float64) - reconstructions), axis=tuple(range(1, images.ndim)))
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10((value_range[1] - value_range[0]) ** 2 / error)


def ssim(images: np.ndarray, reconstructions: np.ndarray, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Structural similarity of each image (Wang et al. 2004), 11x11 Gaussian window.

    Args:
        images: `(N, H, W, C)`.
        reconstructions: the same shape.
        value_range: lowest and highest possible value.

    Returns:
        `(N,)`; NaN where a side is shorter than the window, and for what isn't an image.
    """
    if images.ndim != 4 or min(images.shape[1:3]) < SSIM_WINDOW:
        return np.full(len(images), np.nan)
    low, high = value_range
    return tf.image.ssim(images - low, reconstructions - low, max_val=high - low).numpy()


@keras.saving.register_keras_serializable("stacked_autoencoder")
def ssim_loss(images: tf.Tensor, reconstructions: tf.Tensor) -> tf.Tensor:
    """1 - SSIM of each image in [-1, 1], as a loss: `ConvLevel(loss=metrics.ssim_loss)`.

    Args:
        images: `(N, H, W, C)`, sides of at least 11 pixels.
        reconstructions: the same shape.

    Returns:
        `(N,)`, from 0 for the same image to 2.

    Raises:
        ValueError: a side is shorter than the window, or these aren't images.
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

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        structure = _ssim_loss(y_true, y_pred, (self.low, self.high))
        brightness = tf.reduce_mean(tf.abs(y_true - y_pred), axis=(1, 2, 3))
        return self.weight * structure + (1 - self.weight) * brightness

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight, "low": self.low, "high": self.high}


def _ssim_loss(images: tf.Tensor, reconstructions: tf.Tensor, value_range: tuple[float, float]) -> tf.Tensor:
    sides = images.shape[1:-1]
    if len(images.shape) != 4 or any(side is not None and side < SSIM_WINDOW for side in sides):
        raise ValueError(
            f"SSIM is of images whose sides have at least {SSIM_WINDOW} pixels; use it for level 0 and another loss, "
            f"such as the default, for encodings. Received: shape={tuple(images.shape)}"
        )
    low, high = value_range
    return 1.0 - tf.image.ssim(images - low, reconstructions - low, max_val=high - low)
