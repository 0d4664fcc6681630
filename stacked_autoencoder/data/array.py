"""The source for images in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.dataframes import SparseRows
from stacked_autoencoder.data.source import ImageBlock, Source, everything
from stacked_autoencoder.utils.checks import check_image_shape
from stacked_autoencoder.utils.generators import generated
from stacked_autoencoder.utils.images import Shape, fitting, index_batches, pad_by_reflection
from stacked_autoencoder.utils.labels import Labels, as_labels, labels_at
from stacked_autoencoder.utils.seeds import EpochShuffler
from stacked_autoencoder.utils.value_range import UNKNOWN, ValueRange

CHECKED_AT_ONCE = 1 << 24  # values; bounds the memory of a check


class ArrayBlock(ImageBlock):
    def __init__(self, index: int, items: np.ndarray | SparseRows | list[np.ndarray], labels: Labels | None) -> None:
        self.index = index
        self.items = items
        self.labels = labels

    def images(self) -> Iterator[np.ndarray]:
        return iter(self.items)

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        if not isinstance(self.items, list):  # slices, which need no copy
            step = fitting(batch_size, self.items.shape[1:])
            return (self.items[start : start + step] for start in range(0, len(self.items), step))
        return super().batches(batch_size)


class ArraySource(Source):
    """Images in memory or in a memory-mapped file: one array, sparse rows, or a list of arrays of any sizes."""

    def __init__(
        self,
        images: np.ndarray | SparseRows | list[np.ndarray],
        shape: Shape,
        factor: int = 1,
        values: ValueRange = UNKNOWN,
        labels: Any = None,
    ) -> None:
        super().__init__(shape, factor, values)
        self.images = images
        self.labels = None if labels is None else as_labels(labels, len(images))
        if not isinstance(images, list):
            if images.ndim != len(shape) + 1:
                check_image_shape(images.shape, shape, batched=True)
            if len(images) == 0:
                raise ValueError(f"`images` is empty, but at least one image is needed. Received: shape={images.shape}")
            self.check_shape(images.shape[1:])
            rows = max(1, CHECKED_AT_ONCE // max(1, images[0].size))
            for start in range(0, len(images), rows):
                self.check(images[start : start + rows], start)
            sizes = {images.shape[1:-1]}
        else:
            for index, image in enumerate(images):
                self.check_shape(image.shape, index)
                if image.dtype != images[0].dtype:
                    raise ValueError(
                        "The images of a list must share one dtype, since uint8 and float values have different "
                        "meanings: convert all of them to uint8 or all to float32. "
                        f"Received: {images[0].dtype} first, {image.dtype} as image {index}"
                    )
                self.check(image[None], index)
            sizes = {image.shape[:-1] for image in images}
        self.shape = (*(sizes.pop() if len(sizes) == 1 else (None,) * (len(shape) - 1)), shape[-1])
        self.warn_of_unit_range()

    def __len__(self) -> int:
        return len(self.images)

    def sizes(self) -> Iterator[Shape]:
        """Yields the shape of every image."""
        return (image.shape for image in self.images)

    def raw_batches(self, batch_size: int, shuffle: bool, first_pass: int = 0) -> tf.data.Dataset:
        passes = EpochShuffler.drawn(shuffle, first_pass)
        dtype = self.images[0].dtype if isinstance(self.images, list) else self.images.dtype
        signature = tf.TensorSpec((None, *self.shape), dtype)
        return generated(lambda: self._generate(batch_size, passes.next()), signature)

    def batches(
        self, batch_size: int, *, shuffle: bool = False, most: int | None = None, part: tuple[int, int] = (0, 1)
    ) -> Iterator[np.ndarray]:
        """Without `tf.data`, which takes longer to start than a few batches take to read."""
        passes, (index, count) = EpochShuffler.drawn(shuffle, 0), part
        for images in islice(self._generate(batch_size, passes.next()), index, most, count):
            yield pad_by_reflection(self.values.to_level(images), self.factor).numpy()

    def in_order(self, batch_size: int, *, scale: bool = True) -> Iterator[np.ndarray]:
        """Without `tf.data`, which would copy images and read memory-mapped files completely."""
        batches = ArrayBlock(0, self.images, self.labels).batches(batch_size)
        return (self.values.to_level(images).numpy() for images in batches) if scale else batches

    def blocks(self, size: int, wanted: Callable[[int], bool] = everything) -> Iterator[ArrayBlock]:
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield ArrayBlock(start // size, self.images[rows], labels_at(self.labels, rows))

    def count(self) -> int:
        return len(self)

    def describe(self) -> str:
        return f"{len(self)} images of shape {self.shape}, {self.images[0].dtype}, in memory"

    def count_batches(self, batch_size: int) -> int:
        return len(self._plan(batch_size, None))

    def _generate(self, batch_size: int, rng: np.random.Generator | None) -> Iterator[np.ndarray]:
        for indices in self._plan(batch_size, rng):
            if isinstance(self.images, list):
                yield np.stack([self.images[index] for index in indices])
            else:
                in_order = rng is None
                yield self.images[indices[0] : indices[-1] + 1] if in_order else self.images[indices]

    def _plan(self, batch_size: int, rng: np.random.Generator | None) -> list[np.ndarray]:
        sizes = [image.shape for image in self.images] if isinstance(self.images, list) else None
        return index_batches(sizes, len(self), batch_size, rng)
