"""Computes the features of `AnomalyDetector` for images, and for encodings that are read from a store."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from stacked_autoencoder.data.adapters import Images, as_source
from stacked_autoencoder.data.source import Source
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.heads.anomaly_features import POOL, STRIDE
from stacked_autoencoder.heads.level_detector import LevelDetector, LevelFeatures
from stacked_autoencoder.inference.tiling import ReceptiveField, default_side, for_any_size, reflected
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.stack import BATCH, Stack
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.utils.images import Shape, fitting, padded_shape, times

LEAST_SIDE = 2  # of encodings; windows reach two places beyond the border

FeaturesByLevel = dict[int, LevelFeatures]


def store_of(images: Images) -> EncodingStore | None:
    """Returns the store of images that are a store, or a pair of a store and labels."""
    first = images[0] if isinstance(images, tuple) and len(images) == 2 else images
    return first if isinstance(first, EncodingStore) else None


def source_of(stack: Stack, images: Images) -> Source:
    """Returns the source of images, or of the encodings of a store.

    Raises:
        ValueError: they do not fit the stack.
    """
    store = store_of(images)
    if store is None:
        return as_source(images, **stack.source_options, finite="images")
    return StoreSource(store, stack.levels[level_of_store(stack, store)].encoding_shape)


def level_of_store(stack: Stack, store: EncodingStore) -> int:
    """Returns the index of the level that made the encodings of a store.

    Raises:
        ValueError: another stack made them.
    """
    level = stack.level_of(store.encoder)
    if level is None:
        raise ValueError(
            "The store contains encodings of another stack, or of this stack before further training. Encode the "
            f"images with this stack: `sae.encode_to(path, images)`. Received: {str(store.path)!r}"
        )
    return level


def features_of(
    stack: Stack, parts: dict[int, LevelDetector], source: Source
) -> Iterator[tuple[Shape, FeaturesByLevel]]:
    """Yields the shape of the images of each batch, and their features at several levels.

    Args:
        stack: the stack.
        parts: the detectors of the levels, by level index.
        source: what `source_of` returned.

    Raises:
        ValueError: images are too small.
    """
    if isinstance(source, StoreSource):
        yield from _features_of_store(stack, parts, source)
        return
    for batch in source.in_order(fitting(BATCH, source.shape), scale=False):
        shape = batch.shape[1:]
        side = _tile_side(stack, parts, shape)
        if side is None:
            yield shape, _features_of_batch(stack, parts, stack.pad(_scaled(stack, batch)))
        else:
            for image in batch:
                yield shape, _features_of_tiles(stack, parts, image, side)


def encoder_inputs(parts: dict[int, LevelDetector], level: Level, inputs: Any) -> Any:
    """Returns what a level encodes: the inputs or, for errors of predictions, what they are predicted from."""
    return level.encoder_inputs(inputs) if next(iter(parts.values())).uses_errors else inputs


def _scaled(stack: Stack, images: np.ndarray) -> np.ndarray:
    return stack.values.to_level(images).numpy()


def _features_of_batch(stack: Stack, parts: dict[int, LevelDetector], images: np.ndarray) -> FeaturesByLevel:
    """Returns the features of padded images on the scale of level 0."""
    features, inputs = {}, images
    for index, level in enumerate(stack.levels[: max(parts) + 1]):
        encodings = level.encode(encoder_inputs(parts, level, inputs))
        if encodings.ndim == 4 and min(encodings.shape[1:3]) < LEAST_SIDE:
            raise ValueError(
                f"Images must have at least {LEAST_SIDE} encodings in height and width, which is "
                f"{LEAST_SIDE * stack.factor_at(index)} pixels at level {index}. Use larger images, or leave out this "
                "level, for example with `AnomalyDetector(sae, levels=[0])`. "
                f"Received: images of {images.shape[1]}x{images.shape[2]} pixels, with padding"
            )
        if index in parts:
            features[index] = parts[index].features(encodings, inputs, images)
        inputs = encodings
    return features


def _features_of_store(
    stack: Stack, parts: dict[int, LevelDetector], source: StoreSource
) -> Iterator[tuple[Shape, FeaturesByLevel]]:
    first = level_of_store(stack, source.store)
    for encodings in source.in_order(fitting(BATCH, source.shape)):
        shape, features = _image_shape(stack, first, encodings.shape[1:]), {}
        for index in range(first, max(parts) + 1):
            level = stack.levels[index]
            if index > first:
                encodings = level.encode(encodings)
            if index in parts:
                features[index] = parts[index].features(encodings, None, None)
        yield shape, features


def _image_shape(stack: Stack, level: int, encoding: Shape) -> Shape:
    """Returns the shape of the image of an encoding. Open sides are those of the padded image."""
    if len(encoding) < 3:
        return stack.shape
    sides = times(encoding[:-1], stack.factor_at(level))
    return (*(side or pixels for side, pixels in zip(stack.shape, sides, strict=False)), stack.shape[-1])


# === Large images ===


def _tile_side(stack: Stack, parts: dict[int, LevelDetector], shape: Shape) -> int | None:
    """Returns the side of the tiles in which an image is processed, or `None` to process it whole."""
    is_open = len(shape) == 3 and stack.shape[:2] == (None, None)
    return default_side(shape[:-1]) if is_open and all(part.level.is_image for part in parts.values()) else None


def _features_of_tiles(stack: Stack, parts: dict[int, LevelDetector], image: np.ndarray, side: int) -> FeaturesByLevel:
    """Returns the features of one large image, as `_features_of_batch` does, without its large intermediate results.

    Args:
        stack: the stack.
        parts: the detectors of the levels.
        image: `(H, W, C)`, not scaled.
        side: side of a tile, in pixels.
    """
    unit = STRIDE * stack.factor  # pixels; tiles start at multiples, so that each level has a feature vector there
    padded = padded_shape(image.shape, stack.factor)[:2]
    halo = math.ceil(_reach(stack, parts) / unit)
    rows, columns = (_spans(math.ceil(pixels / unit), max(1, side // unit), halo) for pixels in padded)
    grid = []
    for row in rows:
        tiles = []
        for column in columns:
            pixels = [
                slice(span.start * unit, min(span.stop * unit, end))
                for (span, _), end in zip((row, column), padded, strict=True)
            ]
            features = _features_of_batch(stack, parts, _scaled(stack, reflected(image, *pixels)[None]))
            tiles.append(
                {
                    index: _cut(values.features, row[1], column[1], unit // (STRIDE * stack.factor_at(index)))
                    for index, values in features.items()
                }
            )
        grid.append(tiles)
    joined = {
        index: np.concatenate([np.concatenate([tile[index] for tile in tiles], axis=2) for tiles in grid], axis=1)
        for index in parts
    }
    return {index: LevelFeatures(features, None) for index, features in joined.items()}


def _reach(stack: Stack, parts: dict[int, LevelDetector]) -> int:
    """Returns how many pixels around a feature vector it depends on."""
    field, reach = ReceptiveField(), 0
    for index, level in enumerate(stack.levels[: max(parts) + 1]):
        _, field = for_any_size(level.encoder, field)
        reach = max(reach, (max(field.halo) + POOL) * stack.factor_at(index))
    return reach


def _spans(count: int, step: int, halo: int) -> list[tuple[slice, slice]]:
    """Returns, for each tile along an axis, the span with its halo, and the span without it within the former."""
    spans = []
    for start in range(0, count, step):
        stop, first = min(start + step, count), max(0, start - halo)
        spans.append((slice(first, min(count, stop + halo)), slice(start - first, stop - first)))
    return spans


def _cut(features: np.ndarray, rows: slice, columns: slice, places: int) -> np.ndarray:
    """Returns the features of a tile without its halo; `places` is the number of feature vectors in a unit."""
    window: list[Any] = [slice(span.start * places, span.stop * places) for span in (rows, columns)]
    return features[:, window[0], window[1]]
