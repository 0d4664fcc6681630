"""Image shapes, batches and values: scaling, padding, cropping, mosaics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from stacked_autoencoder.utils.value_range import UNKNOWN, Range

Shape = tuple[int | None, ...]

PIXELS = 1 << 22  # in a batch that isn't trained on
OPEN_SIDE = 512  # what a side is taken for that isn't known


def joined_neighbours(batches: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Small batches → as many neighbours of one size as fit into a batch, in order."""
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
    """How many images of such a shape to take at once: fewer where they are large, as those of an open size may be."""
    return max(1, min(batch_size, PIXELS // math.prod(side or OPEN_SIDE for side in shape[:-1])))


def index_batches(
    sizes: Sequence[Shape] | None, count: int, batch_size: int, rng: np.random.Generator | None
) -> list[np.ndarray]:
    """Which images make up each batch: in order, or shuffled within and across sizes.

    Args:
        sizes: of each image, since a batch holds one size; `None` where all are alike.
        count: number of images.
        rng: shuffles; `None` for the order they have.
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
    """float32, `uint8` as [-1, 1]."""
    return UNKNOWN.to_level(images)


def without_missing(values: np.ndarray | tf.Tensor, replacements: np.ndarray) -> np.ndarray | tf.Tensor:
    """Puts the number of its channel or column, `replacements` `(channels,)`, in place of each NaN."""
    if isinstance(values, tf.Tensor):
        return tf.where(tf.math.is_nan(values), tf.constant(replacements, values.dtype), values)
    is_missing = np.isnan(values)
    return np.where(is_missing, replacements.astype(values.dtype), values) if is_missing.any() else values


def pad_by_reflection(images: tf.Tensor, multiple: int) -> tf.Tensor:
    """Makes height and width of `(N, H, W, C)` multiples of `multiple`, below and on the right."""
    if multiple == 1:
        return images
    size = tf.shape(images)[1:3]
    more = -size % multiple
    padded = tf.pad(images, [[0, 0], [0, more[0]], [0, more[1]], [0, 0]], mode="REFLECT")
    padded.set_shape((images.shape[0], *padded_shape(tuple(images.shape[1:]), multiple)))
    return padded


def cropped(images: np.ndarray, shape: Shape) -> np.ndarray:
    """Takes off what `pad_by_reflection` added to images of such a shape, `None` where all of a side is to stay."""
    if images.ndim != 4:
        return images
    return images[:, : shape[0], : shape[1]]


def padded_shape(shape: Shape, multiple: int) -> Shape:
    """What `pad_by_reflection` makes of images of such a shape, `None` where a side is open."""
    if len(shape) != 3:
        return tuple(shape)
    return (*(side if side is None else side + -side % multiple for side in shape[:2]), shape[-1])


def times(size: Shape, factor: int) -> Shape:
    """Height and width of the images behind encodings, `None` where a side is open."""
    return tuple(side if side is None else side * factor for side in size)


def gather(batches: Iterable[np.ndarray], count: int | None = None) -> np.ndarray | list[np.ndarray]:
    """One array where all shapes agree, a list of single ones where they don't.

    Args:
        count: how many there are in all batches, at most, where all are known to have one shape: they are then taken
            into one array as they come, which needs half the memory of joining them in the end.
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
    if len(batches) == 1 and batches[0].flags.writeable:  # nothing to join, so nothing to copy
        return batches[0]
    if len({batch.shape[1:] for batch in batches}) == 1:
        return np.concatenate(batches)
    return [single for batch in batches for single in batch]


def as_shown(images: np.ndarray, value_range: Range) -> np.ndarray:
    """Images as they are drawn: `(N, H, W, 3)` in [0, 1]. What overshoots the range is cut off; `uint8` is known.

    Raises:
        ValueError: they have other channels than one or three.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"`images` must be (N, H, W, 1 or 3) to be drawn. Received: shape={images.shape}")
    low, high = (0.0, 255.0) if images.dtype == np.uint8 else value_range
    shown = np.clip((images - np.float32(low)) / (high - low), 0, 1)
    return np.broadcast_to(shown, (*images.shape[:3], 3))


def mosaic(tiles: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """`(N, H, W, C)` in rows of so many, as one `(…, …, C)`; between them, and what is left, is NaN."""
    count, height, width, channels = tiles.shape
    rows = max(1, -(-count // columns))
    placed = np.full((rows * columns, height + gap, width + gap, channels), np.nan, np.float32)
    placed[:count, :height, :width] = tiles
    placed = placed.reshape(rows, columns, height + gap, width + gap, channels).transpose(0, 2, 1, 3, 4)
    return placed.reshape(rows * (height + gap), columns * (width + gap), channels)[: -gap or None, : -gap or None]


def as_pixels(images: np.ndarray, value_range: Range) -> np.ndarray:
    """Images as a PNG file holds them; what lies beyond their range is clipped.

    A range within 0 to 65535 that 8 bits don't hold gives the same numbers as `uint16`. Any other is scaled to `uint8`.
    """
    low, high = value_range
    if low >= 0 and 255 < high <= 65535:
        return np.rint(np.clip(images, low, high)).astype(np.uint16)
    return as_bytes(images, value_range)


def as_bytes(images: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Floats in a range (what lies beyond is clipped) → `uint8`; `uint8` as it is."""
    if images.dtype == np.uint8:
        return images
    low, high = value_range
    return np.rint(255 * np.clip((images - low) / (high - low), 0, 1)).astype(np.uint8)


def widened(low: float, high: float) -> tuple[float, float]:
    """A range of values, made wider around data that are all the same, since images are scaled by its width."""
    if low < high:
        return low, high
    return low - max(1.0, abs(low)) / 2, high + max(1.0, abs(high)) / 2
