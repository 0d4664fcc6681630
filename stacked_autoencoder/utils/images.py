"""Image shapes, batches and values: scaling, padding, cropping, mosaics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.utils.value_range import UNKNOWN, Range

Shape = tuple[int | None, ...]

PIXELS = 1 << 22  # most pixels in a batch outside of training
OPEN_SIDE = 512  # assumed length of a side of unknown length


def joined_neighbours(batches: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Joins neighbouring batches of one size up to the batch size, and keeps the order."""
    waiting: list[np.ndarray] = []
    for images in batches:
        full = sum(map(len, waiting)) + len(images) > fitting(batch_size, images.shape[1:])
        if waiting and (full or waiting[0].shape[1:] != images.shape[1:]):
            yield np.concatenate(waiting)
            waiting = []
        waiting.append(images)
    if waiting:
        yield np.concatenate(waiting)


def fitting(batch_size: int, shape: Shape) -> int:
    """Returns the batch size for images of this shape: `batch_size`, or fewer if the images are large."""
    return max(1, min(batch_size, PIXELS // math.prod(side or OPEN_SIDE for side in shape[:-1])))


def index_batches(
    sizes: Sequence[Shape] | None, count: int, batch_size: int, rng: np.random.Generator | None
) -> list[np.ndarray]:
    """Plans which images make up each batch: in order, or shuffled within and across sizes.

    Args:
        sizes: shape of each image, since a batch holds images of one size; `None` if all are equal.
        count: number of images.
        batch_size: images per batch.
        rng: generator that shuffles the images; `None` keeps their order.

    Returns:
        List of int64 arrays of indices, one per batch.
    """
    order = np.arange(count) if rng is None else rng.permutation(count)
    if sizes is None:
        return [order[start : start + batch_size] for start in range(0, count, batch_size)]
    by_size: dict[Shape, list[int]] = {}
    for index in order:
        by_size.setdefault(sizes[index], []).append(index)
    plan = [
        np.array(indices[start : start + batch_size])
        for indices in by_size.values()
        for start in range(0, len(indices), batch_size)
    ]
    return plan if rng is None else [plan[index] for index in rng.permutation(len(plan))]


def scaled(images: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Converts images to float32. `uint8` is scaled to [-1, 1], floats keep their values."""
    return UNKNOWN.to_level(images)


def without_missing(
    values: np.ndarray | tf.Tensor | keras.KerasTensor, replacements: np.ndarray
) -> np.ndarray | tf.Tensor | keras.KerasTensor:
    """Replaces each NaN by the value of its channel or column in `replacements`, `(channels,)`."""
    if not isinstance(values, np.ndarray):
        dtype = keras.backend.standardize_dtype(values.dtype)
        return ops.where(ops.isnan(values), replacements.astype(dtype), values)
    is_missing = np.isnan(values)
    return np.where(is_missing, replacements.astype(values.dtype), values) if is_missing.any() else values


def pad_by_reflection(images: tf.Tensor, multiple: int) -> tf.Tensor:
    """Pads height and width of `(N, H, W, C)` to multiples of `multiple`, at the bottom and on the right."""
    if multiple == 1:
        return images
    size = tf.shape(images)[1:3]
    more = -size % multiple
    padded = tf.pad(images, [[0, 0], [0, more[0]], [0, more[1]], [0, 0]], mode="REFLECT")
    padded.set_shape((images.shape[0], *padded_shape(tuple(images.shape[1:]), multiple)))
    return padded


def cropped(images: np.ndarray, shape: Shape) -> np.ndarray:
    """Removes the padding of `pad_by_reflection` from images that had this shape. `None` keeps the whole side."""
    if images.ndim != 4:
        return images
    return images[:, : shape[0], : shape[1]]


def padded_shape(shape: Shape, multiple: int) -> Shape:
    """Returns the shape of images after `pad_by_reflection`. `None` stands for a side of unknown length."""
    if len(shape) != 3:
        return tuple(shape)
    return (*(side if side is None else side + -side % multiple for side in shape[:2]), shape[-1])


def times(size: Shape, factor: int) -> Shape:
    """Returns the height and width of images whose encodings have this size. `None` stands for any length."""
    return tuple(side if side is None else side * factor for side in size)


def gather(batches: Iterable[np.ndarray], count: int | None = None) -> np.ndarray | list[np.ndarray]:
    """Joins batches into one array if all shapes are equal, into a list of single images otherwise.

    Args:
        batches: arrays `(n, …)`.
        count: maximum number of images in all batches, if all have one shape. The images are then copied into one
            array as they arrive, which needs half the memory of joining them at the end.
    """
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        return []
    if count is None or len(first) >= count:
        return _joined([first, *batches])
    whole = np.empty((count, *first.shape[1:]), first.dtype)
    filled = len(first)
    whole[:filled] = first
    for batch in batches:
        whole[filled : filled + len(batch)] = batch
        filled += len(batch)
    return whole[:filled]


def _joined(batches: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    if len(batches) == 1 and batches[0].flags.writeable:  # no copy needed
        return batches[0]
    if len({batch.shape[1:] for batch in batches}) == 1:
        return np.concatenate(batches)
    return [single for batch in batches for single in batch]


def as_shown(images: np.ndarray, value_range: Range) -> np.ndarray:
    """Converts images for drawing: `(N, H, W, 3)` in [0, 1]. Values outside of the range are clipped.

    Args:
        images: `(N, H, W, 1 or 3)`, floats in `value_range`, or uint8 from 0 to 255.
        value_range: lowest and highest value of float images.

    Raises:
        ValueError: the number of channels is neither 1 nor 3.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"`images` must be (N, H, W, 1 or 3) to be drawn. Received: shape={images.shape}")
    low, high = (0.0, 255.0) if images.dtype == np.uint8 else value_range
    shown = np.clip((images - np.float32(low)) / (high - low), 0, 1)
    return np.broadcast_to(shown, (*images.shape[:3], 3))


def mosaic(tiles: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Arranges `(N, H, W, C)` in rows of `columns` images, as one `(…, …, C)`. Gaps and unused cells are NaN."""
    count, height, width, channels = tiles.shape
    rows = max(1, -(-count // columns))
    placed = np.full((rows * columns, height + gap, width + gap, channels), np.nan, np.float32)
    placed[:count, :height, :width] = tiles
    placed = placed.reshape(rows, columns, height + gap, width + gap, channels).transpose(0, 2, 1, 3, 4)
    return placed.reshape(rows * (height + gap), columns * (width + gap), channels)[: -gap or None, : -gap or None]


def as_pixels(images: np.ndarray, value_range: Range) -> np.ndarray:
    """Converts images to the integers of a PNG file. Values outside of the range are clipped.

    A range within 0 to 65535 that 8 bits cannot hold is kept as `uint16`. Any other range is scaled to `uint8`.
    """
    low, high = value_range
    if low >= 0 and 255 < high <= 65535:
        return np.rint(np.clip(images, low, high)).astype(np.uint16)
    return as_bytes(images, value_range)


def as_bytes(images: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Scales floats from a range to `uint8` and clips values outside of it. `uint8` is returned unchanged."""
    if images.dtype == np.uint8:
        return images
    low, high = value_range
    return np.rint(255 * np.clip((images - low) / (high - low), 0, 1)).astype(np.uint8)


def widened(low: float, high: float) -> tuple[float, float]:
    """Returns a range of positive width. If all data are equal, the range is widened, so that it can be a divisor."""
    if low < high:
        return low, high
    return low - max(1.0, abs(low)) / 2, high + max(1.0, abs(high)) / 2
