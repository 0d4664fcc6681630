"""Images from a `tf.data.Dataset`."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.source import DatasetSource, ImageBlock, add_image, everything
from stacked_autoencoder.utils.checks import described
from stacked_autoencoder.utils.generators import Released, iterated, released
from stacked_autoencoder.utils.images import Shape


class StreamBlock(ImageBlock):
    """The next images of a stream, with their labels."""

    def __init__(self, index: int, rows: Iterator[tuple[np.ndarray, Any]]) -> None:
        self.index = index
        self.rows = rows
        self.digest = hashlib.sha256()

    def fingerprint(self) -> str:
        deque(self.images(), maxlen=0)
        return self.digest.hexdigest()

    def images(self) -> Iterator[np.ndarray]:
        for image, label in self.rows:
            add_image(self.digest, image)
            if label is not None:
                self.labels = self.labels or []
                self.labels.append(label)
            yield image


class StreamSource(DatasetSource):
    """A `tf.data.Dataset` of images, or of tuples that begin with images; batched or not."""

    def __init__(
        self, dataset: tf.data.Dataset, shape: Shape, factor: int, check_range: bool, missing: str = "error"
    ) -> None:
        super().__init__(shape, factor, check_range, missing)
        spec = dataset.element_spec
        self.whole = dataset
        if isinstance(spec, (tuple, list)):
            dataset, spec = dataset.map(lambda images, *_: images), spec[0]
        if not isinstance(spec, tf.TensorSpec) or spec.shape.rank not in (len(shape), len(shape) + 1):
            raise ValueError(
                f"A dataset must yield single {described(shape)}, batches of them, or tuples that begin with one of "
                f"these.{_element_advice(self.whole.element_spec, shape)} Received: element_spec={spec}"
            )
        self.batched = spec.shape.rank == len(shape) + 1
        size = spec.shape[-len(shape) :].as_list()
        self.check_shape([side or wanted for side, wanted in zip(size, shape, strict=True)])
        self.shape = (*size[:-1], shape[-1])
        self.source = dataset

    def raw_batches(self, batch_size: int, shuffle: bool, first_pass: int = 0) -> tf.data.Dataset:
        return self._checked(self._batched(batch_size))

    def from_step(self, batch_size: int, step: int) -> tf.data.Dataset:
        """All that comes before is read: only the dataset knows its order."""
        return self.dataset(batch_size, shuffle=True).repeat().skip(step)

    def digest(self) -> str:
        """None but what it is: to look at a stream can change what comes next."""
        return self.describe()

    def raw_singles(self) -> tf.data.Dataset:
        return self._checked(self.source if self.batched else self.source.batch(1))

    def blocks(self, size: int, wanted: Callable[[int], bool] = everything) -> Iterator[StreamBlock]:
        rows = self._rows()
        for index in itertools.count():
            first = next(rows, None)
            if first is None:
                return
            block = StreamBlock(index, itertools.chain([first], itertools.islice(rows, size - 1)))
            yield block
            block.fingerprint()  # what hasn't been read of it

    def count(self) -> int | None:
        count = int(self.source.cardinality())
        return None if self.batched or count < 0 else count

    def describe(self) -> str:
        return f"a dataset of {self.source.element_spec}"

    def _rows(self) -> Iterator[tuple[np.ndarray, Any]]:
        """Single images as they are, checked, each with its label or `None`."""
        seen = 0
        for element in iterated(self.whole.prefetch(2)):
            images, *others = element if isinstance(element, tuple) else (element,)
            if not self.batched:
                images, others = images[None], [np.asarray(other)[None] for other in others]
            self.check_shape(images.shape[1:], seen)
            self.check(images, seen)
            seen += len(images)
            labels = others[0] if others else [None] * len(images)
            yield from zip(images, labels, strict=True)

    def _batched(self, batch_size: int) -> tf.data.Dataset:
        return self.source if self.batched else batch_by_size(self.source, batch_size, self.shape)

    def _checked(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        seen = 0

        def check(images: np.ndarray) -> np.ndarray:
            nonlocal seen
            try:
                self.check_shape(images.shape[1:], seen)
                images = self.check(images, seen)
            except ValueError as error:
                raise self.remember(error) from None
            seen += len(images)
            return images

        def checked(images: tf.Tensor, check: Released) -> tf.Tensor:
            result = tf.numpy_function(check, [images], images.dtype)
            result.set_shape((None, *self.shape))
            return result

        return released(check, lambda check: dataset.map(partial(checked, check=check)))

    @property
    def is_endless(self) -> bool:
        return bool(self.source.cardinality() == tf.data.INFINITE_CARDINALITY)

    def first(self, batches: int, batch_size: int) -> StreamSource:
        if not self.is_endless:
            return self
        some = self.whole.take(batches if self.batched else batches * batch_size)
        return StreamSource(some, self.shape, self.factor, self.check_range, self.missing)

    def count_batches(self, batch_size: int) -> int | None:
        if self.is_endless:
            return None
        dataset = self._batched(batch_size)
        known = int(dataset.cardinality())
        count = known if known >= 0 else sum(1 for _ in iterated(dataset))
        if count == 0:
            raise ValueError("`images` is empty; at least one image is needed. Received: a dataset without elements")
        return count


def _element_advice(element: Any, shape: Shape) -> str:
    """How to make elements what they should be, as code; empty if nothing is known to help."""
    is_tuple = isinstance(element, (tuple, list))
    spec, arguments = (element[0], "image, *_") if is_tuple else (element, "image")
    if isinstance(spec, dict) and spec:
        return (
            f" Take one of the values of these dicts: `dataset.map(lambda {arguments}: image[{next(iter(spec))!r}])`."
        )
    if not isinstance(spec, tf.TensorSpec):
        return ""
    if spec.shape.rank is None:
        return (
            " The number of axes isn't known: tell it with "
            f"`dataset.map(lambda {arguments}: tf.ensure_shape(image, {tuple(shape)}))`."
        )
    if spec.shape.rank == len(shape) - 1 and shape[-1] == 1:
        return f" Add the last axis with `dataset.map(lambda {arguments}: image[..., None])`."
    return ""


def batch_by_size(dataset: tf.data.Dataset, batch_size: int, shape: Shape) -> tf.data.Dataset:
    """Batches single images; where sizes may differ, each batch holds one size."""
    if None not in shape:
        return dataset.batch(batch_size)
    # One number for all sides but the last, which is the channels': fewer than 2**31 each, and two at most.
    return dataset.group_by_window(
        key_func=lambda image: tf.reduce_sum(tf.shape(image, tf.int64)[:-1] * [2**31, 1][: len(shape) - 1]),
        reduce_func=lambda _, window: window.batch(batch_size),
        window_size=batch_size,
    )
