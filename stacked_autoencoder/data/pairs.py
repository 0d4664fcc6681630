"""Pairs of input images and target images, which the stack should restore.

two arrays, lists or stores       ─▶ two sources, shuffled in the same order
dataset of (input, target)        ─┐
dataset and dataset or array      ─┼▶ one joined source (`data.joined_pairs`), so that one pass reads both
folder and folder                 ─┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.array import ArraySource
from stacked_autoencoder.data.dataset import StreamSource
from stacked_autoencoder.data.folder import FolderSource
from stacked_autoencoder.data.image_folder import ImageFolder
from stacked_autoencoder.data.joined_pairs import FolderPairs, Joined, StreamPairs, halves_of, mismatch_error
from stacked_autoencoder.data.listing import is_path
from stacked_autoencoder.data.source import Source
from stacked_autoencoder.data.stored import StoreSource
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.utils.files import expanded
from stacked_autoencoder.utils.generators import iterated
from stacked_autoencoder.utils.images import Shape


class Pairs(NamedTuple):
    """The training data of a level.

    Attributes:
        inputs: images that the level receives.
        targets: images that it should restore, one for each input; `None` if they are the inputs.
        joined: one source of both. Without it, `inputs` and `targets` have the same order whenever both are read.
    """

    inputs: Source
    targets: Source | None = None
    joined: Joined | None = None

    @classmethod
    def of(cls, joined: Joined) -> Pairs:
        return cls(*joined.halves, joined)

    @property
    def sources(self) -> list[Source]:
        """All sources that are read."""
        if self.joined is not None:
            return [self.joined]
        return [self.inputs] if self.targets is None else [self.inputs, self.targets]

    def first(self, batches: int, batch_size: int) -> Pairs:
        """Returns the first batches of infinite pairs, or all finite pairs."""
        if self.joined is not None:
            return Pairs.of(self.joined.first(batches, batch_size))
        return Pairs(self.inputs.first(batches, batch_size), self.targets)

    def dataset(self, batch_size: int, *, shuffle: bool = False) -> tf.data.Dataset:
        """Returns batches of inputs, or of `(inputs, targets)`."""
        return self._in_step(lambda source: source.dataset(batch_size, shuffle=shuffle))

    def from_step(self, batch_size: int, step: int) -> tf.data.Dataset:
        """Returns infinite shuffled batches, starting at step `step` of a training."""
        return self._in_step(lambda source: source.from_step(batch_size, step))

    def batches(
        self, batch_size: int, *, shuffle: bool = False, most: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields at most `most` batches `(inputs, targets)` as NumPy arrays."""
        if self.joined is not None:
            yield from map(halves_of, self.joined.batches(batch_size, shuffle=shuffle, most=most))
        elif self.targets is None:
            yield from ((batch, batch) for batch in self.inputs.batches(batch_size, shuffle=shuffle, most=most))
        else:
            dataset = self.dataset(batch_size, shuffle=shuffle)
            with self.own_errors():
                yield from iterated(dataset if most is None else dataset.take(most))

    def in_order(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields batches `(inputs, targets)` in order, not padded, as `Source.in_order` does."""
        if self.joined is not None:
            yield from map(halves_of, self.joined.in_order(batch_size))
        elif self.targets is None:
            yield from ((batch, batch) for batch in self.inputs.in_order(batch_size))
        else:
            yield from zip(self.inputs.in_order(batch_size), self.targets.in_order(batch_size), strict=True)

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raises the original error instead of an error of `tf.data`."""
        with ExitStack() as stack:
            for source in self.sources:
                stack.enter_context(source.own_errors())
            yield

    def _in_step(self, make: Callable[[Source], tf.data.Dataset]) -> tf.data.Dataset:
        if self.joined is not None:
            return make(self.joined).map(lambda images: tuple(tf.split(images, 2, axis=-1)))
        if self.targets is None:
            return make(self.inputs)
        state = np.random.get_state()  # decides the order, which must be the same for both
        inputs = make(self.inputs)
        np.random.set_state(state)
        return tf.data.Dataset.zip((inputs, make(self.targets)))


def paired(inputs: Source, targets: Source, name: str) -> Pairs:
    """Pairs two sources that are read in the same order.

    Args:
        inputs: source of input images.
        targets: source of target images.
        name: name of the argument that holds the inputs, for messages.

    Raises:
        ValueError: they differ in number or size, or cannot be read in the same order.
    """
    counts = inputs.count(), targets.count()
    if None not in counts and counts[0] != counts[1] and not isinstance(inputs, FolderSource):
        raise mismatch_error(name, inputs, targets)
    if isinstance(inputs, FolderSource) and isinstance(targets, FolderSource):
        return Pairs.of(FolderPairs(inputs, targets))
    if isinstance(inputs, StreamSource) or isinstance(targets, StreamSource):
        if not (isinstance(inputs, FolderSource) or isinstance(targets, FolderSource)):
            return Pairs.of(StreamPairs.of_sources(inputs, targets, name))
    elif isinstance(inputs, IN_MEMORY) and isinstance(targets, IN_MEMORY):
        of_one_size = None not in inputs.shape and None not in targets.shape
        if inputs.shape != targets.shape if of_one_size else [*inputs.sizes()] != [*targets.sizes()]:
            raise mismatch_error(name, inputs, targets)
        return Pairs(*_with_equal_order(inputs, targets))
    raise ValueError(
        f"If `{name}` is a folder, the targets must be a folder of pictures with the same names. Otherwise, pass "
        f"arrays or datasets for both. Received: {inputs.describe()}, and {targets.describe()}"
    )


IN_MEMORY = (ArraySource, StoreSource)  # in memory, or read by position


def _with_equal_order(inputs: Source, targets: Source) -> Iterator[Source]:
    """Makes two sources shuffle in the same order, by converting a list of images of one size to an array."""
    is_planned_by_size = [
        isinstance(source.images, list) if isinstance(source, ArraySource) else None in source.shape
        for source in (inputs, targets)
    ]
    for source in (inputs, targets):
        if len(set(is_planned_by_size)) > 1 and isinstance(source, ArraySource) and isinstance(source.images, list):
            source = ArraySource(np.stack(source.images), source.shape, source.factor, source.values)
        yield source


# === Detection of pairs ===


def gives_pairs(images: Any, shape: Shape) -> bool:
    """Whether the second element of `images` has the shape of images, so that it is not labels.

    Args:
        images: anything that users pass as images.
        shape: shape of one image that the model accepts.
    """
    if isinstance(images, tuple) and len(images) == 2:
        if _is_source(images[1]):
            return True
        first, second = (_array_shape(part, len(shape)) for part in images)
        # A folder or a dataset has images of the model's shape.
        return _can_be_pairs((None, *shape) if _is_source(images[0]) else first, second)
    if isinstance(images, tf.data.Dataset):
        spec = images.element_spec
        parts = spec[:2] if isinstance(spec, tuple) else ()
    elif isinstance(images, keras.utils.PyDataset) and len(images) > 0:
        batch = images[0]
        parts = batch[:2] if isinstance(batch, (tuple, list)) else ()
    else:
        return False
    shapes = [tuple(part.shape) for part in parts if getattr(part, "shape", None) is not None and _has_rank(part)]
    if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]):
        return False
    if len(shapes[0]) == len(shape):  # single images
        shapes = [(None, *each) for each in shapes]
    return len(shapes[0]) == len(shape) + 1 and _can_be_pairs(*shapes)


