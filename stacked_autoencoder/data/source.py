"""What every source of images gives: batches of one size, checked, scaled and padded.

An error in the middle of a stream is kept and raised again in our own words, not TensorFlow's.
"""

from __future__ import annotations

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from stacked_autoencoder.utils.checks import check_image_shape, check_size, check_takes_pixels, check_values
from stacked_autoencoder.utils.generators import iterated
from stacked_autoencoder.utils.images import Shape, fitting, joined_neighbours, pad_by_reflection, widened
from stacked_autoencoder.utils.labels import Labels
from stacked_autoencoder.utils.value_range import SIGNED, SLACK, UNIT, ValueRange


class Block(ABC):
    """Neighbouring images of a source: what becomes one shard of a store.

    Attributes:
        index: of the block in its source.
        names: where each image came from, if the source knows.
        labels: what the source gives beside the images, if anything; complete when `batches` has been read.
    """

    index: int
    names: list[str] | None = None
    labels: Labels | None = None

    def labels_of(self, names: list[str] | None) -> Labels | None:
        """The labels of the images with these names, of a block that isn't read again."""
        return self.labels

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
        values: range that the images must lie in, how they are scaled for level 0, and whether values may be missing,
            which are NaN in batches. It may be replaced by the range that was found in the training data.
        low, high: extremes of what has been read, on the scale of level 0.
        value_range: `(low, high)` of the images, `low < high`: the one that the user gave; else [-1, 1] for `uint8`,
            [0, 1] or [-1, 1] for floats, by what has been read; the observed extremes where the range isn't checked.
        class_names: names of the labels' numbers, if the source knows them.
        parts: images that are joined along the last axis, 2 for pairs.
    """

    class_names: list[str] | None = None
    parts = 1

    def __init__(self, shape: Shape, factor: int, values: ValueRange) -> None:
        self.shape = tuple(shape)
        self.factor = factor
        self.values = values
        self.failure: Exception | None = None
        self.counted: dict[int, int | None] = {}
        self.low, self.high = np.inf, -np.inf
        self.has_pixels = False  # `uint8`
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
        """The first batches of an infinite source; all of a finite one."""
        return self

    @abstractmethod
    def count(self) -> int | None:
        """Number of images, `None` if it isn't known without reading them."""

    def count_of_one_shape(self) -> int | None:
        """Number of images, where it is known, and all are known to have one shape."""
        return None if None in self.shape else self.count()

    @abstractmethod
    def describe(self) -> str:
        """A short description of these images, for messages."""

    def n_batches(self, batch_size: int) -> int | None:
        """Number of batches in one pass; `None` for an infinite stream."""
        if batch_size not in self.counted:  # counting can mean reading everything once
            self.counted[batch_size] = self.count_batches(batch_size)
        return self.counted[batch_size]

    def dataset(self, batch_size: int, *, shuffle: bool = False, first_pass: int = 0) -> tf.data.Dataset:
        """Batches of float32 `(N, H, W, C)`, sides padded to multiples of the factor."""
        batches = self.raw_batches(batch_size, shuffle, first_pass)
        return batches.map(lambda images: pad_by_reflection(self.values.to_level(images), self.factor)).prefetch(2)

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
        if self.values.origin == "user":
            return self.values.ends
        if not self.values.is_checked:
            return widened(float(self.low), float(self.high))
        return UNIT if self.low >= 0 else SIGNED

    @property
    def looks_like_unit_range(self) -> bool:
        """Whether images for a stack that was trained on [-1, 1] seem to lie in [0, 1], by what has been read."""
        is_signed = self.values.origin == "data" and self.values.is_checked and self.values.ends == SIGNED
        return is_signed and spans_unit_range(self.low, self.high)

    def warn_of_unit_range(self) -> None:
        if self.looks_like_unit_range:
            warnings.warn(
                f"The stack was trained on images in [-1, 1], and these lie between {self.low:g} and {self.high:g}, as "
                "images in [0, 1] do. If they are, scale them with `images * 2 - 1`. If they lie in [-1, 1], "
                "`sae.value_range = (-1, 1)` turns this warning off.",
                stacklevel=4,
            )

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
        """Refuses values outside of the range, and remembers the extremes of the others."""
        if images.dtype == np.uint8:
            check_takes_pixels(self.values)
            self.has_pixels = True
            low, high = self.values.pixel_ends
        else:
            low, high = self.values.to_level_extremes(*check_values(images, first_index, self.values))
        self.low, self.high = min(self.low, low), max(self.high, high)
        return images

    def scale_by(self, values: ValueRange) -> None:
        """Scales images by the range that was found in the training data."""
        self.values = values
        if self.has_pixels:
            self.low, self.high = values.pixel_ends

    def remember(self, failure: Exception) -> Exception:
        self.failure = failure
        return failure


def spans_unit_range(low: float, high: float) -> bool:
    """Whether values with these extremes fill most of [0, 1], as few sets of images in [-1, 1] do."""
    return 0 <= low <= 0.25 and 0.75 <= high <= 1 + SLACK


def check_same_range(training: Source, validation: Source) -> None:
    """Refuses validation data in [0, 1] where the training data lie in [-1, 1] and the other way round.

    Args:
        training: has been read at least in part.
        validation: has been read.

    Raises:
        ValueError: their ranges seem to differ.
    """
    if training.values.origin == "user" or not training.values.is_checked:
        return
    if training.low >= 0 and validation.low < -SLACK:
        raise ValueError(
            "The stack was trained on images in [0, 1], and `validation_data` has negative values. Scale it with "
            f"`(images + 1) / 2` if it lies in [-1, 1]. Received: values from {validation.low:g} to {validation.high:g}"
        )
    if training.low < -0.5 and spans_unit_range(validation.low, validation.high):
        raise ValueError(
            f"The training images lie between {training.low:g} and {training.high:g}, and `validation_data` between "
            f"{validation.low:g} and {validation.high:g}, as images in [0, 1] do: scale them with `images * 2 - 1`. If "
            "they lie in [-1, 1], make the Autoencoder with `value_range=(-1, 1)`. Received: validation_data of "
            f"{validation.describe()}"
        )


class DatasetSource(Source):
    """A source whose images come out of a `tf.data.Dataset`."""

    @abstractmethod
    def raw_singles(self) -> tf.data.Dataset:
        """Checked batches of one image or more, in order."""

    def in_order(self, batch_size: int, *, scale: bool = True) -> Iterator[np.ndarray]:
        prepare = self.values.to_level if scale else tf.identity
        with self.own_errors():
            if None in self.shape:
                singles = iterated(self.raw_singles().map(prepare).prefetch(2))
                yield from joined_neighbours(singles, batch_size)
            else:
                batches = self.raw_batches(fitting(batch_size, self.shape), False)
                yield from iterated(batches.map(prepare).prefetch(2))
        self.warn_of_unit_range()
