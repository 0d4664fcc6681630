"""Encodings as whole numbers of steps, compressed with Zstandard.

A value is `center + number * step`. All channels have the same step, so that the bytes go to the channels with the
largest variance, as for transform coding with a uniform quantiser. Small numbers become few bytes: negative numbers
alternate with positive ones (0, -1, 1, -2, … become 0, 1, 2, 3, …), and the bytes of equal significance of a channel
stand next to each other, in blocks that Zstandard codes with a table of their own.

Reference:
    Gersho and Gray 1992, "Vector Quantization and Signal Compression", section 8 (transform coding).
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

FRAME_VALUES = 1 << 17  # values of several encodings in a frame; a frame is decompressed as a whole
MOST_VALUES = 1 << 28  # values of one encoding
TABLE_VALUES = 1 << 12  # at least so many values of neighbouring channels share a table,
TABLE_CHANNELS = 4  # and at least so many channels: each table takes space and time
BLOCK_VALUES = 1 << 14  # values that are processed at once
WIDTHS = range(1, 5)  # bytes per number
LARGEST_NUMBER = 1 << 23  # float32 has 24 bits, so multiples of the step beyond it would be rounded again
FLOAT32_NUMBER = 1 << 15  # up to here, float32 is exact to a hundredth before numbers are rounded
LEVEL = 1  # of Zstandard; level 9 saves another percent
CACHE_BYTES = 1 << 29


class Frame(NamedTuple):
    """Neighbouring encodings that are compressed together.

    Attributes:
        rows: number of encodings.
        width: bytes per number before the compression.
        size: bytes in the file.
    """

    rows: int
    width: int
    size: int


class DamagedFrame(ValueError):
    """The content of a frame is not what its record says."""


def zstandard() -> Any:
    """Returns the module of that name.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module("zstandard")
    except ImportError as error:
        raise ImportError(
            'Stores with a `loss_budget` need an extra: `pip install "stacked_autoencoder[zstandard]"`.'
        ) from error


def quantised(values: np.ndarray, center: np.ndarray, step: float) -> np.ndarray:
    """Returns float values `(…, channels)` as int32 numbers of steps from the center of each channel.

    Raises:
        ValueError: a value is too many steps away.
    """
    largest = max(_largest(values), _largest(center))
    dtype = np.float32 if largest <= FLOAT32_NUMBER * step else np.float64  # float32 is faster
    center, step = center.astype(dtype), dtype(step)
    result = np.empty(values.shape, np.int32)
    for rows in _blocks(math.prod(values.shape[1:]), len(values)):
        numbers = values[rows].astype(dtype)
        numbers -= center
        numbers /= step
        np.rint(numbers, out=numbers)
        farthest = _largest(numbers)
        if farthest > LARGEST_NUMBER:
            raise ValueError(
                f"An encoding is {farthest:,.0f} steps away from the mean, and {LARGEST_NUMBER:,} are possible. Choose "
                'another path, and a larger `loss_budget`, or `dtype="float32"` without it. '
                f"Received: a step of {step:g}"
            )
        result[rows] = numbers
    return result


def _largest(values: np.ndarray) -> float:
    return max(float(values.max(initial=0)), -float(values.min(initial=0)))


def _blocks(values: int, count: int) -> Iterator[slice]:
    """Returns slices of `count` rows of so many values each, to be processed one after the other.

    The memory of larger arrays would be returned to the operating system each time, which takes longer than the
    computation.
    """
    return _slices(max(1, BLOCK_VALUES // max(1, values)), count)


def _slices(size: int, count: int) -> Iterator[slice]:
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))


