"""Safe reading of weights from untrusted files: only plain numbers that are contained in the file.

HDF5 files can refer to other files, to the same data several times, and to missing data of any size. Compressed
archives can contain a thousand times their size. All of these are rejected before they are read. Limits on the number
and names of entries and on file sizes bound memory and time.
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
NUMBERS = "fiu"  # kinds of numpy dtypes: floats and integers
LARGEST_FILE = 1 << 34  # bytes
# Limits of an HDF5 file. An unrolled recurrent decoder has about twelve groups per step.
MOST_OBJECTS = 1 << 15  # groups and arrays in a file
DEEPEST = 32  # nesting depth of groups
MOST_ATTRIBUTES = 8  # attributes of a group
MOST_ARRAYS = 1 << 14  # arrays in an archive
MOST_AT_ONCE = 1 << 20  # bytes per read, and of the table of contents of an archive, which `zipfile` reads at once
MAGIC = b"\x93NUMPY\x01\x00"  # header of arrays in version 1.0 of numpy's format, followed by the length of the header
LONGEST_HEADER = 1024  # bytes
HEADER = re.compile(
    rb"\{'descr': '([<>|][fiu][1248])', 'fortran_order': (True|False), 'shape': \(((?:\d{1,18}, ?)*\d{0,18})\), \} *\n"
)


def shapes_in(file: Path) -> list[tuple[int, ...]]:
    """Returns the shapes of all arrays in an HDF5 file of weights.

    Args:
        file: path of the file. Callers must refuse links.

    Raises:
        LoadError: it is not a regular file of at most 16 GiB, or contains anything but plain numbers.
    """
    try:
        size = _check_regular(file)
        with h5py.File(file, "r") as content:
            if content.userblock_size:
                raise LoadError("The file has data before the weights, which Keras never writes.")
            datasets = _datasets(content)
            for dataset in datasets:
                _check(dataset)
            shapes, claimed = [dataset.shape for dataset in datasets], sum(dataset.nbytes for dataset in datasets)
    except LoadError as error:
        raise LoadError(f"{error} Copy the folder again. Received: {str(file)!r}") from None
    except Exception as error:  # damaged files cause many kinds of errors
        raise LoadError(
            f"The weights cannot be read: {error}. Copy the folder again. Received: {str(file)!r}"
        ) from error
    if claimed > size:
        raise LoadError(
            f"The weights claim {claimed:,} bytes, but the file is smaller. Copy the folder again. Received: "
            f"{str(file)!r}"
        )
    return shapes


def read_weights(file: Path, model: keras.Model) -> None:
    """Sets the weights of a model from a file whose shapes match the model.

    Args:
        file: a file that `shapes_in` has accepted.
        model: a model whose weights are all floats. After an error, its weights are invalid.

    Raises:
        LoadError: the weights do not belong to the model, or are not finite numbers.
    """
    # Keras may skip weights that it does not find. It only warns, and the warning can be turned into an error only for
    # the whole process. So fill all weights with NaN first: weights that Keras skips stay NaN.
    for weight in model.weights:
        weight.assign(np.full(weight.shape, np.nan, np.float32))
    try:
        _check_regular(file)
        model.load_weights(file)
    except Exception as error:
        raise LoadError(
            f"The weights do not belong to this model: {error}. Copy the folder again. Received: {str(file)!r}"
        ) from error
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise LoadError(
            "Some weights are not finite numbers, or are missing from the file. Copy the folder again. Received: "
            f"{str(file)!r}"
        )


def read_arrays(file: Path, names: Collection[str] | None = None, *, finite: bool = True) -> dict[str, np.ndarray]:
    """Returns the arrays that `numpy.savez` wrote, by name.

    Args:
        file: path of the file. Callers must refuse links.
        names: names of the arrays that must be present, and no others. By default up to 16,384 arrays of any name.
        finite: whether values must be finite.

    Raises:
        LoadError: it is not a regular file of at most 16 GiB, contains other arrays than `names`, or arrays that are
            not plain finite numbers or claim more bytes than the file has.
    """
    try:
        with open_regular(file, LARGEST_FILE) as stream, zipfile.ZipFile(_BoundedReader(stream)) as archive:
            entries = _entries(archive, os.fstat(stream.fileno()).st_size)
            if names is not None:
                _check_names(entries, names)
            read = {name: _array(archive, entry) for name, entry in entries.items()}
    except LoadError as error:
        raise LoadError(f"{error} Received: {str(file)!r}") from None
    except Exception as error:
        raise LoadError(f"The arrays cannot be read: {error}. Received: {str(file)!r}") from error
    if finite and not all(np.isfinite(array).all() for array in read.values()):
        raise LoadError(f"Some values are not finite numbers. Received: {str(file)!r}")
    return read


# === Archives of arrays ===


class _BoundedReader:
    """File that limits the size of each read: `zipfile` otherwise reads as much as an archive claims."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        part = self.stream.read(size if 0 <= size <= MOST_AT_ONCE else MOST_AT_ONCE + 1)
        if len(part) > MOST_AT_ONCE:
            raise LoadError("The file is not an archive that `numpy.savez` wrote: its table of contents is too large.")
        return part


