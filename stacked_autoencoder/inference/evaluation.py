"""The mean squared error of a stack, and the error budget of its levels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stacked_autoencoder.data.adapters import Images, as_pairs
from stacked_autoencoder.inference.codec import decode_batch, encode_batch, reconstruct_batch
from stacked_autoencoder.inference.truncation import completed
from stacked_autoencoder.levels.stack import BATCH, Stack
from stacked_autoencoder.metrics import SSIM_WINDOW, Mean, psnr, squared_error, ssim
from stacked_autoencoder.pca import LinearCode, to_patches
from stacked_autoencoder.utils.checks import features_to_keep
from stacked_autoencoder.utils.console import aligned, quotient
from stacked_autoencoder.utils.images import Range, cropped, gather

if TYPE_CHECKING:
    from stacked_autoencoder.levels.base import Level


Budget = dict[int, dict[str, float]]


def without_masked(level: Level, inputs: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the expected and the actual outputs of a level, without masked and missing values."""
    which = level.loss_mask(inputs)
    return (inputs, outputs) if which is None else (inputs[np.asarray(which)], outputs[np.asarray(which)])


def mean_squared_error(stack: Stack, images: Images, targets: Images | None = None) -> float:
    """Returns the mean squared error of the whole stack over all values, on the scale of the input of level 0."""
    loss = Mean()
    for batch, expected in _pairs(stack, images, targets):
        decoded = reconstruct_batch(stack, stack.levels[0].encoder_inputs(batch), len(stack.levels) - 1)
        loss.add(*squared_error(*without_masked(stack.levels[0], expected, decoded)))
    return loss.value