def restored(numbers: np.ndarray, center: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Returns int32 numbers `(…, channels)` as float32 values, in the same memory.

    `center` and `step` are broadcast to their shape.
    """
    values = numbers.view(np.float32)
    for rows in _blocks(math.prod(numbers.shape[1:]), len(numbers)):
        values[rows] = numbers[rows]
    values *= step.astype(np.float32)
    values += center.astype(np.float32)
    return values


def compressed(pieces: Sequence[np.ndarray]) -> tuple[list[bytes], list[Frame]]:
    """Compresses int32 arrays `(rows, …, channels)`. Returns the content of the frames, and their records."""
    rows = [row.reshape(-1, row.shape[-1]) for piece in pieces for row in piece]
    contents, frames = [], []
    for group in _grouped(rows):
        numbers = np.concatenate(group)
        largest_code = max(2 * int(numbers.max(initial=0)), -2 * int(numbers.min(initial=0)) - 1)
        width = max(1, (largest_code.bit_length() + 7) // 8)
        contents.append(_compressed_planes(numbers, width))
        frames.append(Frame(len(group), width, len(contents[-1])))
    return contents, frames


def _grouped(rows: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yields neighbouring rows that make one frame."""
    group: list[np.ndarray] = []
    values = 0
    for row in rows:
        if group and values + row.size > FRAME_VALUES:
            yield group
            group, values = [], 0
        group.append(row)
        values += row.size
    yield group


def largest_size(values: int, width: int) -> int:
    """Returns an upper bound of the size of a frame in bytes."""
    return values * width + values * width // 64 + 4096


def _compressed_planes(numbers: np.ndarray, width: int) -> bytes:
    """Compresses numbers `(places, channels)`: the lowest bytes of their codes, then the next ones, up to `width`."""
    module, (places, channels) = zstandard(), numbers.shape
    compressor = module.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj(size=numbers.size * width)
    planes = np.empty((width, places, channels), np.uint8)
    for rows in _blocks(channels, places):
        codes = (numbers[rows] << 1) ^ (numbers[rows] >> 31)  # 2 * n, or -2 * n - 1 for negative numbers
        for byte in range(width):
            planes[byte, rows] = codes >> (8 * byte)
    parts = []
    for plane in planes:
        for columns in _slices(max(TABLE_CHANNELS, TABLE_VALUES // max(1, places)), channels):
            block = np.empty((columns.stop - columns.start, places), np.uint8)
            _copy_transposed(plane[:, columns], block)
            parts.append(compressor.compress(block.data))
            parts.append(compressor.flush(module.COMPRESSOBJ_FLUSH_BLOCK))
    parts.append(compressor.flush())
    return b"".join(parts)


def _copy_transposed(matrix: np.ndarray, result: np.ndarray) -> None:
    """Copies `matrix.T` into `result`. For bytes, NumPy's assignment takes three times as long."""
    rows, columns = matrix.shape
    if columns <= rows:
        for column in range(columns):
            result[column] = matrix[:, column]
    else:
        for row in range(rows):
            result[:, row] = matrix[row]


def decompressed(content: bytes, frame: Frame, values: int, channels: int) -> np.ndarray:
    """Returns the numbers of a frame, `(values // channels, channels)` int8, int16 or int32.

    Raises:
        DamagedFrame: the content is not a frame of so many values.
    """
    module, size = zstandard(), values * frame.width
    try:
        # Checked first: the library allocates as many bytes as the content says.
        if module.get_frame_parameters(content).content_size != size:
            raise DamagedFrame
        planes = module.ZstdDecompressor().decompress(content, max_output_size=size)
    except module.ZstdError:
        raise DamagedFrame from None
    if len(planes) != size:
        raise DamagedFrame
    places = values // channels
    plane = np.frombuffer(planes, np.uint8).reshape(frame.width, channels, places)
    signed = np.dtype(f"i{1 << (frame.width - 1).bit_length()}")
    unsigned = np.dtype(f"u{signed.itemsize}")
    result = np.empty((places, channels), signed)
    for block in _blocks(places, channels):
        codes = plane[0, block].astype(unsigned)
        for byte in range(1, frame.width):
            codes |= plane[byte, block].astype(unsigned) << (8 * byte)
        is_negative = (codes & 1).view(signed)
        codes >>= 1
        numbers = codes.view(signed)
        numbers ^= -is_negative
        _copy_transposed(numbers, result[:, block])
    return result


class FrameCache:
    """Keeps the most recently read frames of all stores in this process, up to a number of bytes."""

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self.most = most
        self.lock = threading.Lock()
        self.frames: OrderedDict[Any, np.ndarray] = OrderedDict()
        self.size = 0

    def get(self, key: Any) -> np.ndarray | None:
        with self.lock:
            numbers = self.frames.get(key)
            if numbers is not None:
                self.frames.move_to_end(key)
            return numbers

    def add(self, key: Any, numbers: np.ndarray) -> None:
        with self.lock:
            if key in self.frames:  # another thread was faster
                return
            self.frames[key] = numbers
            self.size += numbers.nbytes
            while self.size > self.most:
                self.size -= self.frames.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Removes all frames."""
        with self.lock:
            self.frames.clear()
            self.size = 0

    def unlock(self) -> None:
        """Replaces the lock in a forked process, where the thread that held it does not exist."""
        self.lock = threading.Lock()


FRAMES = FrameCache()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=FRAMES.unlock)
