"""What every source of images gives: batches of one size, checked, scaled and padded.

An error in the middle of a stream is kept and raised again in our own words, not TensorFlow's.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from stacked_autoencoder.utils.checks import check_image_shape, check_size, check_values
from stacked_autoencoder.utils.generators import iterated
from stacked_autoencoder.utils.images import Shape, fitting, joined_neighbours, pad_by_reflection, scaled, widened


class Block(ABC):
    """Neighbouring images of a source: what becomes one shard of a store.

    Attributes:
        index: of the block in its source.
        names: where each image came from, if the source knows.
        labels: what the source gives beside the images, if anything; complete when `batches` has been read.
    """

    index: int
    names: list[str] | None = None
    labels: Sequence[Any] | None = None

    @abstractmethod
    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """The images in order and as they are (`uint8` unscaled), each batch of one size; to be read once."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 by which these images are known again. A stream reads what is left of the block for it."""


class ImageBlock(Block):
    """A block that knows its images one by one, and by what they hold."""

    @abstractmethod
    def images(self) -> Iterator[np.ndarray]:
        """Single images in order, as they are."""

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        return joined_neighbours((image[None] for image in self.images()), batch_size)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for image in self.images():
            add_image(digest, image)
        return digest.hexdigest()


def add_image(digest: Any, image: np.ndarray) -> None:
    """Adds an image to a `hashlib` digest: the same images have one fingerprint, whatever they come in."""
    digest.update(f"{image.shape} {image.dtype}".encode())
    digest.update(np.ascontiguousarray(image).data)


DIGESTED = 256  # images


def everything(_: Any) -> bool:
    return True


class Source(ABC):
    """Images of one or several sizes, read as often as one likes.

    Attributes:
        shape: of one image, `(H, W, C)`, `None` where sizes may differ; `(timesteps, features)` of a sequence.
        value_range: `(low, high)` that the values lie in, `low < high`: [-1, 1] for `uint8`; [0, 1] or [-1, 1] for
            floats, by what has been read; the observed extremes where the range isn't checked.
        missing: `"error"` to refuse NaN; `"ignore"` where batches may hold NaN for missing values.
    """

    def __init__(self, shape: Shape, factor: int, check_range: bool, missing: str = "error") -> None:
        self.shape = tuple(shape)
        self.factor = factor
        self.check_range = check_range
        self.missing = missing
        self.failure: Exception | None = None
        self.counted: dict[int, int | None] = {}
        self.low, self.high = np.inf, -np.inf
        self.workers: int | None = None  # that decode files

    @abstractmethod
    def raw_batches(self, batch_size: int, shuffle: bool, first_pass: int = 0) -> tf.data.Dataset:
        """Checked batches as they come, each of one size; where sizes differ, not in the images' order.

        Args:
            shuffle: whether each pass has an order of its own.
            first_pass: number of the first, which decides its order.
        """

    @abstractmethod
    def in_order(self, batch_size: int, *, scale: bool = True) -> Iterator[np.ndarray]:
        """All images in their order, unpadded: as many neighbours of one size as fit into a batch."""

    @abstractmethod
    def count_batches(self, batch_size: int) -> int | None:
        """What `n_batches` says, counted afresh."""

    @abstractmethod
    def blocks(self, size: int, wanted: Callable[[int], bool] = everything) -> Iterator[Block]:
        """All images in order, `size` at a time.

        Args:
            size: images per block.
            wanted: says of a block's index whether its images will be read, each block before the next is asked for.
        """

    @property
    def is_endless(self) -> bool:
        return False

    def first(self, batches: int, batch_size: int) -> Source:
        """So many batches of a source without end; all of one that ends."""
        return self

    @abstractmethod
    def count(self) -> int | None:
        """Number of images, `None` if it isn't known without reading them."""

    def count_of_one_shape(self) -> int | None:
        """Number of images, where it is known, and all are known to have one shape."""
        return None if None in self.shape else self.count()

    @abstractmethod
    def describe(self) -> str:
        """What these images are, in a few words for messages."""

    def n_batches(self, batch_size: int) -> int | None:
        """Batches in one pass; `None` for a stream without end."""
        if batch_size not in self.counted:  # counting can mean reading everything once
            self.counted[batch_size] = self.count_batches(batch_size)
        return self.counted[batch_size]

    def dataset(self, batch_size: int, *, shuffle: bool = False, first_pass: int = 0) -> tf.data.Dataset:
        """Batches of float32 `(N, H, W, C)`, sides padded to multiples of the factor."""
        batches = self.raw_batches(batch_size, shuffle, first_pass)
        return batches.map(lambda images: pad_by_reflection(scaled(images), self.factor)).prefetch(2)

    def from_step(self, batch_size: int, step: int) -> tf.data.Dataset:
        """Endless shuffled batches, from step `step` of a training on. Whole epochs before it are not read."""
        batches = None if step == 0 else self.n_batches(batch_size)  # which may have to read all of them
        passes, rest = divmod(step, batches) if batches else (0, step)
        return self.dataset(batch_size, shuffle=True, first_pass=passes).repeat().skip(rest)

    def digest(self) -> str:
        """By which these images are known again: SHA-256 of the first of them."""
        digest = hashlib.sha256()
        for image in next(iter(self.in_order(DIGESTED, scale=False))):
            add_image(digest, np.asarray(image))
        return digest.hexdigest()

    def batches(
        self, batch_size: int, *, shuffle: bool = False, most: int | None = None, part: tuple[int, int] = (0, 1)
    ) -> Iterator[np.ndarray]:
        """The same as numpy arrays.

        Args:
            most: batches to take of, all by default.
            part: `(index, count)`, which of these: the batches `index`, `index + count`, …
        """
        dataset, (index, count) = self.dataset(batch_size, shuffle=shuffle), part
        with self.own_errors():
            yield from iterated((dataset if most is None else dataset.take(most)).shard(count, index))

    @property
    def value_range(self) -> tuple[float, float]:
        if not self.check_range:
            return widened(float(self.low), float(self.high))
        return (0.0, 1.0) if self.low >= 0 else (-1.0, 1.0)

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raises what went wrong inside `tf.data` as the error it was."""
        try:
            yield
        except tf.errors.OpError:
            if self.failure is None:
                raise
            failure, self.failure = self.failure, None
            raise failure from None

    def check_shape(self, shape: Shape, index: int | None = None) -> None:
        """Refuses images that the model isn't made for, or that are smaller than one factor."""
        check_image_shape(shape, self.shape, index=index)
        check_size(shape, self.factor)

    def check(self, images: np.ndarray, first_index: int) -> np.ndarray:
        """Refuses values that can't be pixels, and remembers the extremes of the others."""
        if images.dtype == np.uint8:
            self.low, self.high = -1.0, 1.0
            return images
        low, high = check_values(images, first_index, self.check_range, self.missing)
        self.low, self.high = min(self.low, low), max(self.high, high)
        return images

    def remember(self, failure: Exception) -> Exception:
        self.failure = failure
        return failure