def _entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Returns the entries of an archive of `size` bytes by the names of the arrays."""
    listed = archive.infolist()
    if len(listed) > MOST_ARRAYS:
        raise LoadError(f"The archive has {len(listed):,} arrays, more than the limit of {MOST_ARRAYS:,}.")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in listed):
        raise LoadError("The arrays are compressed, but `numpy.savez` never compresses them.")
    if sum(max(entry.file_size, entry.compress_size) for entry in listed) > size:
        raise LoadError("The arrays claim more bytes than the file has: they overlap.")
    if not all(entry.filename.endswith(".npy") for entry in listed):
        raise LoadError("The archive has entries that are not arrays.")
    entries = {entry.filename.removesuffix(".npy"): entry for entry in listed}
    if len(entries) < len(listed):
        raise LoadError("The archive has two arrays of the same name.")
    return entries


def _check_names(entries: Collection[str], names: Collection[str]) -> None:
    missing, unknown = [name for name in names if name not in entries], sorted(set(entries) - set(names))
    if missing:
        raise LoadError(f"The array {missing[0]!r} is missing.")
    if unknown:
        raise LoadError(f"The array {unknown[0][:100]!r} is not expected in this file.")


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """Returns an array after checking that header and entry agree in size, because the header decides memory."""
    with archive.open(entry) as stream:
        start = stream.read(len(MAGIC) + 2)
        length = int.from_bytes(start[len(MAGIC) :], "little")
        if start[: len(MAGIC)] != MAGIC or length > LONGEST_HEADER:
            raise LoadError(f"{entry.filename[:100]!r} is not an array in version 1.0 of numpy's format.")
        header = HEADER.fullmatch(stream.read(length))
        if header is None:
            raise LoadError(
                f"{entry.filename[:100]!r} does not have the header that numpy writes for an array of numbers."
            )
        dtype = np.dtype(header[1].decode())
        shape = tuple(int(side) for side in header[3].split(b",") if side.strip())
        if math.prod(shape) * dtype.itemsize != entry.file_size - len(start) - length:
            raise LoadError(f"{entry.filename[:100]!r} has another size than its header claims.")
        values = np.empty(math.prod(shape), dtype)
        buffer, position = memoryview(values).cast("B") if values.size else memoryview(b""), 0
        while part := stream.read(MOST_AT_ONCE):
            buffer[position : position + len(part)] = part
            position += len(part)
    if position != values.nbytes:
        raise LoadError(f"{entry.filename[:100]!r} is truncated.")
    return values.reshape(shape[::-1]).T if header[2] == b"True" else values.reshape(shape)


# === HDF5 ===


def _check_regular(file: Path) -> int:
    """Returns the size of a file after checking that it may be opened."""
    status = os.stat(file)
    problem = problem_with(status, LARGEST_FILE)
    if problem is not None:
        raise OSError(problem)
    return status.st_size


def _datasets(content: h5py.File) -> list[h5py.Dataset]:
    """Returns all arrays in a file. Not recursive, because groups can be nested to any depth."""
    datasets, visited, count = [], set(), 0
    groups: list[tuple[h5py.Group, int]] = [(content, 0)]
    while groups:
        group, depth = groups.pop()
        info = h5py.h5o.get_info(group.id)
        if info.addr in visited:
            raise LoadError(f"The group {group.name!r} occurs twice, which Keras never writes.")
        visited.add(info.addr)
        count += len(group)
        if depth > DEEPEST or count > MOST_OBJECTS or info.num_attrs > MOST_ATTRIBUTES:
            raise LoadError("The file has more groups or attributes than Keras writes for any level.")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise LoadError(f"{name!r} is a link to another location, which Keras never writes.")
            inside = group[name]
            if isinstance(inside, h5py.Group):
                groups.append((inside, depth + 1))
            else:
                datasets.append(inside)
    return datasets


def _check(dataset: Any) -> None:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in NUMBERS:
        raise LoadError(f"{dataset.name!r} is not an array of numbers.")
    if dataset.external or dataset.is_virtual or dataset.chunks is not None:
        raise LoadError(f"{dataset.name!r} is not stored contiguously in this file, as Keras stores it.")
    if dataset.id.get_storage_size() != math.prod(dataset.shape) * dataset.dtype.itemsize:
        raise LoadError(f"{dataset.name!r} claims another size than it has in the file.")
    if len(dataset.attrs):
        raise LoadError(f"{dataset.name!r} has attributes, which Keras never writes.")