def _pairs(stack: Stack, images: Images, targets: Images | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of images and targets; without targets, both are the same array."""
    return as_pairs(images, targets, **stack.source_options, finite="images").in_order(BATCH)


def errors(stack: Stack, images: Images, targets: Images | None = None) -> np.ndarray:
    """Returns the mean squared error of each image; `Autoencoder.errors` documents it."""
    means = [_means(values, tuple(range(1, values.ndim))) for values in _squared_errors(stack, images, targets)]
    return np.concatenate(means) if means else np.zeros(0)


def error_maps(stack: Stack, images: Images, targets: Images | None = None) -> np.ndarray | list[np.ndarray]:
    """Returns the mean squared error at each place; `Autoencoder.error_maps` documents it."""
    is_vector = len(stack.shape) == 1
    batches = _squared_errors(stack, images, targets)
    return gather(errors if is_vector else _means(errors, (-1,)) for errors in batches)


def _squared_errors(stack: Stack, images: Images, targets: Images | None) -> Iterator[np.ndarray]:
    """Yields the squared errors of the values of each batch, NaN for values that do not count in the loss."""
    first = stack.levels[0]
    for batch, expected in _pairs(stack, images, targets):
        decoded = reconstruct_batch(stack, first.encoder_inputs(batch), len(stack.levels) - 1)
        values = np.square(np.asarray(expected, np.float64) - decoded)
        counts = first.loss_mask(expected)
        if counts is not None:
            counts = np.asarray(counts)
            values = np.where(counts if counts.ndim == values.ndim else counts[..., None], values, np.nan)
        yield values


def _means(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Returns means over axes, without NaN; NaN where no value is left."""
    counts = np.sum(~np.isnan(values), axis=axes)
    with np.errstate(invalid="ignore"):
        return np.nansum(values, axis=axes) / counts


def error_budget(stack: Stack, images: Images, targets: Images | None = None) -> Budget:
    """Returns the error budget, a dict of columns for each level; `Autoencoder.evaluate` documents the columns."""
    levels = stack.levels
    names = ("loss", "full_loss", "psnr", "ssim", "pca_loss", "values", "ratio")
    means = [{name: Mean() for name in names} for _ in levels]
    for batch, expected in _pairs(stack, images, targets):
        padded = stack.pad(batch)
        inputs, factor = padded, 1
        level_expected = padded_expected = padded if expected is batch else stack.pad(expected)
        for index, (level, mean) in enumerate(zip(levels, means, strict=True)):
            encodings = level.encode(level.encoder_inputs(inputs))
            factor *= level.factor
            decoded = level.decode(encodings)
            mean["loss"].add(*squared_error(*without_masked(level, level_expected, decoded)))
            for lower in reversed(levels[:index]):
                decoded = lower.decode(decoded)
            _add_quality(stack, mean, expected, cropped(decoded, batch.shape[1:]))
            mean["values"].add(encodings.size, len(batch))
            mean["ratio"].add(batch.size / encodings.size * len(batch), len(batch))
            if level.linear_code is not None:
                side = factor if level.is_image else None
                mean["pca_loss"].add(*_pca_error(stack, level.linear_code, side, padded, padded_expected))
            level_expected = encodings if expected is batch else level.encode(level.encoder_inputs(level_expected))
            inputs = encodings
    return {index: {name: row[name].value for name in names} for index, row in enumerate(means)}


def _pca_error(
    stack: Stack, code: LinearCode, side: int | None, inputs: np.ndarray, expected: np.ndarray
) -> tuple[float, int]:
    """Returns the sum of squared errors of PCA of padded images, and the number of values."""
    level = stack.levels[0]
    patches = to_patches(level.filled(inputs), side).astype(np.float64)
    if expected is inputs and level.fill_values is None:
        return code.squared_error(patches), patches.size
    targets = to_patches(expected, side).astype(np.float64)
    errors = (targets - code.restored(patches))[~np.isnan(targets)]
    return float(np.sum(np.square(errors))), errors.size


def rate_distortion(stack: Stack, images: Images, n_out: Sequence[int], targets: Images | None = None) -> Budget:
    """Measures the stack with fewer features; `Autoencoder.evaluate` documents the columns."""
    index, level = len(stack.levels) - 1, stack.levels[-1]
    side = stack.factor if level.is_image else None
    names = ("full_loss", "psnr", "ssim", "pca_loss", "values", "ratio")
    means = {features_to_keep(n, level.encoding_shape[-1]): {name: Mean() for name in names} for n in n_out}
    for batch, expected in _pairs(stack, images, targets):
        padded = stack.pad(batch)
        padded_expected = padded if expected is batch else stack.pad(expected)
        encodings = encode_batch(stack, stack.levels[0].encoder_inputs(batch), index)
        for n, mean in means.items():
            decoded = decode_batch(stack, completed(stack, encodings[..., :n], index), index)
            _add_quality(stack, mean, expected, cropped(decoded, batch.shape[1:]))
            count = encodings[..., :n].size
            mean["values"].add(count, len(batch))
            mean["ratio"].add(batch.size / count * len(batch), len(batch))
            if level.linear_code is not None:
                code = level.linear_code.leading(n)
                mean["pca_loss"].add(*_pca_error(stack, code, side, padded, padded_expected))
    return {n: {name: row[name].value for name in names} for n, row in sorted(means.items())}


def _add_quality(stack: Stack, mean: dict[str, Mean], expected: np.ndarray, decoded: np.ndarray) -> None:
    """Adds the full loss and the quality of a batch of decoded images."""
    first = stack.levels[0]
    mean["full_loss"].add(*squared_error(*without_masked(first, expected, decoded)))
    if expected.ndim == 4:
        quality = _quality if first.fill_values is None else _quality_with_missing
        for name, values in quality(expected, decoded, stack.values.level_ends).items():
            mean[name].add(values.sum(), len(values))


def _quality(images: np.ndarray, decoded: np.ndarray, value_range: Range) -> dict[str, np.ndarray]:
    return {"psnr": psnr(images, decoded, value_range), "ssim": ssim(images, decoded, value_range)}


def _quality_with_missing(images: np.ndarray, decoded: np.ndarray, value_range: Range) -> dict[str, np.ndarray]:
    """Returns the PSNR of each image over its present values, and the SSIM of each image without missing values."""
    is_present = ~np.isnan(images)
    is_complete = is_present.all(axis=(1, 2, 3))
    errors = [
        psnr(image[present][None], other[present][None], value_range)
        for image, other, present in zip(images, decoded, is_present, strict=True)
        if present.any()
    ]
    similarity = ssim(images[is_complete], decoded[is_complete], value_range) if is_complete.any() else np.empty(0)
    return {"psnr": np.array(errors), "ssim": similarity}


def table(budget: Budget) -> list[str]:
    """Formats an error budget as lines of text, with a row for each level. The stack must be one for images."""
    rows = [["level", "values", "ratio", "full loss", "PCA loss", "loss / PCA loss", "PSNR (dB)", "SSIM"]]
    for index, row in budget.items():
        losses = f"{row['full_loss']:.2e}", f"{row['pca_loss']:.2e}", quotient(row["full_loss"], row["pca_loss"])
        sizes = f"{row['values']:,.0f}", f"{row['ratio']:.1f}"
        rows.append([str(index), *sizes, *losses, f"{row['psnr']:.1f}", f"{row['ssim']:.3f}"])
    notes = []
    if any(math.isnan(row["ssim"]) for row in budget.values()):
        notes = [f"SSIM is defined for images of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels."]
    return aligned(rows, str.rjust) + notes