class DatasetSource(Source):
    """A source whose images come out of a `tf.data.Dataset`."""

    @abstractmethod
    def raw_singles(self) -> tf.data.Dataset:
        """Checked batches of one image or more, in order."""

    def in_order(self, batch_size: int, *, scale: bool = True) -> Iterator[np.ndarray]:
        prepare = scaled if scale else tf.identity
        with self.own_errors():
            if None in self.shape:
                singles = iterated(self.raw_singles().map(prepare).prefetch(2))
                yield from joined_neighbours(singles, batch_size)
            else:
                batches = self.raw_batches(fitting(batch_size, self.shape), False)
                yield from iterated(batches.map(prepare).prefetch(2))


class Pairs(NamedTuple):
    """What a level trains on.

    Attributes:
        inputs: what the level sees.
        targets: what it should restore, one for each input, from a source of the same kind; `None` for the inputs.
    """

    inputs: Source
    targets: Source | None = None

    def dataset(self, batch_size: int, *, shuffle: bool = False) -> tf.data.Dataset:
        """Batches of inputs, or of `(inputs, targets)`."""
        return self._in_step(lambda source: source.dataset(batch_size, shuffle=shuffle))

    def from_step(self, batch_size: int, step: int) -> tf.data.Dataset:
        """Endless shuffled batches of `dataset`, from step `step` of a training on."""
        return self._in_step(lambda source: source.from_step(batch_size, step))

    def batches(
        self, batch_size: int, *, shuffle: bool = False, most: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`(inputs, targets)` as numpy arrays, at most `most` of them."""
        if self.targets is None:
            yield from ((batch, batch) for batch in self.inputs.batches(batch_size, shuffle=shuffle, most=most))
            return
        dataset = self.dataset(batch_size, shuffle=shuffle)
        yield from iterated(dataset if most is None else dataset.take(most))

    def _in_step(self, make: Callable[[Source], tf.data.Dataset]) -> tf.data.Dataset:
        if self.targets is None:
            return make(self.inputs)
        state = np.random.get_state()  # that decides the order, the same for both
        inputs = make(self.inputs)
        np.random.set_state(state)
        return tf.data.Dataset.zip((inputs, make(self.targets)))
