"""What each level of a stack loses: the error budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stacked_autoencoder.data.adapters import Images, as_source
from stacked_autoencoder.inference.codec import reconstruct_batch
from stacked_autoencoder.levels.stack import BATCH, Stack
from stacked_autoencoder.metrics import Mean, psnr, squared_error, ssim
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


def mean_squared_error(stack: Stack, images: Images) -> float:
    """Mean squared error of the whole stack in image units, averaged over values (not over batches)."""
    source = as_source(images, **stack.source_options, finite="images")
    loss = Mean()
    for batch in source.in_order(BATCH):
        restored = reconstruct_batch(stack, stack.levels[0].encoder_inputs(batch), len(stack.levels) - 1)
        loss.add(*squared_error(*without_masked(stack.levels[0], batch, restored)))
    return loss.value


def error_budget(stack: Stack, images: Images) -> Budget:
    """What each level loses, in its own units and in the image's; the columns are those of `Autoencoder.evaluate`."""
    levels, source = stack.levels, as_source(images, **stack.source_options, finite="images")
    names = ("loss", "full_loss", "psnr", "ssim", "pca_loss", "values", "ratio")
    means = [{name: Mean() for name in names} for _ in levels]
    for batch in source.in_order(BATCH):
        padded = stack.pad(batch)
        given, factor = padded, 1
        for index, (level, mean) in enumerate(zip(levels, means, strict=True)):
            encodings = level.encode(level.encoder_inputs(given))
            factor *= level.factor
            decoded = level.decode(encodings)
            mean["loss"].add(*squared_error(*without_masked(level, given, decoded)))
            for lower in reversed(levels[:index]):
                decoded = lower.decode(decoded)
            decoded = cropped(decoded, batch.shape[1:])
            mean["full_loss"].add(*squared_error(*without_masked(levels[0], batch, decoded)))
            if batch.ndim == 4:
                mean["psnr"].add(psnr(batch, decoded, stack.value_range).sum(), len(batch))
                mean["ssim"].add(ssim(batch, decoded, stack.value_range).sum(), len(batch))
            mean["values"].add(encodings.size, len(batch))
            mean["ratio"].add(batch.size / encodings.size * len(batch), len(batch))
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
    return aligned(rows, str.rjust)
