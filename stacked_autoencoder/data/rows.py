"""The source for images that another library reads by position: slices of a file, or single images."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.dataset import BatchLabels, StreamBlock
from stacked_autoencoder.data.source import Source, everything
from stacked_autoencoder.utils.checks import check_image_shape
from stacked_autoencoder.utils.generators import generated
from stacked_autoencoder.utils.images import Shape, joined_neighbours
from stacked_autoencoder.utils.labels import as_labels, check_is_label
from stacked_autoencoder.utils.seeds import EpochShuffler
from stacked_autoencoder.utils.value_range import UNKNOWN, ValueRange

SPAN_BYTES = 1 << 22  # read at once, unless one chunk of a file is larger
UNIT_BYTES = 1 << 16  # neighbours that stay together when a file without chunks is shuffled
WINDOW_BYTES = 1 << 27  # images from random parts of a file that are shuffled together
Images = np.ndarray | list[np.ndarray]


class Rows(ABC):
    """The protocol for data that are read by position. The adapter to a library derives from it.

    Attributes:
        name: name of the data set, for messages.
        shape: shape of every image; `None` if it is not known without reading them.
        chunk: number of rows that a file stores together, so that reading one of them reads all; `None` if any rows can
            be read as fast as neighbours.
            as neighbours.
    """

    name: str
    shape: Shape | None = None
    chunk: int | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of images."""

    @abstractmethod
    def read(self, rows: range | np.ndarray) -> tuple[Images, Sequence[Any] | None]:
        """Reads images `(H, W, C)`, not scaled, and their labels, `None` without labels.

        Args:
            rows: range of neighbours; if `chunk` is `None`, also an array of indices in any order.
        """


Result = tuple[Images, Sequence[Any] | None]


