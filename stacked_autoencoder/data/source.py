"""The base classes of all sources of images: batches of one size, checked, scaled and padded.

An error within `tf.data` is stored and raised again with its original message instead of a message of TensorFlow.
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
    """Neighbouring images of a source, which become one shard of a store.

    Attributes:
        index: index of the block in its source.
        names: path of each image, if the source has paths.
        labels: labels of the images, if the source has labels; complete after `batches` has been read.
    """

    index: int
    names: list[str] | None = None
    labels: Labels | None = None

    def labels_of(self, names: list[str] | None) -> Labels | None:
        """Returns the labels of the images with these names, for a block that is not read again."""
        return self.labels

    @abstractmethod
    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """Yields the images in order, not scaled, in batches of one size. Can be read only once."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Returns a SHA-256 that identifies the images. A stream reads the rest of the block for it."""


class ImageBlock(Block):
    """A block that yields single images, and is identified by their values."""

    @abstractmethod
    def images(self) -> Iterator[np.ndarray]:
        """Yields single images in order, not scaled."""

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        return joined_neighbours((image[None] for image in self.images()), batch_size)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for image in self.images():
            add_image(digest, image)
        return digest.hexdigest()


def add_image(digest: Any, image: np.ndarray) -> None:
    """Adds an image to a `hashlib` digest. Equal images have equal digests, whatever their container is."""
    digest.update(f"{image.shape} {image.dtype}".encode())
    digest.update(np.ascontiguousarray(image).data)


DIGESTED = 256  # number of images in a digest


def everything(_: Any) -> bool:
    return True


