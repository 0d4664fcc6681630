"""Encoding and decoding in memory; `Autoencoder.encode`, `decode` and `reconstruct` document the arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np

from stacked_autoencoder.data.adapters import Images, as_source
from stacked_autoencoder.inference.tiling import decode_tiles, default_side, encode_tiles, tiler
from stacked_autoencoder.inference.truncation import completed, is_cut
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.stack import BATCH, Stack
from stacked_autoencoder.utils.checks import check_encodings, described, features_to_keep, positive_int
from stacked_autoencoder.utils.forks import check_not_forked
from stacked_autoencoder.utils.images import Shape, cropped, fitting, gather, times
from stacked_autoencoder.utils.seeds import rng_of
from stacked_autoencoder.utils.value_range import UNLIMITED, ValueRange

Tile = int | Literal["auto"] | None


def encode(
    stack: Stack, images: Images, level: int | None = None, tile: Tile = "auto", n_out: int | None = None
) -> np.ndarray | list[np.ndarray]:
    level = stack.index_of(level)
    n_out = features_to_keep(n_out, stack.levels[level].encoding_shape[-1])
    return _map_batches(stack, images, lambda batch: encode_batch(stack, batch, level, tile, stack.values)[..., :n_out])


def decode(
    stack: Stack, encodings: np.ndarray | list[np.ndarray], level: int | None = None, tile: Tile = "auto"
) -> np.ndarray | list[np.ndarray]:
    check_not_forked()
    level = stack.index_of(level)
    if isinstance(encodings, list):
        batches, count = [np.asarray(encoding, np.float32)[None] for encoding in encodings], None
    else:
        array = np.asarray(encodings, np.float32)
        step = fitting(BATCH, (*times(array.shape[1:-1], stack.factor_at(level)), array.shape[-1]))
        count = len(array)
        batches = [array[start : start + step] for start in range(0, max(1, count), step)]
    shapes = [other.encoding_shape for other in stack.levels]
    batches = [completed(stack, batch, level) if is_cut(stack, batch, level) else batch for batch in batches]
    for batch in batches:
        check_encodings(batch.shape, shapes, level)
    decoded = (cropped(decode_batch(stack, batch, level, tile), stack.shape) for batch in batches)
    return gather(map(stack.values.from_level, decoded), count)


def reconstruct(
    stack: Stack, images: Images, level: int | None = None, n_out: int | None = None
) -> np.ndarray | list[np.ndarray]:
    level = stack.index_of(level)
    n_out = features_to_keep(n_out, stack.levels[level].encoding_shape[-1])

    def reconstruct_images(batch: np.ndarray) -> np.ndarray:
        if len(stack.shape) == 3:  # large images are scaled tile by tile
            values = reconstruct_batch(stack, batch, level, stack.values, n_out)
        else:
            inputs = stack.levels[0].encoder_inputs(stack.values.to_level(batch).numpy())
            values = reconstruct_batch(stack, inputs, level, n_out=n_out)
        return stack.values.from_level(values)

    return _map_batches(stack, images, reconstruct_images)


def sample(stack: Stack, n: int, seed: int | None = None) -> np.ndarray:
    deepest = stack.levels[-1]
    if deepest.posterior is None:
        raise ValueError(
            "`sample` needs a variational last level. Create the last level with `kl_weight`, such as `kl_weight=1.0`, "
            f"and train it. Received: {deepest!r}"
        )
    if None in deepest.encoding_shape:
        raise ValueError(
            "`sample` needs images of a fixed size. Create the Autoencoder with `shape=(height, width, channels)`. "
            f"Received: shape={stack.shape}"
        )
    shape = (positive_int("n", n), *deepest.encoding_shape)
    return decode(stack, rng_of(seed).standard_normal(shape, dtype=np.float32))


# === One batch ===


def _scaled(values: ValueRange, level: Level, images: np.ndarray) -> np.ndarray:
    """Scales images to the input of level 0 and fills in missing values."""
    return level.filled(values.to_level(images).numpy())


def encode_batch(
    stack: Stack, images: np.ndarray, level: int, tile: Tile = "auto", values: ValueRange = UNLIMITED
) -> np.ndarray:
    """Encodes a batch of images.

    Args:
        stack: the stack.
        images: `(N, H, W, C)`.
        level: index of the level.
        tile: as in `Autoencoder.encode`.
        values: the value range of the images; by default they are already scaled for level 0.
    """
    side = _tile_side(stack, tile, images.shape[1:-1], level)
    levels = stack.levels[: level + 1]
    if side is not None:
        tiles = tiler(tuple(each.encoder for each in levels))
        scale = partial(_scaled, values, levels[0])
        return _batch([encode_tiles(tiles, image, stack.factor, side, scale) for image in images])
    encodings = stack.pad(values.to_level(images).numpy())
    for each in levels:
        encodings = each.encode(encodings)
    return encodings


def decode_batch(stack: Stack, encodings: np.ndarray, level: int, tile: Tile = "auto") -> np.ndarray:
    """Decodes a batch of encodings to images, scaled as the input of level 0 and still padded."""
    side = _tile_side(stack, tile, times(encodings.shape[1:-1], stack.factor_at(level)), level)
    levels = stack.levels[level::-1]
    if side is not None:
        tiles = tiler(tuple(each.decoder for each in levels))
        return _batch([decode_tiles(tiles, encoding, side) for encoding in encodings])
    for each in levels:
        encodings = each.decode(encodings)
    return encodings


def reconstruct_batch(
    stack: Stack, images: np.ndarray, level: int, values: ValueRange = UNLIMITED, n_out: int | None = None
) -> np.ndarray:
    """Encodes and decodes a batch; the result has the shape of the images and the scale of the input of level 0.

    Args:
        stack: the stack.
        images: `(N, H, W, C)`.
        level: index of the level.
        values: the value range of the images; by default they are already scaled for level 0.
        n_out: number of leading features to keep of each encoding; by default all.
    """
    encodings = encode_batch(stack, images, level, "auto", values)
    encodings = completed(stack, encodings[..., :n_out], level)
    return cropped(decode_batch(stack, encodings, level, "auto"), images.shape[1:])


def _map_batches(
    stack: Stack, images: Images, function: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray | list[np.ndarray]:
    """Applies a function to every batch of unscaled images and gathers the results."""
    source = as_source(images, **stack.source_options, finite="images")
    return gather(map(function, source.in_order(BATCH, scale=False)), source.count_of_one_shape())


def _tile_side(stack: Stack, tile: Tile, size: Shape, level: int) -> int | None:
    """Returns the side of the tiles for an image of this size; `None` to process it whole."""
    is_image = stack.levels[level].is_image
    if tile == "auto":
        return default_side(size) if is_image else None
    if tile is None:
        return None
    if isinstance(tile, str):
        raise ValueError(
            f'`tile` must be a number of pixels, `None` for whole images, or "auto". Received: tile={tile!r}'
        )
    if not is_image:
        raise ValueError(
            f"Level {level} encodes images as {described(stack.levels[level].encoding_shape)}. Each value depends on "
            "the whole image, so images can't be processed in tiles. Remove `tile`, or choose a lower level. "
            f"Received: tile={tile!r}"
        )
    return positive_int("tile", tile)


def _batch(singles: list[np.ndarray]) -> np.ndarray:
    return singles[0][None] if len(singles) == 1 else np.stack(singles)  # avoids copying a large image
