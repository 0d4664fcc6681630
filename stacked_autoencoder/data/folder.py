"""The source for folders of pictures."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.array_files import split_page
from stacked_autoencoder.data.decoding import TOO_SMALL, picture_reader
from stacked_autoencoder.data.image_folder import ImageFolder
from stacked_autoencoder.data.listing import listed
from stacked_autoencoder.data.source import Block, DatasetSource, everything
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.generators import Released, generated, iterated, released
from stacked_autoencoder.utils.images import Shape, fitting, index_batches, joined_neighbours
from stacked_autoencoder.utils.labels import Labels, as_labels, count_of, labels_at
from stacked_autoencoder.utils.seeds import EpochShuffler
from stacked_autoencoder.utils.value_range import UNKNOWN, ValueRange

MOST = 0.05  # maximum share of pictures that cannot be read


class Unreadable:
    """The pictures of a folder that cannot be read: warns of each one once, and raises an error if there are too many.

    Args:
        folder: the folder. Its `skipped` are the first unreadable pictures, and others are added to it.

    Attributes:
        reasons: index in the folder's `files` → path and reason, in the order in which they were found.
    """

    def __init__(self, folder: ImageFolder) -> None:
        self.folder = folder
        known = folder.skipped.copy()
        rows = [row for row, name in enumerate(folder.files) if name in known] if known else []
        self.reasons = {row: self._described(row, known[folder.files[row]]) for row in rows}
        self.n_reported = 0
        self._check_share()

    def add(self, row: int, reason: str) -> None:
        self.reasons[row] = self._described(row, reason)
        self.folder.skipped[self.folder.files[row]] = reason
        self._check_share()

    def warn(self) -> None:
        """Warns of unreadable pictures that it has not warned of yet."""
        self._check_share()  # an error in a batch that was prefetched but not used was not raised
        new = list(self.reasons.values())[self.n_reported :]
        if new:
            self.n_reported += len(new)  # other threads may have added more
            warnings.warn(
                f"Skipped, since they {_problem(new)} ({self.n_reported} of {len(self.folder.files)} pictures so far): "
                f"{listed(new)}",
                stacklevel=2,
            )

    def _described(self, row: int, reason: str) -> str:
        return f"{printable(self.folder.path / self.folder.files[row])} ({printable(reason)})"

    def _check_share(self) -> None:
        if len(self.reasons) > MOST * len(self.folder.files):
            reasons = list(self.reasons.values())
            fix = "" if all(map(_is_small, reasons)) else "Repair or remove them. "
            if any(map(_is_small, reasons)):
                fix += f"Use `side={self.folder.crop}` instead of `crop`, which resizes pictures, or a smaller `crop`. "
            raise ValueError(
                f"More than {MOST:.0%} of {len(self.folder.files)} pictures {_problem(reasons)}: {listed(reasons)}. "
                f"{fix}Received: {self.folder.as_call()}"
            )


def _is_small(reason: str) -> bool:
    return f" ({TOO_SMALL}" in reason


def _problem(reasons: list[str]) -> str:
    """Returns what is wrong with the pictures, as the end of a sentence."""
    small = sum(map(_is_small, reasons))
    if not small:
        return "can't be read"
    return "are smaller than the crop" if small == len(reasons) else "can't be read or are smaller than the crop"


def reason_of(error: tf.errors.OpError) -> str:
    """Returns the message of an error of a graph, without the names of operations."""
    raised = re.search(r"(?:[\w.]+: )?([^\n]*)\nTraceback \(most recent call last\)", error.message)
    if raised is not None:  # an error in Python
        return raised[1]
    message = error.message.split("\n\t [[")[0].split("\n")[-1]
    asserted = re.search(r"assertion failed: (\[.*\])", message)
    if asserted is None:
        return message
    values = re.sub(r"\\(['\"])", r"\1", asserted[1][1:-1]).split("] [")  # texts, numbers and vectors of numbers
    return " ".join(re.sub(r"(?<=\d) (?=-?\d)", " x ", value) for value in values)


Order = tuple[np.ndarray, int]  # indices in the folder, and a seed for crops


class FolderBlock(Block):
    """The pictures of a block of a folder.

    Args:
        index: index of the block.
        source: source of the folder.
        rows: indices of the pictures of this block in the folder.
        reading: function of the batch size that returns the batches of all blocks that are read, with an empty batch
            after each block.
    """

    def __init__(
        self, index: int, source: FolderSource, rows: range, reading: Callable[[int], Iterator[np.ndarray]]
    ) -> None:
        self.index = index
        self.source = source
        self.rows = rows
        self.reading = reading

    @property
    def names(self) -> list[str]:
        return [self.source.folder.files[row] for row in self.source.readable(self.rows)]

    @property
    def labels(self) -> Labels | None:
        return labels_at(self.source.labels, self.source.readable(self.rows))

    def labels_of(self, names: list[str] | None) -> Labels | None:
        """Returns the labels of pictures by name, since unreadable pictures are known only after a block was read."""
        kept = set(names or ())
        return labels_at(self.source.labels, [row for row in self.rows if self.source.folder.files[row] in kept])

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        with self.source.own_errors():
            singles = None in self.source.shape
            batches = takewhile(len, self.reading(1 if singles else fitting(batch_size, self.source.shape)))
            yield from joined_neighbours(batches, batch_size) if singles else batches

    def fingerprint(self) -> str:
        """Hashes names, sizes and modification times, since reading a million pictures would take too long."""
        digest = hashlib.sha256()
        for folder in self.source.folders:
            names = [folder.files[row] for row in self.rows]
            files = [(name, *_size_and_time(folder.path / split_page(name)[0])) for name in names]
            options: list[Any] = [folder.side, folder.crop, folder.seed if folder.crop else None]
            if folder.size is not None and folder.side is None:
                options += [folder.size, folder.fit]
            if folder.renumbered:  # `class_names` gives these pictures other labels
                options.append(folder.class_names)
            digest.update(json.dumps([options, files]).encode())
        return digest.hexdigest()


# Without autotuning: at its end, a pipeline waits for the autotuner, the longer the longer it has run.
UNTUNED = tf.data.Options()


UNTUNED.autotune.enabled = False


class FolderSource(DatasetSource):
    """The pictures of a folder. `labels` replace the labels of the folder."""

    def __init__(
        self, folder: ImageFolder, shape: Shape, factor: int, values: ValueRange = UNKNOWN, labels: Any = None
    ) -> None:
        channels = shape[-1] // self.parts
        super().__init__(shape, factor, values)
        size = folder.size if folder.crop is None else (folder.crop, folder.crop)
        if size is not None:
            self.check_shape((*size, shape[-1]))
            self.shape = (*size, shape[-1])
        self.folder = folder
        self.class_names = folder.class_names if labels is None else None
        self.labels = folder.all_labels if labels is None else _labels_of_all(labels, folder)
        self.names = tf.constant([os.fsencode(name) for name in folder.files])
        self.picture_at = picture_reader(channels, folder.size, folder.crop, folder.max_pixels, folder.fit, values)
        self.dtype = np.dtype(np.float32 if values.reads_deep else np.uint8)
        if folder.augment is not None:
            self._check_keeps_shape(folder.augment)
        self.unreadable = Unreadable(folder)
        self.sizes: dict[int, Shape] | None = None  # sizes of all readable pictures, once they have been read
        if values.reads_deep:  # each picture is checked when it is read
            self.low, self.high = values.level_ends
        else:
            self.check(np.zeros((1, 1, 1, self.parts), np.uint8), 0)

    @property
    def folders(self) -> list[ImageFolder]:
        """All folders that pictures are read from."""
        return [self.folder]

    def path_of(self, row: tf.Tensor) -> tf.Tensor:
        return tf.strings.join([os.fsencode(self.folder.path), self.names[row]], "/")

    def picture(self, row: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns a graph that reads a picture, and raises `tf.errors.OpError` if it cannot be read.

        Args:
            row: index of the picture in the folder.
            seed: `(2,)`, decides the position of a crop.
        """
        return self.picture_at(self.path_of(row), seed)

    def readable(self, rows: range) -> list[int]:
        return [row for row in rows if row not in self.unreadable.reasons]

    def raw_batches(self, batch_size: int, shuffle: bool, first_pass: int = 0) -> tf.data.Dataset:
        batches = self._plain_batches(batch_size, shuffle, first_pass)
        return batches.map(self._augmented) if shuffle and self.folder.augment is not None else batches

    def _plain_batches(self, batch_size: int, shuffle: bool, first_pass: int) -> tf.data.Dataset:
        if None not in self.shape:
            return self._passes(self._whole(shuffle, first_pass), batch_size)
        sizes, passes = self._sizes(), EpochShuffler.drawn(shuffle, first_pass)
        rows = np.array(list(sizes), np.int64)

        def orders() -> Iterator[Order]:  # one pass per batch, since a batch holds one size
            plan = index_batches(list(sizes.values()), len(rows), batch_size, passes.next())
            return ((rows[indices], self.folder.seed) for indices in plan)

        return self._passes(orders, batch_size)

    def _augmented(self, images: tf.Tensor) -> tf.Tensor:
        changed = self.folder.augment(tf.cast(images, tf.float32), training=True)
        if images.dtype.is_integer:
            changed = tf.saturate_cast(tf.round(changed), images.dtype)
        return tf.ensure_shape(tf.cast(changed, images.dtype), images.shape)

    def _check_keeps_shape(self, augment: keras.Layer) -> None:
        """Builds the layer for pictures of any size. Raises `ValueError` if it changes their shape."""
        shape = (None, *self.shape)
        changed = augment(keras.KerasTensor(shape, "float32"), training=True)
        if tuple(changed.shape) != shape:
            raise ValueError(
                "`augment` must keep the shape of its input. Change the size of pictures with `size` or `crop` of "
                f"`ImageFolder`. Received: a {type(augment).__name__} that makes {tuple(changed.shape)} of {shape}"
            )

    def raw_singles(self) -> tf.data.Dataset:
        return self._passes(self._whole(shuffle=False), batch_size=1)

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        with super().own_errors():
            yield
        self.unreadable.warn()

    def blocks(self, size: int, wanted: Callable[[int], bool] = everything) -> Iterator[FolderBlock]:
        count = len(self.folder.files)
        parts = [range(start, min(start + size, count)) for start in range(0, count, size)]

        def orders() -> Iterator[Order]:
            return (self._order(part) for index, part in enumerate(parts) if wanted(index))

        readings: dict[int, Iterator[np.ndarray]] = {}

        def reading(batch_size: int) -> Iterator[np.ndarray]:  # continues from block to block without a pause
            if batch_size not in readings:
                readings[batch_size] = iterated(self._marked(orders, batch_size).prefetch(2))
            return readings[batch_size]

        try:
            for index, part in enumerate(parts):
                yield FolderBlock(index, self, part, reading)
        finally:
            for batches in readings.values():
                batches.close()

    def count(self) -> int:
        return len(self.folder.files) - len(self.unreadable.reasons)

    def describe(self) -> str:
        """Identifies the pictures in checkpoints and caches, so it does not change while they are read."""
        return f"{len(self.folder.files)} pictures, {self.folder.as_call()}"

    def n_batches(self, batch_size: int) -> int:
        """Counts each time, since more pictures may have turned out to be unreadable."""
        return self.count_batches(batch_size)

    def count_batches(self, batch_size: int) -> int:
        if None not in self.shape:
            return -(-self.count() // batch_size)
        return sum(-(-count // batch_size) for count in Counter(self._sizes().values()).values())

    def _sizes(self) -> dict[int, Shape]:
        if self.sizes is None:
            with self.own_errors():
                shapes = [tuple(shape[1:3]) for shape in iterated(self.raw_singles().map(tf.shape))]
            self.sizes = dict(zip(self.readable(range(len(self.folder.files))), shapes, strict=True))
        return self.sizes

    def _whole(self, shuffle: bool, first_pass: int = 0) -> Callable[[], Iterator[Order]]:
        passes = EpochShuffler.drawn(shuffle, first_pass)
        return lambda: iter([self._order(range(len(self.folder.files)), passes.next())])

    def _order(self, rows: range, rng: np.random.Generator | None = None) -> Order:
        readable = np.array(self.readable(rows), np.int64)
        return (readable, self.folder.seed) if rng is None else (rng.permutation(readable), rng.integers(2**31))

    def _passes(self, orders: Callable[[], Iterator[Order]], batch_size: int) -> tf.data.Dataset:
        return self._marked(orders, batch_size).filter(lambda images: tf.shape(images)[0] > 0)

    def _marked(self, orders: Callable[[], Iterator[Order]], batch_size: int) -> tf.data.Dataset:
        """Returns the batches of several passes over the folder or parts of it, with an empty batch after each pass."""
        signature = (tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.int64))
        passes = generated(orders, signature)
        return released(
            self._examine_missing,
            lambda examine: passes.flat_map(partial(self._one_pass, examine=examine, batch_size=batch_size)),
        ).with_options(UNTUNED)

    def _one_pass(self, rows: tf.Tensor, seed: tf.Tensor, examine: Released, batch_size: int) -> tf.data.Dataset:
        """Returns batches in the order of `rows`, and an empty one at the end. Python runs only for missing pictures.

        Pictures that are unreadable or have a wrong shape are dropped. They are found by the gaps in the positions.
        """
        count = tf.size(rows, tf.int64)

        def read(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = self.picture(rows[position], tf.stack([seed, rows[position]]))
            is_large = tf.reduce_min(tf.shape(image)[:2]) >= self.factor
            with tf.control_dependencies([tf.raw_ops.Assert(condition=is_large, data=[position])]):
                return position, tf.ensure_shape(image, self.shape)

        def checked(expected: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            positions, images = batch
            after = positions[-1] + 1
            examined = tf.cond(
                after - expected == tf.size(positions, tf.int64),
                lambda: True,
                lambda: tf.numpy_function(examine, [rows, expected, positions], tf.bool),
            )
            with tf.control_dependencies([examined]):
                return after, tf.identity(images)

        end = count[None], tf.zeros((0, *(side or 0 for side in self.shape)), self.dtype)
        pictures = tf.data.Dataset.range(count).map(read, num_parallel_calls=self.workers or tf.data.AUTOTUNE)
        batches = pictures.ignore_errors().batch(batch_size).concatenate(tf.data.Dataset.from_tensors(end))
        return batches.scan(tf.constant(0, tf.int64), checked)

    def _examine_missing(self, rows: np.ndarray, start: int, positions: np.ndarray) -> np.bool_:
        """Examines the pictures between `start` and the last position that are missing in `positions`."""
        if self.failure is not None:  # after an error, all later pictures are missing
            raise self.failure
        try:
            for position in sorted(set(range(start, int(positions[-1]))) - set(positions.tolist())):
                self._examine(int(rows[position]))
        except ValueError as error:
            raise self.remember(error) from None
        return np.True_

    def _examine(self, row: int) -> None:
        """Records an unreadable picture. Raises `ValueError` for a picture of a wrong shape."""
        path = self.folder.path / self.folder.files[row]
        try:
            image = self.picture(tf.constant(row), tf.constant([self.folder.seed, row], tf.int64))
        except tf.errors.OpError as error:
            self.unreadable.add(row, reason_of(error))
            return
        try:
            self.check_shape(image.shape)
        except ValueError as error:
            height, width = self.shape[:2]
            size = f"side={height}" if height == width else f"size=({height}, {width})"
            fix = f"`ImageFolder(path, {size})` resizes pictures. " if height and width else ""
            raise ValueError(f"{printable(path)}: {fix}{error}") from None
        self.unreadable.add(row, "it could not be read at the first attempt")


def _labels_of_all(labels: Any, folder: ImageFolder) -> Labels:
    """Checks labels that are passed with a folder: one for each of its `names`, or one for each of its files."""
    if not folder.skipped:
        return as_labels(labels, len(folder.files))
    labels = as_labels(labels)
    if count_of(labels) == len(folder.files):
        return labels
    as_labels(labels, len(folder))
    positions = np.cumsum([name not in folder.skipped for name in folder.files]) - 1
    return labels_at(labels, np.maximum(positions, 0))  # labels of skipped pictures are not used


def _size_and_time(file: Path) -> tuple[int, int] | tuple[None, None]:
    """Returns size and modification time of a file, `None` if it does not exist, which reading will report."""
    try:
        stat = file.stat()
    except OSError:
        return None, None
    return stat.st_size, stat.st_mtime_ns