class Source(ABC):
    """Images of one or several sizes, which can be read any number of times.

    Attributes:
        shape: shape of one image, `(H, W, C)`, or `(timesteps, features)` of a sequence. `None` for a side that varies.
        values: value range that the images must lie in. It can be replaced by the range of the training data.
        low, high: lowest and highest value that has been read, on the scale of level 0.
        value_range: `(low, high)` of the images, `low < high`: the range of the user if there is one; else [-1, 1] for
            `uint8`, [0, 1] or [-1, 1] for floats, depending on what has been read; the extremes of what has been read
            if the range is not checked.
        class_names: names of the classes, if the source has them.
        parts: number of images that are joined along the last axis, 2 for pairs.
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
        self.workers: int | None = None  # threads that decode files

    @abstractmethod
    def raw_batches(self, batch_size: int, shuffle: bool, first_pass: int = 0) -> tf.data.Dataset:
        """Returns checked batches that are not scaled, each of one size. If sizes vary, the order may change.

        Args:
            batch_size: images per batch.
            shuffle: whether each pass has a new random order.
            first_pass: number of the first pass, which decides its order.
        """

    @abstractmethod
    def in_order(self, batch_size: int, *, scale: bool = True) -> Iterator[np.ndarray]:
        """Yields all images in order, not padded, in batches of neighbours of one size."""

    @abstractmethod
    def count_batches(self, batch_size: int) -> int | None:
        """Counts the batches of one pass for `n_batches`."""

    @abstractmethod
    def blocks(self, size: int, wanted: Callable[[int], bool] = everything) -> Iterator[Block]:
        """Yields blocks of `size` images in order.

        Args:
            size: images per block.
            wanted: function of the index of a block; whether its images will be read. Each block must be read before
                the next one is requested.
        """

    @property
    def is_endless(self) -> bool:
        return False

    def first(self, batches: int, batch_size: int) -> Source:
        """Returns the first batches of an infinite source, or the whole of a finite one."""
        return self

    @abstractmethod
    def count(self) -> int | None:
        """Returns the number of images, `None` if it is not known without reading them."""

    def count_of_one_shape(self) -> int | None:
        """Returns the number of images if it is known and all images have one shape, else `None`."""
        return None if None in self.shape else self.count()

    @abstractmethod
    def describe(self) -> str:
        """Returns a short description of the images, for messages."""

    def n_batches(self, batch_size: int) -> int | None:
        """Returns the number of batches in one pass, `None` for an infinite source."""
        if batch_size not in self.counted:  # counting can mean reading everything once
            self.counted[batch_size] = self.count_batches(batch_size)
        return self.counted[batch_size]

    def dataset(self, batch_size: int, *, shuffle: bool = False, first_pass: int = 0) -> tf.data.Dataset:
        """Returns batches of float32 `(N, H, W, C)`, padded to multiples of the factor."""
        batches = self.raw_batches(batch_size, shuffle, first_pass)
        return batches.map(lambda images: pad_by_reflection(self.values.to_level(images), self.factor)).prefetch(2)

    def from_step(self, batch_size: int, step: int) -> tf.data.Dataset:
        """Returns infinite shuffled batches, starting at step `step` of a training. Earlier epochs are not read."""
        batches = None if step == 0 else self.n_batches(batch_size)  # may read all batches
        passes, rest = divmod(step, batches) if batches else (0, step)
        return self.dataset(batch_size, shuffle=True, first_pass=passes).repeat().skip(rest)

    def digest(self) -> str:
        """Returns a SHA-256 of the first images, which identifies the images."""
        digest = hashlib.sha256()
        for image in next(iter(self.in_order(DIGESTED, scale=False))):
            add_image(digest, np.asarray(image))
        return digest.hexdigest()

    def batches(
        self, batch_size: int, *, shuffle: bool = False, most: int | None = None, part: tuple[int, int] = (0, 1)
    ) -> Iterator[np.ndarray]:
        """Yields the batches of `dataset` as NumPy arrays.

        Args:
            batch_size: images per batch.
            shuffle: whether to shuffle the images.
            most: maximum number of batches, `None` for all.
            part: `(index, count)`: only the batches `index`, `index + count`, … are returned.
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
        """Whether the images that were read seem to lie in [0, 1], though the stack was trained on [-1, 1]."""
        is_signed = self.values.origin == "data" and self.values.is_checked and self.values.ends == SIGNED
        return is_signed and spans_unit_range(self.low, self.high)

    def warn_of_unit_range(self) -> None:
        if self.looks_like_unit_range:
            warnings.warn(
                f"The stack was trained on images in [-1, 1], but these lie between {self.low:g} and {self.high:g}, as "
                "images in [0, 1] do. If they are in [0, 1], scale them with `images * 2 - 1`. If they are in [-1, 1], "
                "`sae.value_range = (-1, 1)` turns off this warning.",
                stacklevel=4,
            )

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raises the original error instead of an error of `tf.data`."""
        try:
            yield
        except tf.errors.OpError:
            if self.failure is None:
                raise
            failure, self.failure = self.failure, None
            raise failure from None

    def check_shape(self, shape: Shape, index: int | None = None) -> None:
        """Raises `ValueError` for images that do not fit the model or are smaller than its factor."""
        check_image_shape(shape, self.shape, index=index)
        check_size(shape, self.factor)

    def check(self, images: np.ndarray, first_index: int) -> np.ndarray:
        """Raises `ValueError` for values outside of the value range, and records the extremes of other values."""
        if images.dtype == np.uint8:
            check_takes_pixels(self.values)
            self.has_pixels = True
            low, high = self.values.pixel_ends
        else:
            low, high = self.values.to_level_extremes(*check_values(images, first_index, self.values))
        self.low, self.high = min(self.low, low), max(self.high, high)
        return images

    def scale_by(self, values: ValueRange) -> None:
        """Sets the value range that was found in the training data."""
        self.values = values
        if self.has_pixels:
            self.low, self.high = values.pixel_ends

    def remember(self, failure: Exception) -> Exception:
        self.failure = failure
        return failure


def spans_unit_range(low: float, high: float) -> bool:
    """Whether the extremes are close to 0 and 1, which is rare for images in [-1, 1]."""
    return 0 <= low <= 0.25 and 0.75 <= high <= 1 + SLACK


def check_same_range(training: Source, validation: Source) -> None:
    """Raises `ValueError` if only one of training and validation data seems to lie in [0, 1].

    Args:
        training: source that has been read at least in part.
        validation: source that has been read.
    """
    if training.values.origin == "user" or not training.values.is_checked:
        return
    if training.low >= 0 and validation.low < -SLACK:
        raise ValueError(
            "The stack was trained on images in [0, 1], but `validation_data` has negative values. If it is in "
            f"[-1, 1], scale it with `(images + 1) / 2`. Received: values from {validation.low:g} to "
            f"{validation.high:g}"
        )
    if training.low < -0.5 and spans_unit_range(validation.low, validation.high):
        raise ValueError(
            f"The training images lie between {training.low:g} and {training.high:g}, but `validation_data` between "
            f"{validation.low:g} and {validation.high:g}, as images in [0, 1] do: scale them with `images * 2 - 1`. If "
            "they are in [-1, 1], make the Autoencoder with `value_range=(-1, 1)`. Received: validation_data of "
            f"{validation.describe()}"
        )


class DatasetSource(Source):
    """A source whose images are read from a `tf.data.Dataset`."""

    @abstractmethod
    def raw_singles(self) -> tf.data.Dataset:
        """Returns checked batches of one or more images, in order."""

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
