"""Reads images, or encodings in a store, and computes the features that `AnomalyDetector` compares."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.adapters import Images, as_source
from stacked_autoencoder.data.source import Source
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.heads.anomaly_features import POOL, STRIDE
from stacked_autoencoder.heads.level_detector import LevelDetector, LevelFeatures
from stacked_autoencoder.inference.tiling import (
    ReceptiveField,
    default_side,
    for_any_size,
    magnified,
    reflected,
    windows,
)
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


@dataclass(frozen=True)
class FeatureReader:
    """Computes the features of images, or of encodings in a store, at several levels.

    Attributes:
        stack: the stack.
        parts: the detectors of the levels, by level index.
        uses_errors: whether errors of the reconstruction are features, so that a store can't be read.
    """

    stack: Stack
    parts: dict[int, LevelDetector]
    uses_errors: bool

    def source_of(self, images: Images) -> tuple[Source, int | None]:
        """Returns the source of images, or of the encodings of a store, and the level of the store.

        Raises:
            ValueError: they do not fit the stack or the detectors of the levels.
        """
        store = store_of(images)
        if store is None:
            return as_source(images, **self.stack.source_options, finite="images"), None
        if self.uses_errors:
            raise ValueError(
                "The detector was fitted to images, and compares errors of their reconstruction, which are not known "
                "for encodings in a store. Pass images, or fit another detector to a store. Received: "
                f"{str(store.path)!r}"
            )
        level, lowest = self.stack.level_of(store.encoder), min(self.parts)
        if level is None:
            raise ValueError(
                "The store contains encodings of another stack, or of this stack before further training. Encode the "
                f"images with this stack: `sae.encode_to(path, images)`. Received: {str(store.path)!r}"
            )
        if level > lowest:
            raise ValueError(
                f"The encodings of level {level} do not contain those of level {lowest}. Use a store of level "
                f"{lowest}, or leave out the lower levels: `AnomalyDetector(sae, levels="
                f"{[*range(level, len(self.stack.levels))]})`. Received: {str(store.path)!r}"
            )
        return StoreSource(store, self.stack.levels[level].encoding_shape), level

    def read(self, source: Source, store_level: int | None) -> Iterator[tuple[Shape, FeaturesByLevel]]:
        """Yields the shape of the images of each batch, and their features.

        Args:
            source: source of images, or of encodings of a store, as `source_of` returns it.
            store_level: index of the level of the encodings; `None` for images.

        Raises:
            ValueError: images are too small.
        """
        if store_level is not None:
            for encodings in source.in_order(fitting(BATCH, source.shape)):
                shape = _image_shape(self.stack, store_level, encodings.shape[1:])
                yield shape, self._of_encodings(store_level, encodings)
            return
        for batch in source.in_order(fitting(BATCH, source.shape), scale=False):
            shape = batch.shape[1:]
            side = self._tile_side(shape)
            if side is None:
                yield shape, self._of_images(self.stack.pad(self._scaled(batch)))
            else:
                for image in batch:
                    yield shape, self._of_tiles(image, side)

    def encoder_inputs(self, level: Level, inputs: Any) -> Any:
        """Returns what a level encodes: the inputs or, for errors of predictions, what they are predicted from."""
        return level.encoder_inputs(inputs) if self.uses_errors else inputs

    def _scaled(self, images: np.ndarray) -> tf.Tensor:
        return self.stack.values.to_level(images)

    def _of_images(self, images: tf.Tensor) -> FeaturesByLevel:
        """Returns the features of padded images on the scale of level 0."""
        level = self.stack.levels[0]
        return self._of_encodings(0, level.encode(self.encoder_inputs(level, images)), images)

    def _of_encodings(self, first: int, encodings: np.ndarray, images: tf.Tensor | None = None) -> FeaturesByLevel:
        """Returns the features of encodings.

        Args:
            first: index of the level that made the encodings, 0 for encodings of `images`.
            encodings: the encodings.
            images: the images; `None` for encodings of a store.
        """
        features, inputs = {}, images
        for index in range(first, max(self.parts) + 1):
            if index > first:
                level = self.stack.levels[index]
                inputs, encodings = encodings, level.encode(self.encoder_inputs(level, encodings))
            self._check_sides(index, encodings.shape[1:])
            if index in self.parts:
                features[index] = self.parts[index].features(encodings, inputs, images)
        return features

    def _check_sides(self, index: int, encoding: Shape) -> None:
        if len(encoding) < 3 or min(encoding[:2]) >= LEAST_SIDE:
            return
        factor = self.stack.factor_at(index)
        height, width = times(encoding[:2], factor)
        raise ValueError(
            f"Images must have at least {LEAST_SIDE} encodings in height and width, which is {LEAST_SIDE * factor} "
            f"pixels at level {index}. Use larger images, or leave out this level, for example with "
            f"`AnomalyDetector(sae, levels=[0])`. Received: images of {height}x{width} pixels, with padding"
        )

    # === Large images ===

    def _tile_side(self, shape: Shape) -> int | None:
        """Returns the side of the tiles in which an image is processed, or `None` to process it whole."""
        is_open = len(shape) == 3 and self.stack.shape[:2] == (None, None)
        are_images = all(part.level.is_image for part in self.parts.values())
        return default_side(shape[:-1]) if is_open and are_images else None

    def _of_tiles(self, image: np.ndarray, side: int) -> FeaturesByLevel:
        """Returns the features of one large image, as `_of_images` does, without its large intermediate results.

        Args:
            image: `(H, W, C)`, not scaled.
            side: side of a tile, in pixels.
        """
        factor = self.stack.factor
        unit = STRIDE * factor  # pixels; tiles start at multiples, so that each level has a feature vector there
        padded = padded_shape(image.shape, factor)[:2]
        in_units, halo = tuple(-(-pixels // unit) for pixels in padded), math.ceil(self._reach() / unit)
        features: dict[int, np.ndarray] = {}
        for window, with_halo, within in windows(in_units, max(1, side // unit), halo, halo):
            spans = zip(magnified(with_halo, unit), padded, strict=True)
            pixels = (slice(span.start, min(span.stop, end)) for span, end in spans)
            for index, tile in self._of_images(self._scaled(reflected(image, *pixels)[None])).items():
                per_unit = factor // self.stack.factor_at(index)  # feature vectors, along an axis
                if index not in features:
                    sides = (-(-pixels // (unit // per_unit)) for pixels in padded)
                    features[index] = np.empty((1, *sides, tile.features.shape[-1]), np.float32)
                inner = np.asarray(tile.features)[:, *magnified(within, per_unit)]
                features[index][:, *magnified(window, per_unit)] = inner
        return {index: LevelFeatures(tf.constant(values), None) for index, values in features.items()}

    def _reach(self) -> int:
        """Returns how many pixels around a feature vector it depends on."""
        field, reach = ReceptiveField(), 0
        for index, level in enumerate(self.stack.levels[: max(self.parts) + 1]):
            _, field = for_any_size(level.encoder, field)
            reach = max(reach, (max(field.halo) + POOL) * self.stack.factor_at(index))
        return reach


def _image_shape(stack: Stack, level: int, encoding: Shape) -> Shape:
    """Returns the shape of the image of an encoding. Open sides are those of the padded image."""
    if len(encoding) < 3:
        return stack.shape
    sides = times(encoding[:-1], stack.factor_at(level))
    return (*(side or pixels for side, pixels in zip(stack.shape, sides, strict=False)), stack.shape[-1])