class RowsSource(Source):
    """Images that are read when they are needed, a few megabytes at once.

    A file is shuffled by its chunks: they are read in random order, and the images of many chunks are mixed.
    """

    def __init__(
        self,
        rows: Rows,
        shape: Shape,
        factor: int = 1,
        values: ValueRange = UNKNOWN,
        labels: Any = None,
    ) -> None:
        super().__init__(shape, factor, values)
        self.rows = rows
        self.labels = None if labels is None else as_labels(labels, len(rows))
        if rows.shape is not None and len(rows.shape) != len(shape):
            check_image_shape((len(rows), *rows.shape), shape, batched=True)
        if len(rows) == 0:
            raise ValueError(f"`images` is empty, but at least one image is needed. Received: {rows.name} of length 0")
        (first, *_), row_labels = rows.read(range(1))
        if row_labels is not None:
            check_is_label(row_labels[0], first, len(shape), rows.name)
        self.check_shape(first.shape)
        self.shape = (*(rows.shape or self.shape)[:-1], shape[-1])
        self.dtype = first.dtype
        self.image_bytes = max(1, first.nbytes)
        self.sizes: Counter[Shape] | None = None  # number of images per size, once they have been read
        self.span = self._rows_of(SPAN_BYTES)

    def raw_batches(self, batch_size: int, shuffle: bool, first_pass: int = 0) -> tf.data.Dataset:
        passes = EpochShuffler.drawn(shuffle, first_pass)

        def generate() -> Iterator[np.ndarray]:
            try:
                yield from batches_by_size(self._images(batch_size, passes.next()), batch_size)
            except Exception as error:  # libraries raise errors of any type
                raise self.remember(error) from None

        return generated(generate, tf.TensorSpec((None, *self.shape), self.dtype))

    def in_order(self, batch_size: int, *, scale: bool = True) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(1) as thread:
            singles = (image[None] for image, _ in self._pairs(range(len(self.rows)), self._read_ahead(thread)))
            for batch in joined_neighbours(singles, batch_size):
                yield self.values.to_level(batch).numpy() if scale else batch

    def blocks(self, size: int, wanted: Callable[[int], bool] = everything) -> Iterator[StreamBlock]:
        with ThreadPoolExecutor(1) as thread:
            read = self._read_ahead(thread)
            for start in range(0, len(self.rows), size):
                rows = range(start, min(start + size, len(self.rows)))
                yield StreamBlock(start // size, self._pairs(rows, read))

    def count(self) -> int:
        return len(self.rows)

    def count_batches(self, batch_size: int) -> int:
        if None not in self.shape:
            return -(-len(self.rows) // batch_size)
        if self.sizes is None:
            with ThreadPoolExecutor(1) as thread:
                pairs = self._pairs(range(len(self.rows)), self._read_ahead(thread))
                self.sizes = Counter(image.shape for image, _ in pairs)
        return sum(-(-count // batch_size) for count in self.sizes.values())

    def describe(self) -> str:
        return f"{len(self.rows)} images of shape {self.shape}, {self.dtype}, in a {self.rows.name}"

    # === Reading ===

    def _rows_of(self, size: int) -> int:
        """Returns the number of images in this number of bytes: whole chunks, at least one."""
        chunk = self.rows.chunk or 1
        return max(1, size // (self.image_bytes * chunk)) * chunk

    def _read(self, rows: range | np.ndarray) -> Result:
        """Reads and checks images and labels."""
        images, labels = self.rows.read(rows)
        if isinstance(images, np.ndarray):
            self.check(images, int(rows[0]))
        else:
            for row, image in zip(rows, images, strict=True):
                self.check_shape(image.shape, int(row))
                if image.dtype != self.dtype:
                    raise ValueError(
                        "All images must share one dtype, since uint8 and float values have different meanings: "
                        "convert all of them to uint8 or all to float32. "
                        f"Received: {self.dtype} first, {image.dtype} as image {row}"
                    )
                self.check(image[None], int(row))
        return images, labels

    def _span(self, index: int) -> Result:
        start = index * self.span
        return self._read(range(start, min(start + self.span, len(self.rows))))

    def _read_ahead(self, thread: ThreadPoolExecutor) -> Callable[[int], Result]:
        """Returns a function that reads spans by index. A thread reads the next span meanwhile."""
        pending: dict[int, Future[Result]] = {}

        def read(index: int) -> Result:
            for each in (index, index + 1):
                if each not in pending and each * self.span < len(self.rows):
                    pending[each] = thread.submit(self._span, each)
            for each in [each for each in pending if each not in (index, index + 1)]:
                del pending[each]
            return pending[index].result()

        return read

    def _pairs(
        self, rows: range, read: Callable[[int], Result]
    ) -> Iterator[tuple[np.ndarray, tuple[BatchLabels, int]]]:
        """Yields images in order, each with the labels that were read with it, and its row in these."""
        for index in range(rows.start // self.span, math.ceil(rows.stop / self.span)):
            images, labels = read(index)
            first = index * self.span
            span_labels = BatchLabels(labels, len(images)) if self.labels is None else BatchLabels(self.labels, None)
            for row in range(max(rows.start, first), min(rows.stop, first + len(images))):
                yield images[row - first], (span_labels, row - first if self.labels is None else row)

    def _images(self, batch_size: int, rng: np.random.Generator | None) -> Iterator[np.ndarray]:
        """Yields all images, in order or shuffled."""
        if rng is None:
            for index in range(math.ceil(len(self.rows) / self.span)):
                yield from self._span(index)[0]
        elif self.rows.chunk is None:
            order = rng.permutation(len(self.rows))
            for start in range(0, len(order), batch_size):
                yield from self._read(order[start : start + batch_size])[0]
        else:
            yield from self._mixed(rng)

    def _mixed(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Reads chunks in random order. Each image replaces a random one of a window, which is yielded."""
        unit = self._rows_of(UNIT_BYTES)
        capacity = max(1, WINDOW_BYTES // self.image_bytes)
        waiting: list[np.ndarray] = []
        for start in unit * rng.permutation(math.ceil(len(self.rows) / unit)):
            images, _ = self._read(range(int(start), min(int(start) + unit, len(self.rows))))
            for image, position in zip(images, rng.integers(capacity, size=len(images)), strict=True):
                image = image.copy()  # a view would keep its whole chunk in memory
                if len(waiting) < capacity:
                    waiting.append(image)
                else:
                    yield waiting[position]
                    waiting[position] = image
        yield from (waiting[index] for index in rng.permutation(len(waiting)))


def batches_by_size(images: Iterator[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Batches single images by size. Only the last batch of each size can be smaller than `batch_size`."""
    waiting: dict[Shape, list[np.ndarray]] = {}
    for image in images:
        same_size = waiting.setdefault(image.shape, [])
        same_size.append(image)
        if len(same_size) == batch_size:
            yield np.stack(waiting.pop(image.shape))
    yield from map(np.stack, waiting.values())
