"""The shards of an `EncodingStore`: files that are written atomically and read by position.

A shard is a `.npy` file with an array `(rows, *encoding_shape)`. If sizes vary within a shard, it holds all values one
after the other, and its record lists the sizes. Compressed shards consist of Zstandard frames, see `store.compression`.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import stat
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stacked_autoencoder.store.compression import FRAMES, DamagedFrame, Frame, decompressed, zstandard
from stacked_autoencoder.store.manifest import COMPRESSED, MOST, Record
from stacked_autoencoder.utils.files import problem_with, sha256
from stacked_autoencoder.utils.images import Shape

MOST_OPEN = 64  # open files of all stores in this process
AT_ONCE = 512  # buffers per system call; systems allow 1,024
HEADER = re.compile(
    rb"\{'descr': '([<>][fiu][248]|[|][bui]1)', 'fortran_order': False, 'shape': \(([\d, ]{0,200})\), \} *\n"
)


LONGEST_HEADER = 1024
OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


Mark = tuple[int, int, int, int]  # identifies a file: device, inode, size, time of modification


class Shard:
    """One file of a store. It is opened when it is first read, and closed when many other files have been read since.

    Args:
        folder: folder of the store.
        record: checked entry of the manifest.
        dtype: dtype of the store.

    Attributes:
        index: index of the block of images in the source.
        record: entry of the manifest: `index`, `rows`, `shape` of an encoding (`None` for sides that vary, then `sizes`
            lists them), number of `values` per channel, their `sum` and `squares` per channel, `sha256` of the file,
            fingerprint of the `source`, and `names` and `labels` if the source has them. With int8, also `center`
            and `reach` per channel, see `store.quantisation`; with compression,
            `center`, `step` and `frames`, see `store.compression`.
        mark: what identified the file when it was checked.
    """

    def __init__(self, folder: Path, record: Record, dtype: np.dtype) -> None:
        self.record = record
        self.dtype = dtype
        self.index: int = record["index"]
        self.rows: int = record["rows"]
        self.shape: Shape = tuple(record["shape"])
        self.file = shard_file(folder, self.index, dtype.name)
        self.row_bytes = 0 if None in self.shape else math.prod(self.shape) * dtype.itemsize  # 0 if sizes vary
        self.mark: Mark | None = None
        self.start = 0  # of the values in the file
        self.descriptor: Descriptor | None = None

    def problem(self) -> str | None:
        """Checks the file. Returns what is wrong with it, or `None` and prepares for reading."""
        result = self._check()
        if isinstance(result, str):
            return result
        self.start, self.mark = result
        return None

    def _check(self) -> str | tuple[int, Mark]:
        """Returns what is wrong with the file, or the position of its values and its mark. Reads no values."""
        try:
            status = os.lstat(self.file)
            problem = "it is a link" if stat.S_ISLNK(status.st_mode) else problem_with(status, MOST)
            if problem is not None:
                return f"isn't read: {problem}"
            descriptor = Descriptor(self.file)
        except FileNotFoundError:
            return "is missing"
        status = os.fstat(descriptor.number)
        if not stat.S_ISREG(status.st_mode):  # the file was replaced meanwhile
            return "isn't a regular file"
        start = self._check_content(descriptor.number, status.st_size)
        return start if isinstance(start, str) else (start, mark_of(status))

    def _check_content(self, descriptor: int, size_on_disk: int) -> str | int:
        """Returns what is wrong with an open file, or the position of its values."""
        content, shape = os.pread(descriptor, LONGEST_HEADER, 0), self.stored_shape
        header = _header(self.dtype.str, shape)
        if not content.startswith(header):  # other versions of NumPy use other padding
            header, dtype, stored = _parsed_header(content)
            if not header:
                return f"isn't a .npy file of {self.dtype}"
            if (dtype, stored) != (self.dtype, shape):
                return f"holds an array of shape {stored}, {dtype}, but the manifest says {shape}, {self.dtype}"
        size = len(header) + self.record["values"] * self.shape[-1] * self.dtype.itemsize
        return len(header) if size_on_disk == size else _other_size(size_on_disk, size)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the array in the file."""
        return (self.record["values"] * self.shape[-1],) if None in self.shape else (self.rows, *self.shape)

    @property
    def bytes_on_disk(self) -> int:
        """Size of the file when it was checked."""
        return 0 if self.mark is None else self.mark[2]

    def is_whole(self) -> bool:
        """Whether the file exists and has the checksum of the manifest."""
        return not isinstance(self._check(), str) and sha256(self.file) == self.record["sha256"]

    def size(self, row: int) -> tuple[int, ...]:
        """Returns the shape of one encoding."""
        return (*self.record["sizes"][row], self.shape[-1]) if None in self.shape else self.shape

    def read(self, runs: Sequence[tuple[int, Sequence[memoryview]]]) -> None:
        """Reads neighbouring rows into buffers.

        Args:
            runs: index of the first row, and buffers for this row and those that follow it.

        Raises:
            ValueError: the file has changed since it was checked.
            OSError: it cannot be read.
        """
        try:
            descriptor = FILES.of(self)
            is_damaged = False
            try:
                whole = all(self._fill(descriptor.number, row, buffers) for row, buffers in runs)
            except DamagedFrame:
                whole = is_damaged = True
            # Checked after reading, so that a file that was overwritten in place is noticed, too.
            is_same = mark_of(os.fstat(descriptor.number)) == self.mark
        except FileNotFoundError:
            whole = is_same = is_damaged = False
        except OSError as error:
            raise OSError(error.errno, f"a shard can't be read: {error.strerror}", str(self.file)) from None
        if not (whole and is_same):
            raise ValueError(
                "A shard has changed since this store was opened: open it again with `EncodingStore(path)`. "
                f"Received: {str(self.file)!r}"
            )
        if is_damaged:
            raise ValueError(
                "A shard is damaged: call `encode_to` with the same source and path again, which encodes only damaged "
                f"shards. Received: {str(self.file)!r}"
            )

    def _fill(self, descriptor: int, row: int, buffers: Sequence[memoryview]) -> bool:
        """Reads from a row on into one buffer after the other. Returns whether the file was long enough."""
        return _fill(descriptor, buffers, self._offset(row))

    def _offset(self, row: int) -> int:
        return self.start + (row * self.row_bytes if self.row_bytes else int(self._ends[row]))

    @cached_property
    def _ends(self) -> np.ndarray:
        """Positions in bytes between the encodings of a shard in which sizes vary."""
        sizes = [math.prod(self.size(row)) * self.dtype.itemsize for row in range(self.rows)]
        return np.cumsum([0, *sizes])


