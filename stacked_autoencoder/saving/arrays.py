"""Reading weights that may come from a stranger: plain numbers that are in the file itself, or nothing.

HDF5 files can point to other files, to the same place many times, and to data that isn't there and takes any size that
they like when it is read; compressed archives can hold a thousand times their size. All of that is refused, unread.
Memory and time are bounded by limits on the number and the names of what a file holds, and by the file's own size.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import keras
import numpy as np

from stacked_autoencoder.utils.errors import LoadError
from stacked_autoencoder.utils.files import open_regular, problem_with

WEIGHTS = "model.weights.h5"
NUMBERS = "fiu"  # kinds of numpy's types: floats, and whole numbers
LARGEST_FILE = 1 << 34  # bytes
# An unrolled recurrent decoder has about twelve groups per step of its sequences.
MOST_OBJECTS = 1 << 15  # groups and arrays in an HDF5 file
DEEPEST = 32  # groups within groups
MOST_ATTRIBUTES = 8  # of a group
MOST_ARRAYS = 1 << 14  # in an archive
MOST_AT_ONCE = 1 << 20  # bytes, also of an archive's table of contents, which `zipfile` reads at once
MAGIC = b"\x93NUMPY\x01\x00"  # of arrays in version 1.0 of numpy's format, followed by the length of the header
LONGEST_HEADER = 1024  # bytes
HEADER = re.compile(
    rb"\{'descr': '([<>|][fiu][1248])', 'fortran_order': (True|False), 'shape': \(((?:\d{1,18}, ?)*\d{0,18})\), \} *\n"
)


def shapes_in(file: Path) -> list[tuple[int, ...]]:
    """Shapes of all arrays in an HDF5 file of weights.

    Args:
        file: not a link, which callers refuse.

    Raises:
        LoadError: it isn't a regular file of at most 16 GiB, or holds anything but plain numbers.
    """
    try:
        size = _check_regular(file)
        with h5py.File(file, "r") as content:
            if content.userblock_size:
                raise LoadError("There is something before the weights, which Keras never writes.")
            datasets = _datasets(content)
            for dataset in datasets:
                _check(dataset)
            shapes, claimed = [dataset.shape for dataset in datasets], sum(dataset.nbytes for dataset in datasets)
    except LoadError as error:
        raise LoadError(f"{error} Received: {str(file)!r}") from None
    except Exception as error:  # whatever the library makes of damaged bytes
        raise LoadError(f"Weights can't be read: {error}. Received: {str(file)!r}") from error
    if claimed > size:
        raise LoadError(f"Weights of {claimed:,} bytes can't be in a smaller file. Received: {str(file)!r}")
    return shapes


def read_weights(file: Path, model: keras.Model) -> None:
    """Sets the weights of a model from a file whose shapes are known to be its own.

    Args:
        file: one that `shapes_in` has accepted.
        model: all of its weights are floats. After an error they are of no use.

    Raises:
        LoadError: they aren't where the model's layers look for them, or aren't finite numbers.
    """
    # Keras can go on where it finds no weights. Its warning of that can only be made an error for the whole process, so
    # what isn't read stays NaN instead.
    for weight in model.weights:
        weight.assign(np.full(weight.shape, np.nan, np.float32))
    try:
        _check_regular(file)
        model.load_weights(file)
    except Exception as error:
        raise LoadError(f"Weights aren't those of this model: {error}. Received: {str(file)!r}") from error
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise LoadError(
            "There are weights that aren't finite numbers, or aren't where the model's layers look for them. "
            f"Received: {str(file)!r}"
        )


def read_arrays(file: Path, names: Collection[str] | None = None, *, finite: bool = True) -> dict[str, np.ndarray]:
    """The arrays that `numpy.savez` wrote.

    Args:
        file: not a link, which callers refuse.
        names: of the arrays that must be there, and no others; by default any 16,384 at most.
        finite: whether values must be finite.

    Raises:
        LoadError: it isn't a regular file of at most 16 GiB, or holds other arrays than `names`, or any that
            aren't plain, finite numbers, or are larger than the file.
    """
    try:
        with open_regular(file, LARGEST_FILE) as stream, zipfile.ZipFile(_InParts(stream)) as archive:
            entries = _entries(archive, os.fstat(stream.fileno()).st_size)
            if names is not None:
                _check_names(entries, names)
            read = {name: _array(archive, entry) for name, entry in entries.items()}
    except LoadError as error:
        raise LoadError(f"{error} Received: {str(file)!r}") from None
    except Exception as error:
        raise LoadError(f"Arrays can't be read: {error}. Received: {str(file)!r}") from error
    if finite and not all(np.isfinite(array).all() for array in read.values()):
        raise LoadError(f"There are values that aren't finite numbers. Received: {str(file)!r}")
    return read


# === Archives of arrays ===


class _InParts:
    """A file that is read in small parts: `zipfile` takes whatever size an archive says that its table has."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        part = self.stream.read(size if 0 <= size <= MOST_AT_ONCE else MOST_AT_ONCE + 1)
        if len(part) > MOST_AT_ONCE:
            raise LoadError("It isn't an archive that `numpy.savez` wrote: its table of contents is too large.")
        return part


