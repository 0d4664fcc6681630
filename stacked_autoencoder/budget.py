"""What each level of a stack loses: the error budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stacked_autoencoder.metrics import psnr, ssim
from stacked_autoencoder.principal import to_patches
from stacked_autoencoder.sources.base import cropped

if TYPE_CHECKING:
    from stacked_autoencoder.level import Level

Budget = dict[int, dict[str, float]]


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


def counted(level: Level, inputs: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a level should give for a batch and what it gives, without what doesn't count."""
    which = level.counted(inputs)
    return (inputs, outputs) if which is None else (inputs[np.asarray(which)], outputs[np.asarray(which)])


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
        given, factor = padded, 1
        for depth, (level, mean) in enumerate(zip(levels, means, strict=True)):
            encodings = level.encode(level.seen(given))
            factor *= level.factor
            decoded = level.decode(encodings)
            mean["loss"].add(*squared_error(*counted(level, given, decoded)))
            for lower in reversed(levels[:depth]):
                decoded = lower.decode(decoded)
            decoded = cropped(decoded, images.shape[1:])
            mean["full_loss"].add(*squared_error(*counted(levels[0], images, decoded)))
            if images.ndim == 4:
                mean["psnr"].add(psnr(images, decoded, value_range).sum(), len(images))
                mean["ssim"].add(ssim(images, decoded, value_range).sum(), len(images))
            mean["values"].add(encodings.size, len(images))
            mean["ratio"].add(images.size / encodings.size * len(images), len(images))
            code = level.linear_code
            if code is not None:
                patches = to_patches(padded, factor if level.is_image else None).astype(np.float64)
                mean["pca_loss"].add(code.squared_error(patches), patches.size)
            given = encodings
    return {index: {name: row[name].value for name in names} for index, row in enumerate(means)}


def table(budget: Budget) -> list[str]:
    """The budget of a stack as lines to print, a row for each level; of images, not of sequences."""
    rows = [["level", "values", "ratio", "full loss", "PCA's loss", "of PCA's", "PSNR dB", "SSIM"]]
    for index, row in budget.items():
        losses = f"{row['full_loss']:.2e}", f"{row['pca_loss']:.2e}", f"{row['full_loss'] / row['pca_loss']:.2f}"
        sizes = f"{row['values']:,.0f}", f"{row['ratio']:.1f}"
        rows.append([str(index), *sizes, *losses, f"{row['psnr']:.1f}", f"{row['ssim']:.3f}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
