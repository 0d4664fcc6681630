"""The source for a `tf.data.Dataset`."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.source import DatasetSource, ImageBlock, add_image, everything
from stacked_autoencoder.utils.checks import described
from stacked_autoencoder.utils.generators import Released, iterated, released
from stacked_autoencoder.utils.images import Shape
from stacked_autoencoder.utils.labels import Labels, as_labels, count_of, labels_at
from stacked_autoencoder.utils.value_range import ValueRange


class BatchLabels(NamedTuple):
    """The second element of a dataset, unchanged. It is converted to labels only when labels are needed.

    Attributes:
        labels: `None` if the dataset has no second element.
        count: number of images in the batch, `None` for labels of all images.
    """

    labels: Any
    count: int | None


class StreamBlock(ImageBlock):
    """The next images of a dataset, with their labels."""

    def __init__(self, index: int, rows: Iterator[tuple[np.ndarray, tuple[BatchLabels, int]]]) -> None:
        self.index = index
        self.rows = rows
        self.digest = hashlib.sha256()
        self.label_positions: list[tuple[BatchLabels, int]] = []  # for each image, the labels of its batch and its row

    def fingerprint(self) -> str:
        deque(self.images(), maxlen=0)
        return self.digest.hexdigest()

    def images(self) -> Iterator[np.ndarray]:
        for image, position in self.rows:
            add_image(self.digest, image)
            if position[0].labels is not None:
                self.label_positions.append(position)
            yield image

    @property
    def labels(self) -> Labels | None:
        rows: list[Any] = []
        for _, positions in itertools.groupby(self.label_positions, key=lambda position: id(position[0])):
            (batch, first), *others = positions
            labels = as_labels(batch.labels, batch.count)
            rows += [labels_at(labels, row) for row in (first, *(row for _, row in others))]
        return as_labels(rows) if rows else None


class StreamSource(DatasetSource):
    """A `tf.data.Dataset` of images, or of tuples that begin with images and labels; batched or not.

    Args:
        dataset: the dataset.
        shape: shape of one image that the model accepts.
        factor: factor of the stack.
        values: value range of the stack.
        labels: labels of all images in the order of the dataset; they replace those of the dataset.
        neighbours: for an unbatched dataset, the same elements in small batches of one size, if they are available.
            They are used wherever the order is kept, since reading one element takes as long as reading a small batch.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        shape: Shape,
        factor: int,
        values: ValueRange,
        labels: Any = None,
        neighbours: tf.data.Dataset | None = None,
    ) -> None:
        super().__init__(shape, factor, values)
        spec = dataset.element_spec
        self.whole = dataset
        if isinstance(spec, (tuple, list)):
            dataset, spec = dataset.map(lambda images, *_: images), spec[0]
        _check_has_rank(dataset.element_spec, self.whole.element_spec, shape)
        if not isinstance(spec, tf.TensorSpec) or spec.shape.rank not in (len(shape), len(shape) + 1):
            raise ValueError(
                f"A dataset must yield single {described(shape)}, batches of them, or tuples that begin with one of "
                f"these.{_element_advice(self.whole.element_spec, shape)} Received: element_spec={spec}"
            )
        self.batched = spec.shape.rank == len(shape) + 1
        size = spec.shape[-len(shape) :].as_list()
        self.check_shape([side or expected for side, expected in zip(size, shape, strict=True)])
        self.shape = (*size[:-1], shape[-1])
        self.source = dataset
        self.joined = self.whole if self.batched else neighbours
        self.labels = None if labels is None else as_labels(labels, self.count())

    def raw_batches(self, batch_size: int, shuffle: bool, first_pass: int = 0) -> tf.data.Dataset:
        return self._checked(self._batched(batch_size))

    def from_step(self, batch_size: int, step: int) -> tf.data.Dataset:
        """Reads and skips all batches before `step`, since only the dataset knows its order."""
        return self.dataset(batch_size, shuffle=True).repeat().skip(step)

    def digest(self) -> str:
        """The description alone: reading elements can change which elements follow."""
        return self.describe()

    def raw_singles(self) -> tf.data.Dataset:
        if self.joined is None:
            return self._checked(self.source.batch(1))
        is_tuple = isinstance(self.joined.element_spec, (tuple, list))
        return self._checked(self.joined.map(lambda images, *_: images) if is_tuple else self.joined)

    def blocks(self, size: int, wanted: Callable[[int], bool] = everything) -> Iterator[StreamBlock]:
        rows = self._rows()
        for index in itertools.count():
            first = next(rows, None)
            if first is None:
                return
            block = StreamBlock(index, itertools.chain([first], itertools.islice(rows, size - 1)))
            yield block
            block.fingerprint()  # reads the rest of the block

    def count(self) -> int | None:
        count = int(self.source.cardinality())
        return None if self.batched or count < 0 else count

    def describe(self) -> str:
        return f"a dataset of {self.source.element_spec}"

    def _rows(self) -> Iterator[tuple[np.ndarray, tuple[BatchLabels, int]]]:
        """Yields single images, checked but not scaled, each with the labels of its batch and its row."""
        n_read = 0
        with self.own_errors():
            for element in iterated((self.whole if self.joined is None else self.joined).prefetch(2)):
                images, labels, *_ = (*element, None) if isinstance(element, tuple) else (element, None)
                if self.joined is None:
                    images = images[None]
                    if labels is not None:  # a batch of one
                        labels = tf.nest.map_structure(lambda value: np.asarray(value)[None], labels)
                self.check_shape(images.shape[1:], n_read)
                self.check(images, n_read)
                rows, batch_labels = range(len(images)), BatchLabels(labels, len(images))
                if self.labels is not None:
                    rows, batch_labels = range(n_read, n_read + len(images)), BatchLabels(self.labels, None)
                    self._check_labels(n_read + len(images), at_least=True)
                n_read += len(images)
                yield from ((image, (batch_labels, row)) for row, image in zip(rows, images, strict=True))
        if self.labels is not None:
            self._check_labels(n_read)
        self.warn_of_unit_range()

    def _check_labels(self, n_read: int, at_least: bool = False) -> None:
        """Raises `ValueError` unless there is one label per image, after `n_read` images have been read."""
        count = count_of(self.labels)
        if count < n_read or (count > n_read and not at_least):
            raise ValueError(
                "`images` as (dataset, labels) needs one label per image. Received: "
                f"{'at least ' if at_least else ''}{n_read} images, {count} labels"
            )

    def _batched(self, batch_size: int) -> tf.data.Dataset:
        return self.source if self.batched else batch_by_size(self.source, batch_size, self.shape)

    def _checked(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        n_read = 0

        def check(images: np.ndarray) -> np.ndarray:
            nonlocal n_read
            try:
                self.check_shape(images.shape[1:], n_read)
                images = self.check(images, n_read)
            except ValueError as error:
                raise self.remember(error) from None
            n_read += len(images)
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
        return StreamSource(some, self.shape, self.factor, self.values)

    def count_batches(self, batch_size: int) -> int | None:
        if self.is_endless:
            return None
        dataset = self._batched(batch_size)
        cardinality = int(dataset.cardinality())
        count = cardinality if cardinality >= 0 else sum(1 for _ in iterated(dataset))
        if count == 0:
            raise ValueError(
                "`images` is empty, but at least one image is needed. Received: a dataset without elements"
            )
        return count


def _check_has_rank(spec: Any, whole: Any, shape: Shape) -> None:
    """Raises `ValueError` for elements that are dicts, or tensors of unknown rank.

    Args:
        spec: spec of the images in an element.
        whole: spec of the element, which may be a tuple.
        shape: shape of one image that the model accepts.
    """
    arguments = "images, *others" if isinstance(whole, (tuple, list)) else "images"
    others = ", *others" if isinstance(whole, (tuple, list)) else ""
    if isinstance(spec, Mapping):
        ranks = (len(shape), len(shape) + 1)
        names = [name for name, each in spec.items() if isinstance(each, tf.TensorSpec) and each.shape.rank in ranks]
        names += [name for name in spec if name not in names]
        with_labels = f" To keep labels: `(images[{names[0]!r}], images[{names[1]!r}])`." if len(names) > 1 else ""
        raise ValueError(
            "The elements of a dataset are dicts. Select the entry that holds the images: "
            f"`dataset.map(lambda {arguments}: images[{names[0]!r}])`.{with_labels} Received: element_spec={spec}"
        )
    if isinstance(spec, tf.TensorSpec) and spec.shape.rank is None:
        image = f"tf.ensure_shape(images, {tuple(shape)})"
        result = f"({image}{others})" if others else image
        raise ValueError(
            f"The number of axes of the images must be known: `dataset.map(lambda {arguments}: {result})`, with "
            f"one more `None` in front if they are batches. Received: element_spec={spec}"
        )


def batch_by_size(dataset: tf.data.Dataset, batch_size: int, shape: Shape) -> tf.data.Dataset:
    """Batches single images. If sizes may differ, each batch holds images of one size."""
    if None not in shape:
        return dataset.batch(batch_size)
    # One integer per size: there are at most two sides, the channels aside, of fewer than 2**31 pixels each.
    return dataset.group_by_window(
        key_func=lambda image: tf.reduce_sum(tf.shape(image, tf.int64)[:-1] * [2**31, 1][: len(shape) - 1]),
        reduce_func=lambda _, window: window.batch(batch_size),
        window_size=batch_size,
    )


def _element_advice(element: Any, shape: Shape) -> str:
    """Returns code that adds a missing last axis, or an empty text if that does not help."""
    is_tuple = isinstance(element, (tuple, list))
    spec, arguments = (element[0], "image, *others") if is_tuple else (element, "image")
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank != len(shape) - 1 or shape[-1] != 1:
        return ""
    result = "(image[..., None], *others)" if is_tuple else "image[..., None]"
    return f" Add the last axis with `dataset.map(lambda {arguments}: {result})`."