def _entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """What is in an archive of so many bytes, by the names of the arrays."""
    listed = archive.infolist()
    if len(listed) > MOST_ARRAYS:
        raise LoadError(f"At most {MOST_ARRAYS:,} arrays are read, and there are {len(listed):,}.")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in listed):
        raise LoadError("`numpy.savez` doesn't compress arrays, and these are compressed.")
    if sum(max(entry.file_size, entry.compress_size) for entry in listed) > size:
        raise LoadError("Its arrays say that they are larger than the file: they are in each other's place.")
    if not all(entry.filename.endswith(".npy") for entry in listed):
        raise LoadError("There are entries that aren't arrays.")
    entries = {entry.filename.removesuffix(".npy"): entry for entry in listed}
    if len(entries) < len(listed):
        raise LoadError("There are two arrays of one name.")
    return entries


def _check_names(entries: Collection[str], names: Collection[str]) -> None:
    missing, unknown = [name for name in names if name not in entries], sorted(set(entries) - set(names))
    if missing:
        raise LoadError(f"The array {missing[0]!r} is missing.")
    if unknown:
        raise LoadError(f"There is an array {unknown[0][:100]!r}, which doesn't belong there.")


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """An array, after checking that it is as large as its entry: memory is taken by what its header says."""
    with archive.open(entry) as stream:
        start = stream.read(len(MAGIC) + 2)
        length = int.from_bytes(start[len(MAGIC) :], "little")
        if start[: len(MAGIC)] != MAGIC or length > LONGEST_HEADER:
            raise LoadError(f"{entry.filename[:100]!r} isn't an array in version 1.0 of numpy's format.")
        header = HEADER.fullmatch(stream.read(length))
        if header is None:
            raise LoadError(f"{entry.filename[:100]!r} holds more than numbers, or has another header than numpy's.")
        dtype = np.dtype(header[1].decode())
        shape = tuple(int(side) for side in header[3].split(b",") if side.strip())
        if math.prod(shape) * dtype.itemsize != entry.file_size - len(start) - length:
            raise LoadError(f"{entry.filename[:100]!r} says that it is larger than it is, or smaller.")
        values = np.empty(math.prod(shape), dtype)
        place, done = memoryview(values).cast("B") if values.size else memoryview(b""), 0
        while part := stream.read(MOST_AT_ONCE):
            place[done : done + len(part)] = part
            done += len(part)
    if done != values.nbytes:
        raise LoadError(f"{entry.filename[:100]!r} is cut short.")
    return values.reshape(shape[::-1]).T if header[2] == b"True" else values.reshape(shape)


# === HDF5 ===


def _check_regular(file: Path) -> int:
    """The size of a file that may be opened."""
    status = os.stat(file)
    problem = problem_with(status, LARGEST_FILE)
    if problem is not None:
        raise OSError(problem)
    return status.st_size


def _datasets(content: h5py.File) -> list[h5py.Dataset]:
    """All arrays in a file. Not recursive, as groups can be in each other to any depth."""
    found, seen, count = [], set(), 0
    groups: list[tuple[h5py.Group, int]] = [(content, 0)]
    while groups:
        group, depth = groups.pop()
        about = h5py.h5o.get_info(group.id)
        if about.addr in seen:
            raise LoadError(f"{group.name!r} is a group that is in another place, too, which Keras never writes.")
        seen.add(about.addr)
        count += len(group)
        if depth > DEEPEST or count > MOST_OBJECTS or about.num_attrs > MOST_ATTRIBUTES:
            raise LoadError("There are more groups or attributes than Keras writes for any level.")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise LoadError(f"{name!r} points to somewhere else, which Keras never writes.")
            inside = group[name]
            if isinstance(inside, h5py.Group):
                groups.append((inside, depth + 1))
            else:
                found.append(inside)
    return found


def _check(dataset: Any) -> None:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in NUMBERS:
        raise LoadError(f"{dataset.name!r} isn't an array of numbers.")
    if dataset.external or dataset.is_virtual or dataset.chunks is not None:
        raise LoadError(f"{dataset.name!r} isn't in one piece in this file, as Keras writes it.")
    if dataset.id.get_storage_size() != math.prod(dataset.shape) * dataset.dtype.itemsize:
        raise LoadError(f"{dataset.name!r} says that it is larger than it is.")
    if len(dataset.attrs):
        raise LoadError(f"{dataset.name!r} has attributes, which Keras never writes.")