class CompressedShard(Shard):
    """A file that consists of compressed frames, each with some neighbouring encodings as int32 numbers.

    Args:
        folder: folder of the store.
        record: checked entry of the manifest.
        dtype: int32, the dtype of the numbers that are read.

    Raises:
        ImportError: Zstandard is not installed.
    """

    def __init__(self, folder: Path, record: Record, dtype: np.dtype) -> None:
        super().__init__(folder, record, dtype)
        zstandard()
        self.frames = [Frame(*frame) for frame in record["frames"]]
        self.frame_ends = np.cumsum([0, *(frame.rows for frame in self.frames)])
        self.frame_offsets = np.cumsum([0, *(frame.size for frame in self.frames)])

    def _check_content(self, descriptor: int, size_on_disk: int) -> str | int:
        size = int(self.frame_offsets[-1])
        return 0 if size_on_disk == size else _other_size(size_on_disk, size)

    def _fill(self, descriptor: int, row: int, buffers: Sequence[memoryview]) -> bool:
        index, size = int(np.searchsorted(self.frame_ends, row, side="right")) - 1, self.dtype.itemsize
        skipped = (self._offset(row) - self._offset(int(self.frame_ends[index]))) // size  # numbers of this frame
        for buffer in buffers:
            while len(buffer):
                numbers = self._frame(descriptor, index)
                if numbers is None:
                    return False
                part = numbers[skipped : skipped + len(buffer) // size]
                np.frombuffer(buffer, self.dtype, part.size)[:] = part
                buffer, skipped = buffer[part.size * size :], skipped + part.size
                if skipped == numbers.size:
                    index, skipped = index + 1, 0
        return True

    def _frame(self, descriptor: int, index: int) -> np.ndarray | None:
        """Returns all numbers of a frame, one after the other; `None` if the file is too short."""
        key = (self.file, self.mark, index)
        numbers = FRAMES.get(key)
        if numbers is None:
            frame, content = self.frames[index], bytearray(self.frames[index].size)
            if not _fill(descriptor, [memoryview(content)], int(self.frame_offsets[index])):
                return None
            first, end = (self._offset(int(self.frame_ends[each])) for each in (index, index + 1))
            numbers = decompressed(bytes(content), frame, (end - first) // self.dtype.itemsize, self.shape[-1]).ravel()
            FRAMES.add(key, numbers)
        return numbers


class Descriptor:
    """An open file, closed when no thread refers to it any longer."""

    def __init__(self, file: Path) -> None:
        self.number = os.open(file, OPEN_FLAGS)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # `os` can be gone when the process ends
        if hasattr(self, "number"):
            close(self.number)


class OpenFiles:
    """Keeps the most recently read files of all stores in this process open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.recent: OrderedDict[int, weakref.ref[Shard]] = OrderedDict()

    def of(self, shard: Shard) -> Descriptor:
        with self.lock:
            descriptor = shard.descriptor
            if descriptor is not None:
                self.recent.move_to_end(id(shard))
                return descriptor
        descriptor = Descriptor(shard.file)
        with self.lock:
            shard.descriptor = descriptor
            self.recent[id(shard)] = weakref.ref(shard)
            self.recent.move_to_end(id(shard))
            while len(self.recent) > MOST_OPEN:
                oldest = self.recent.popitem(last=False)[1]()
                if oldest is not None:
                    oldest.descriptor = None
        return descriptor

    def unlock(self) -> None:
        """Replaces the lock in a forked process, where the thread that held it does not exist."""
        self.lock = threading.Lock()


FILES = OpenFiles()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=FILES.unlock)


def mark_of(status: os.stat_result) -> Mark:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def npy_parts(shape: Shape, pieces: Sequence[np.ndarray]) -> list[Any]:
    """Returns the header and the content of a `.npy` file with the pieces of an array of this shape."""
    header = _header(pieces[0].dtype.str, tuple(shape))
    return [header, *(np.ascontiguousarray(piece).data for piece in pieces)]


def write_parts(stream: BinaryIO, parts: Sequence[Any]) -> str:
    """Writes parts of a file one after the other. Returns the SHA-256 of the file."""
    digest = hashlib.sha256()
    for part in parts:
        stream.write(part)
        digest.update(part)
    return digest.hexdigest()


def shard_of(folder: Path, record: Record, dtype: str) -> Shard:
    """Returns the shard of a record in a store with files of this dtype."""
    return (CompressedShard if dtype == COMPRESSED else Shard)(folder, record, np.dtype(dtype))


def shard_file(folder: Path, index: int, dtype: str) -> Path:
    return folder / f"{index:05d}{'.zst' if dtype == COMPRESSED else '.npy'}"


def _other_size(found: int, expected: int) -> str:
    return f"has {found:,} bytes, but the manifest says {expected:,}"


def part_name(index: int, count: int) -> str:
    return f"part{index}-of-{count}"


def _fill(descriptor: int, buffers: Sequence[memoryview], offset: int) -> bool:
    """Reads from an offset into one buffer after the other. Returns whether the file was long enough."""
    for start in range(0, len(buffers), AT_ONCE):
        some = buffers[start : start + AT_ONCE]
        size = sum(map(len, some))
        if os.preadv(descriptor, some, offset) != size and not _fill_slowly(descriptor, some, offset):
            return False
        offset += size
    return True


def _fill_slowly(descriptor: int, buffers: Sequence[memoryview], offset: int) -> bool:
    """Like `_fill`, for system calls that read fewer bytes than requested, as they do above two gigabytes."""
    for buffer in buffers:
        while len(buffer):
            count = os.preadv(descriptor, [buffer], offset)
            if count == 0:
                return False
            buffer, offset = buffer[count:], offset + count
    return True


@lru_cache(maxsize=1024)
def _header(descr: str, shape: tuple[int, ...]) -> bytes:
    """Returns the header of a `.npy` file."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue()


def _parsed_header(content: bytes) -> tuple[bytes, np.dtype | None, tuple[int, ...]]:
    """Returns header, dtype and shape of a `.npy` file as NumPy writes it. The header is empty for other files.

    Unlike the reader of NumPy, this evaluates nothing in the file.
    """
    end = 10 + int.from_bytes(content[8:10], "little")
    match = HEADER.fullmatch(content[10:end]) if content.startswith(b"\x93NUMPY\x01\x00") else None
    if match is None:
        return b"", None, ()
    return content[:end], np.dtype(match[1].decode()), tuple(map(int, re.findall(rb"\d+", match[2])))
