"""Reading weights that may come from a stranger: plain numbers that are in the file itself, or nothing.

HDF5 files can point to other files, to the same place many times, and to data that isn't there and takes any size that
they like when it is read; compressed archives can hold a thousand times their size. All of that is refused, unread.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from stacked_autoencoder.errors import LoadError

WEIGHTS = "model.weights.h5"
NUMBERS = "fiu"  # kinds of numpy's types: floats, and whole numbers


def shapes_in(file: Path) -> list[tuple[int, ...]]:
    """Shapes of all arrays in an HDF5 file of weights.

    Raises:
        LoadError: it isn't one, or one that holds anything but plain numbers.
    """
    try:
        with h5py.File(file, "r") as content:
            datasets = _datasets(content, set())
            for dataset in datasets:
                _check(dataset)
            shapes, size = [dataset.shape for dataset in datasets], sum(dataset.nbytes for dataset in datasets)
    except LoadError as error:
        raise LoadError(f"{error} Received: {str(file)!r}") from None
    except Exception as error:  # whatever the library makes of damaged bytes
        raise LoadError(f"Weights can't be read: {error}. Received: {str(file)!r}") from error
    if size > file.stat().st_size:
        raise LoadError(f"Weights of {size:,} bytes can't be in a smaller file. Received: {str(file)!r}")
    return shapes


def read_weights(file: Path, model: keras.Model) -> None:
    """Sets the weights of a model from a file whose shapes are known to be its own.

    Raises:
        LoadError: they aren't where the model's layers look for them, or aren't finite numbers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras warns, and goes on, where it finds no weights
            model.load_weights(file)
    except Exception as error:
        raise LoadError(f"Weights aren't those of this model: {error}. Received: {str(file)!r}") from error
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise LoadError(f"There are weights that aren't finite numbers. Received: {str(file)!r}")


def read_arrays(file: Path, *, finite: bool = True) -> dict[str, np.ndarray]:
    """The arrays that `numpy.savez` wrote.

    Args:
        finite: whether values must be finite.

    Raises:
        LoadError: they aren't plain, finite numbers, or larger than the file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise LoadError("`save` doesn't compress arrays, and these are compressed.")
            for entry in archive.infolist():
                _check_header(archive, entry, file.stat().st_size)
        with np.load(file, allow_pickle=False) as arrays:
            read = dict(arrays)
    except LoadError as error:
        raise LoadError(f"{error} Received: {str(file)!r}") from None
    except Exception as error:
        raise LoadError(f"Arrays can't be read: {error}. Received: {str(file)!r}") from error
    if not all(array.dtype.kind in NUMBERS for array in read.values()):
        raise LoadError(f"There are arrays that aren't numbers. Received: {str(file)!r}")
    if finite and not all(np.isfinite(array).all() for array in read.values()):
        raise LoadError(f"There are values that aren't finite numbers. Received: {str(file)!r}")
    return read


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> None:
    """Whether an array is as large as its entry: memory is taken by what its header says."""
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise LoadError(f"Arrays of version 1.0 were expected, not {version}.")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize > min(entry.file_size, most):
            raise LoadError(f"{entry.filename} says that it is larger than it is, or holds more than numbers.")


def _datasets(group: h5py.Group, seen: set[int]) -> list[h5py.Dataset]:
    """All arrays in a group and those in it, each group once."""
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise LoadError(f"{group.name!r} is a group that is in another place, too, which Keras never writes.")
    seen.add(address)
    found = []
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise LoadError(f"{name!r} points to somewhere else, which Keras never writes.")
        inside = group[name]
        found += _datasets(inside, seen) if isinstance(inside, h5py.Group) else [inside]
    return found


def _check(dataset: Any) -> None:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in NUMBERS:
        raise LoadError(f"{dataset.name!r} isn't an array of numbers.")
    if dataset.external or dataset.is_virtual or dataset.chunks is not None:
        raise LoadError(f"{dataset.name!r} isn't in one piece in this file, as Keras writes it.")
    if dataset.id.get_storage_size() != math.prod(dataset.shape) * dataset.dtype.itemsize:
        raise LoadError(f"{dataset.name!r} says that it is larger than it is.")
