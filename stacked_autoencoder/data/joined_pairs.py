"""Sources of pairs that are read together, as inputs and targets joined along the last axis."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.array import ArraySource
from stacked_autoencoder.data.dataset import StreamSource
from stacked_autoencoder.data.decoding import picture_reader, random_square
from stacked_autoencoder.data.folder import FolderSource, reason_of
from stacked_autoencoder.data.source import Block, Source, everything
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.utils.checks import check_image_shape, check_size
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.generators import generated, iterated
from stacked_autoencoder.utils.images import Shape
from stacked_autoencoder.utils.value_range import ValueRange

MISMATCH = "an input and its target differ in size"


def mismatch_error(name: str, inputs: Source, targets: Source) -> ValueError:
    """Returns the error for inputs and targets that differ in number or size."""
    return ValueError(
        f"`{name}` and its targets must have the same number of images, and the two images of each pair the same size. "
        f"Received: {inputs.describe()}, and {targets.describe()}"
    )


def halves_of(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits a joined batch into inputs and targets."""
    return tuple(np.split(batch, 2, axis=-1))


def doubled(shape: Shape) -> Shape:
    """Returns the shape of an input and its target, joined along the last axis."""
    return (*shape[:-1], 2 * shape[-1])


class Half(Source):
    """The inputs or the targets of a joined source, for readers that need only one of them.

    Args:
        joined: the joined source, which reports the extremes of what has been read.
        index: 0 for the inputs, 1 for the targets.
    """

    def __init__(self, joined: Joined, index: int) -> None:
        self.joined = joined
        self.index = index
        self.low, self.high = np.inf, -np.inf
        self.has_pixels = False

    @property
    def shape(self) -> Shape:
        return (*self.joined.shape[:-1], self.joined.shape[-1] // 2)

    @property
    def factor(self) -> int:
        return self.joined.factor

    @property
    def values(self) -> ValueRange:
        return self.joined.values

    @values.setter
    def values(self, values: ValueRange) -> None:
        self.joined.values = values

    @property
    def is_endless(self) -> bool:
        return self.joined.is_endless

    def raw_batches(self, batch_size: int, shuffle: bool, first_pass: int = 0) -> tf.data.Dataset:
        batches = self.joined.raw_batches(batch_size, shuffle, first_pass)
        return batches.map(lambda images: tf.split(images, 2, axis=-1)[self.index])

    def batches(
        self, batch_size: int, *, shuffle: bool = False, most: int | None = None, part: tuple[int, int] = (0, 1)
    ) -> Iterator[np.ndarray]:
        for batch in self.joined.batches(batch_size, shuffle=shuffle, most=most, part=part):
            yield halves_of(batch)[self.index]

    def in_order(self, batch_size: int, *, scale: bool = True) -> Iterator[np.ndarray]:
        for batch in self.joined.in_order(batch_size, scale=scale):
            yield halves_of(batch)[self.index]

    def own_errors(self) -> Any:
        return self.joined.own_errors()

    def n_batches(self, batch_size: int) -> int | None:
        return self.joined.n_batches(batch_size)

    def count_batches(self, batch_size: int) -> int | None:
        return self.joined.count_batches(batch_size)

    def blocks(self, size: int, wanted: Callable[[int], bool] = everything) -> Iterator[Block]:
        return (HalfBlock(block, self.index) for block in self.joined.blocks(size, wanted))

    def count(self) -> int | None:
        return self.joined.count()

    def describe(self) -> str:
        return f"the {('inputs', 'targets')[self.index]} of {self.joined.describe()}"


class HalfBlock(Block):
    """The inputs or the targets of a block of a joined source."""

    def __init__(self, block: Block, half: int) -> None:
        self.index = block.index
        self.block = block
        self.half = half

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        return (halves_of(images)[self.half] for images in self.block.batches(batch_size))

    def fingerprint(self) -> str:
        return self.block.fingerprint()


class Joined(Source):
    """Base class of sources of inputs and targets, joined along the last axis. It must be the first base of a class.

    Attributes:
        halves: the source of the inputs, and the source of the targets.
    """

    parts = 2

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.halves = Half(self, 0), Half(self, 1)
        super().__init__(*arguments, **options)

    def check_shape(self, shape: Shape, index: int | None = None) -> None:
        check_image_shape((*shape[:-1], shape[-1] // 2), self.halves[0].shape, index=index)
        check_size(shape, self.factor)

    def check(self, images: np.ndarray, first_index: int) -> np.ndarray:
        for half, values in zip(self.halves, halves_of(images), strict=True):
            half.check(values, first_index)
        return images


class ArrayPairs(Joined, ArraySource):
    """Pairs in memory."""


class StorePairs(Joined, StoreSource):
    """Pairs of encodings in a store."""


class StreamPairs(Joined, StreamSource):
    """Pairs from one `tf.data.Dataset`, in its order.

    Attributes:
        elements: source of the dataset, which records its errors; `None` for a dataset of the user.
    """

    elements: StreamSource | None = None

    @classmethod
    def of_elements(cls, dataset: tf.data.Dataset, shape: Shape, factor: int, values: ValueRange) -> StreamPairs:
        """Makes the source from a dataset of tuples that begin with an input and its target."""
        for half in (0, 1):  # check each half like a dataset of images
            StreamSource(dataset.map(lambda *pair, half=half: pair[half]), shape, factor, values)
        return cls(dataset.map(partial(_joined, shape, values)), doubled(shape), factor, values)

    @classmethod
    def of_sources(cls, inputs: Source, targets: Source, name: str) -> StreamPairs:
        """Makes the source from two datasets, or from a dataset and images in memory, which keep their order."""
        sources = inputs, targets
        batched = [isinstance(source, StreamSource) and source.batched for source in sources]
        datasets = [_elements(source, unbatch=not all(batched)) for source in sources]
        counts = [int(dataset.cardinality()) for dataset in datasets]
        if tf.data.UNKNOWN_CARDINALITY in counts:
            counts = [sum(1 for _ in iterated(dataset)) for dataset in datasets]
        if counts[0] != counts[1]:
            raise mismatch_error(name, inputs, targets)
        sides = [*zip(inputs.shape, targets.shape, strict=True)]
        if any(None not in pair and pair[0] != pair[1] for pair in sides):
            raise mismatch_error(name, inputs, targets)
        shape = tuple(other if side is None else side for side, other in sides)
        pairs = tf.data.Dataset.zip(tuple(datasets)).apply(tf.data.experimental.assert_cardinality(counts[0]))
        return cls.of_elements(pairs, shape, inputs.factor, inputs.values)

    def first(self, batches: int, batch_size: int) -> StreamPairs:
        if not self.is_endless:
            return self
        some = self.whole.take(batches if self.batched else batches * batch_size)
        return StreamPairs(some, self.shape, self.factor, self.values)

    def describe(self) -> str:
        return f"pairs, inputs and targets joined along the last axis, from {super().describe()}"

    def count_batches(self, batch_size: int) -> int | None:
        with self.own_errors():
            return super().count_batches(batch_size)

    def _rows(self) -> Iterator[Any]:
        with self.own_errors():
            yield from super()._rows()

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        with super().own_errors():
            try:
                yield
            except tf.errors.OpError as error:
                if self.elements is not None and self.elements.failure is not None:
                    failure, self.elements.failure = self.elements.failure, None
                    raise failure from None
                if MISMATCH not in error.message:
                    raise
                raise ValueError(
                    "Batches of `images` and targets must have the same number of images, and the two images of each "
                    "pair the same size. Batch both in the same way, or neither (`dataset.unbatch()`), and resize one "
                    "of the two if sizes differ. Received: " + reason_of(error)
                ) from None


def _joined(shape: Shape, value_range: ValueRange, inputs: tf.Tensor, targets: tf.Tensor, *_: Any) -> tf.Tensor:
    """Joins an input and its target along the last axis, and checks that their shapes are equal."""
    same = tf.reduce_all(tf.shape(inputs) == tf.shape(targets))
    message = [MISMATCH, tf.shape(inputs), "and", tf.shape(targets)]
    with tf.control_dependencies([tf.debugging.Assert(same, message, summarize=4)]):
        values = [tf.ensure_shape(each, (*each.shape[:-1], shape[-1])) for each in (inputs, targets)]
    if inputs.dtype != targets.dtype:
        values = [value_range.to_user(each) for each in values]
    joined = tf.concat(values, -1)
    return tf.ensure_shape(joined, doubled((*inputs.shape[:-1], shape[-1])))


def _elements(source: Source, unbatch: bool) -> tf.data.Dataset:
    """Returns the elements of a source in their order."""
    if isinstance(source, StreamSource):
        return source.source.unbatch() if source.batched and unbatch else source.source
    if isinstance(source, StoreSource):
        singles = source.raw_singles().unbatch()
    else:
        singles = generated(lambda: iter(source.images), tf.TensorSpec(source.shape, source.images[0].dtype))
    return singles.apply(tf.data.experimental.assert_cardinality(source.count()))


class FolderPairs(Joined, FolderSource):
    """Pairs of pictures that have the same name in two folders. If one of them cannot be read, the pair is skipped."""

    def __init__(self, inputs: FolderSource, targets: FolderSource) -> None:
        self.pair = inputs, targets
        first, second = inputs.folder, targets.folder
        names = [[os.path.splitext(name)[0] for name in folder.files] for folder in (first, second)]
        differing = next((index for index, (one, two) in enumerate(zip(*names, strict=False)) if one != two), None)
        if differing is not None or len(first.files) != len(second.files):
            shown = f"{len(first.files)} and {len(second.files)} pictures"
            if differing is not None:
                one, two = (printable(folder.files[differing]) for folder in (first, second))
                shown += f", of which number {differing} is {one} and {two}"
            raise ValueError(
                "The pictures of two folders of pairs must have the same names, apart from the suffixes: rename them, "
                f"or remove those without a partner. Received: {shown}"
            )
        if (first.size, first.fit, first.crop) != (second.size, second.fit, second.crop):
            raise ValueError(
                "The folders of inputs and targets must be `ImageFolder`s with the same `size`, `fit` and `crop`. "
                f"Received: {first.as_call()}, and {second.as_call()}"
            )
        if first.augment is not None or second.augment is not None:
            raise ValueError(
                "`augment` would change a picture but not its target: omit it in both folders, and augment the pairs "
                f"in a `tf.data.Dataset`. Received: {first.as_call()}, and {second.as_call()}"
            )
        # Pairs are cropped after they are joined, so that both pictures are cropped at the same position.
        reader = partial(picture_reader, inputs.shape[-1], first.size, fit=first.fit, values=inputs.values)
        self.readers = [reader(max_pixels=folder.max_pixels) for folder in (first, second)]
        super().__init__(first, doubled(inputs.shape), inputs.factor, inputs.values)
        for row, name in enumerate(second.files):
            if name in second.skipped and row not in self.unreadable.reasons:
                self.unreadable.add(row, f"its target can't be read: {second.skipped[name]}")

    @property
    def folders(self) -> list[Any]:
        return [source.folder for source in self.pair]

    def describe(self) -> str:
        return " to ".join(source.describe() for source in self.pair)

    def picture(self, row: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        paths = [source.path_of(row) for source in self.pair]
        pictures = [read(path, seed) for read, path in zip(self.readers, paths, strict=True)]
        same = tf.reduce_all(tf.shape(pictures[0]) == tf.shape(pictures[1]))
        with tf.control_dependencies([tf.debugging.Assert(same, [MISMATCH, *map(tf.shape, pictures)])]):
            joined = tf.concat(pictures, -1)
        return joined if self.folder.crop is None else random_square(joined, self.folder.crop, seed)

    def _examine(self, row: int) -> None:
        seed, paths = tf.constant([self.folder.seed, row], tf.int64), []
        for source, read in zip(self.pair, self.readers, strict=True):
            paths.append(printable(source.folder.path / source.folder.files[row]))
            try:
                read(source.path_of(tf.constant(row)), seed)
            except tf.errors.OpError as error:
                self.unreadable.add(
                    row, reason_of(error) if source is self.pair[0] else _reason_of_target(paths[1], error)
                )
                return
        try:
            self.picture(tf.constant(row), seed)
        except tf.errors.OpError as error:
            if MISMATCH in error.message:
                raise ValueError(
                    "A picture and its target must have the same size: resize one of the two, or pass both folders as "
                    f"`ImageFolder(path, side=…)`. Received: {' and '.join(paths)}"
                ) from None
        super()._examine(row)


def _reason_of_target(path: str, error: tf.errors.OpError) -> str:
    return f"its target {path} can't be read: {reason_of(error)}"
