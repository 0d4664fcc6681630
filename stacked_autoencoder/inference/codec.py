"""Images to encodings and back, in memory, as `Autoencoder.encode`, `decode` and `reconstruct` document it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np

from stacked_autoencoder.data.adapters import Images, as_source
from stacked_autoencoder.inference.tiling import decode_tiles, default_side, encode_tiles, tiler
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.stack import BATCH, Stack
from stacked_autoencoder.utils.checks import check_encodings, described, positive_int
from stacked_autoencoder.utils.forks import check_not_forked
from stacked_autoencoder.utils.images import Shape, cropped, fitting, gather, times
from stacked_autoencoder.utils.seeds import rng_of
from stacked_autoencoder.utils.value_range import UNLIMITED, ValueRange

Tile = int | Literal["auto"] | None


def encode(
    stack: Stack, images: Images, level: int | None = None, tile: Tile = "auto"
) -> np.ndarray | list[np.ndarray]:
    level = stack.index_of(level)
    return _map_batches(stack, images, lambda batch: encode_batch(stack, batch, level, tile, stack.values))


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
    for batch in batches:
        check_encodings(batch.shape, shapes, level)
    decoded = (cropped(decode_batch(stack, batch, level, tile), stack.shape) for batch in batches)
    return gather(map(stack.values.from_level, decoded), count)


def reconstruct(stack: Stack, images: Images, level: int | None = None) -> np.ndarray | list[np.ndarray]:
    level = stack.index_of(level)

    def restored(batch: np.ndarray) -> np.ndarray:
        if len(stack.shape) == 3:  # large images are scaled tile by tile
            values = reconstruct_batch(stack, batch, level, stack.values)
        else:
            given = stack.levels[0].encoder_inputs(stack.values.to_level(batch).numpy())
            values = reconstruct_batch(stack, given, level)
        return stack.values.from_level(values)

    return _map_batches(stack, images, restored)


def sample(stack: Stack, n: int, seed: int | None = None) -> np.ndarray:
    deepest = stack.levels[-1]
    if deepest.posterior is None:
        raise ValueError(
            "`sample` decodes draws from the distribution that a variational level gives its encodings, and the "
            f"deepest level isn't one: make it with `kl_weight=1.0`. Received: {deepest!r}"
        )
    if None in deepest.encoding_shape:
        raise ValueError(
            "`sample` needs to know how large images are: give the Autoencoder `shape=(height, width, channels)`. "
            f"Received: encodings of shape {deepest.encoding_shape}"
        )
    shape = (positive_int("n", n), *deepest.encoding_shape)
    return decode(stack, rng_of(seed).standard_normal(shape, dtype=np.float32))


# === One batch ===


def _scaled(values: ValueRange, level: Level, images: np.ndarray) -> np.ndarray:
    """Images as level 0 sees them."""
    return level.filled(values.to_level(images).numpy())


def encode_batch(
    stack: Stack, images: np.ndarray, level: int, tile: Tile = "auto", values: ValueRange = UNLIMITED
) -> np.ndarray:
    """Images → encodings.

    Args:
        values: scales the images; by default they have the scale of level 0.
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
    """Encodings of a level → images on the scale of level 0, as large as the padded ones."""
    side = _tile_side(stack, tile, times(encodings.shape[1:-1], stack.factor_at(level)), level)
    levels = stack.levels[level::-1]
    if side is not None:
        tiles = tiler(tuple(each.decoder for each in levels))
        return _batch([decode_tiles(tiles, encoding, side) for encoding in encodings])
    for each in levels:
        encodings = each.decode(encodings)
    return encodings


def reconstruct_batch(stack: Stack, images: np.ndarray, level: int, values: ValueRange = UNLIMITED) -> np.ndarray:
    """Images → their reconstructions on the scale of level 0; padded on the way, so the shape stays.

    Args:
        values: scales the images; by default they have the scale of level 0.
    """
    encodings = encode_batch(stack, images, level, "auto", values)
    return cropped(decode_batch(stack, encodings, level, "auto"), images.shape[1:])


def _map_batches(
    stack: Stack, images: Images, make: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray | list[np.ndarray]:
    """What is made of every batch of images as they are, gathered."""
    source = as_source(images, **stack.source_options, finite="images")
    return gather(map(make, source.in_order(BATCH, scale=False)), source.count_of_one_shape())


def _tile_side(stack: Stack, tile: Tile, size: Shape, level: int) -> int | None:
    """Side of the tiles of an image of this size, `None` to take it whole."""
    is_image = stack.levels[level].is_image
    if tile == "auto":
        return default_side(size) if is_image else None
    if tile is None:
        return None
    if isinstance(tile, str):
        raise ValueError(f'`tile` is a side in pixels, `None` for whole images, or "auto". Received: tile={tile!r}')
    if not is_image:
        raise ValueError(
            f"Level {level} encodes as {described(stack.levels[level].encoding_shape)}, each value of which depends "
            "on the whole image, so that there are no tiles: leave `tile` out, or name a level above it. "
            f"Received: tile={tile!r}"
        )
    return positive_int("tile", tile)


def _batch(singles: list[np.ndarray]) -> np.ndarray:
    return singles[0][None] if len(singles) == 1 else np.stack(singles)  # a large one isn't copied
