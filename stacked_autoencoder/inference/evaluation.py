"""What each level of a stack loses: the error budget."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from stacked_autoencoder.data.adapters import Images, as_pairs
from stacked_autoencoder.inference.codec import reconstruct_batch
from stacked_autoencoder.levels.stack import BATCH, Stack
from stacked_autoencoder.metrics import SSIM_WINDOW, Mean, psnr, squared_error, ssim
from stacked_autoencoder.pca import to_patches
from stacked_autoencoder.utils.console import aligned
from stacked_autoencoder.utils.images import cropped

if TYPE_CHECKING:
    from stacked_autoencoder.levels.base import Level


Budget = dict[int, dict[str, float]]


def without_masked(level: Level, inputs: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a level should give for a batch and what it gives, without what doesn't count."""
    which = level.loss_mask(inputs)
    return (inputs, outputs) if which is None else (inputs[np.asarray(which)], outputs[np.asarray(which)])


def mean_squared_error(stack: Stack, images: Images, targets: Images | None = None) -> float:
    """Mean squared error of the whole stack on the scale of level 0, averaged over values (not over batches)."""
    loss = Mean()
    for batch, wanted in _pairs(stack, images, targets):
        restored = reconstruct_batch(stack, stack.levels[0].encoder_inputs(batch), len(stack.levels) - 1)
        loss.add(*squared_error(*without_masked(stack.levels[0], wanted, restored)))
    return loss.value


def _pairs(stack: Stack, images: Images, targets: Images | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of images, and of what they should be restored to: the same arrays without targets."""
    return as_pairs(images, targets, **stack.source_options, finite="images").in_order(BATCH)


def error_budget(stack: Stack, images: Images, targets: Images | None = None) -> Budget:
    """What each level loses, in its own units and in the image's; the columns are those of `Autoencoder.evaluate`."""
    levels = stack.levels
    names = ("loss", "full_loss", "psnr", "ssim", "pca_loss", "values", "ratio")
    means = [{name: Mean() for name in names} for _ in levels]
    for batch, wanted in _pairs(stack, images, targets):
        padded = stack.pad(batch)
        given, factor = padded, 1
        of_level = padded_target = padded if wanted is batch else stack.pad(wanted)
        for index, (level, mean) in enumerate(zip(levels, means, strict=True)):
            encodings = level.encode(level.encoder_inputs(given))
            factor *= level.factor
            decoded = level.decode(encodings)
            mean["loss"].add(*squared_error(*without_masked(level, of_level, decoded)))
            for lower in reversed(levels[:index]):
                decoded = lower.decode(decoded)
            decoded = cropped(decoded, batch.shape[1:])
            mean["full_loss"].add(*squared_error(*without_masked(levels[0], wanted, decoded)))
            if batch.ndim == 4:
                mean["psnr"].add(psnr(wanted, decoded, stack.values.level_ends).sum(), len(batch))
                mean["ssim"].add(ssim(wanted, decoded, stack.values.level_ends).sum(), len(batch))
            mean["values"].add(encodings.size, len(batch))
            mean["ratio"].add(batch.size / encodings.size * len(batch), len(batch))
            code = level.linear_code
            if code is not None:
                patch = factor if level.is_image else None
                patches = to_patches(padded, patch).astype(np.float64)
                if wanted is batch:
                    error = code.squared_error(patches)
                else:
                    error = code.squared_error_to(to_patches(padded_target, patch).astype(np.float64), patches)
                mean["pca_loss"].add(error, patches.size)
            of_level = encodings if wanted is batch else level.encode(level.encoder_inputs(of_level))
            given = encodings
    return {index: {name: row[name].value for name in names} for index, row in enumerate(means)}


def table(budget: Budget) -> list[str]:
    """The budget of a stack as lines to print, a row for each level; of images, not of sequences."""
    rows = [["level", "values", "ratio", "full loss", "PCA loss", "loss / PCA loss", "PSNR (dB)", "SSIM"]]
    for index, row in budget.items():
        losses = f"{row['full_loss']:.2e}", f"{row['pca_loss']:.2e}", _quotient(row["full_loss"], row["pca_loss"])
        sizes = f"{row['values']:,.0f}", f"{row['ratio']:.1f}"
        rows.append([str(index), *sizes, *losses, f"{row['psnr']:.1f}", f"{row['ssim']:.3f}"])
    notes = []
    if any(math.isnan(row["ssim"]) for row in budget.values()):
        notes = [f"SSIM is defined for pictures of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels."]
    return aligned(rows, str.rjust) + notes


def _quotient(loss: float, pca_loss: float) -> str:
    """Loss / PCA loss; PCA restores some pictures exactly, such as black ones."""
    if pca_loss == 0:
        return "0 / 0" if loss == 0 else "inf"
    return f"{loss / pca_loss:.2f}"
