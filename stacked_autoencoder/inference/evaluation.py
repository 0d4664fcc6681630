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
from stacked_autoencoder.utils.images import Range, cropped

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
                measured = _quality if levels[0].fill_values is None else _quality_with_gaps
                for name, values in measured(wanted, decoded, stack.values.level_ends).items():
                    mean[name].add(values.sum(), len(values))
            mean["values"].add(encodings.size, len(batch))
            mean["ratio"].add(batch.size / encodings.size * len(batch), len(batch))
            code = level.linear_code
            if code is not None:
                side = factor if level.is_image else None
                patches = to_patches(levels[0].filled(padded), side).astype(np.float64)
                if wanted is batch and levels[0].fill_values is None:
                    mean["pca_loss"].add(code.squared_error(patches), patches.size)
                else:
                    targets = to_patches(padded if wanted is batch else padded_target, side).astype(np.float64)
                    errors = (targets - code.restored(patches))[~np.isnan(targets)]
                    mean["pca_loss"].add(float(np.sum(np.square(errors))), errors.size)
            of_level = encodings if wanted is batch else level.encode(level.encoder_inputs(of_level))
            given = encodings
    return {index: {name: row[name].value for name in names} for index, row in enumerate(means)}


def _quality(images: np.ndarray, restored: np.ndarray, value_range: Range) -> dict[str, np.ndarray]:
    return {"psnr": psnr(images, restored, value_range), "ssim": ssim(images, restored, value_range)}


def _quality_with_gaps(images: np.ndarray, restored: np.ndarray, value_range: Range) -> dict[str, np.ndarray]:
    """PSNR of each image over the values that it has, and SSIM of each from which none is missing."""
    is_there = ~np.isnan(images)
    is_whole = is_there.all(axis=(1, 2, 3))
    errors = [
        psnr(image[there][None], other[there][None], value_range)
        for image, other, there in zip(images, restored, is_there, strict=True)
        if there.any()
    ]
    whole = ssim(images[is_whole], restored[is_whole], value_range) if is_whole.any() else np.empty(0)
    return {"psnr": np.array(errors), "ssim": whole}


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