SOURCES = (ImageFolder, EncodingStore, tf.data.Dataset, keras.utils.PyDataset)  # always images, never labels


def _is_source(part: Any) -> bool:
    return isinstance(part, SOURCES) or (is_path(part) and expanded(part).is_dir())


def _has_rank(part: Any) -> bool:
    return getattr(part.shape, "rank", 0) is not None


def _array_shape(images: Any, rank: int) -> Shape | None:
    """Returns the shape of an array or a list of arrays, with `None` for sides that vary; `None` for other objects."""
    if isinstance(images, (list, tuple)) and images and hasattr(images[0], "shape"):
        shapes = [tuple(getattr(image, "shape", ())) for image in images]
        shapes = [shape[1:] if len(shape) == rank + 1 and shape[0] == 1 else shape for shape in shapes]
        if any(len(shape) != rank for shape in shapes):
            return None
        sides = (set(side) for side in zip(*shapes, strict=True))
        return (len(images), *(side.pop() if len(side) == 1 else None for side in sides))
    shape = getattr(images, "shape", None)
    return tuple(shape) if shape is not None and len(shape) == rank + 1 else None


def _can_be_pairs(shape: Shape | None, other: Shape | None) -> bool:
    """Whether images of these shapes can be pairs, as far as the shapes are known. Their number is not compared."""
    if shape is None or other is None or len(shape) != len(other):
        return False
    return all(None in pair or pair[0] == pair[1] for pair in [*zip(shape, other, strict=True)][1:])
