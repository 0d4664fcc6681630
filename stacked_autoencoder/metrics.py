"""How good reconstructions are: PSNR, SSIM and the error budget of a stack."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from stacked_autoencoder.level import Level
from stacked_autoencoder.principal import to_patches

SSIM_WINDOW = 11  # pixels; smaller images have no SSIM

Budget = dict[int, dict[str, float]]


def psnr(images: np.ndarray, reconstructions: np.ndarray, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Peak signal-to-noise ratio of each image, in dB.

    Args:
        images: `(N, H, W, C)`.
        reconstructions: the same shape.
        value_range: lowest and highest possible value; their distance is the peak.

    Returns:
        `(N,)`; infinite where an image is reproduced exactly.
    """
    error = np.mean(np.square(np.asarray(images, np.float64) - reconstructions), axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10((value_range[1] - value_range[0]) ** 2 / error)


def ssim(images: np.ndarray, reconstructions: np.ndarray, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Structural similarity of each image (Wang et al. 2004), 11x11 Gaussian window.

    Args:
        images: `(N, H, W, C)`.
        reconstructions: the same shape.
        value_range: lowest and highest possible value.

    Returns:
        `(N,)`; NaN where a side is shorter than the window.
    """
    if min(images.shape[1:3]) < SSIM_WINDOW:
        return np.full(len(images), np.nan)
    low, high = value_range
    return tf.image.ssim(images - low, reconstructions - low, max_val=high - low).numpy()


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


def error_budget(
    levels: list[Level],
    batches: Iterable[np.ndarray],
    pad: Callable[[np.ndarray], np.ndarray],
    value_range: tuple[float, float],
) -> Budget:
    """What each level loses, in its own units and in the image's; the columns are those of `Autoencoder.evaluate`."""
    names = ("loss", "full_loss", "psnr", "ssim", "pca_loss", "values", "ratio")
    means = [{name: Mean() for name in names} for _ in levels]
    for images in batches:
        padded = pad(images)
        height, width = images.shape[1:3]
        seen, factor = padded, 1
        for depth, (level, mean) in enumerate(zip(levels, means, strict=True)):
            encodings = level.encode(seen)
            factor *= level.factor
            decoded = level.decode(encodings)
            mean["loss"].add(*squared_error(seen, decoded))
            for lower in reversed(levels[:depth]):
                decoded = lower.decode(decoded)
            decoded = decoded[:, :height, :width]
            mean["full_loss"].add(*squared_error(images, decoded))
            mean["psnr"].add(psnr(images, decoded, value_range).sum(), len(images))
            mean["ssim"].add(ssim(images, decoded, value_range).sum(), len(images))
            mean["values"].add(encodings.size, len(images))
            mean["ratio"].add(images.size / encodings.size * len(images), len(images))
            code = level.linear_code
            if code is not None:
                patches = to_patches(padded, None if level.is_vector else factor).astype(np.float64)
                mean["pca_loss"].add(code.squared_error(patches), patches.size)
            seen = encodings
    return {index: {name: row[name].value for name in names} for index, row in enumerate(means)}
