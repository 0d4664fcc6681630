"""Files of arrays and plain values that are there whole or not at all, and the state of random numbers.

What is read may be damaged or come from another program: it is checked before anything is set to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.saving.arrays import read_arrays
from stacked_autoencoder.utils.checks import is_whole, require
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import replacing

META = "meta"  # the array of a file that holds its JSON
LARGEST_META = 1 << 26  # bytes


Check = Callable[[Mapping[str, Any], Mapping[str, np.ndarray]], Any]


def write(file: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Replaces a file of arrays and of plain values, durably. A full disk is found before anything is written.

    Raises:
        OSError: what was there is untouched.
    """
    text = np.frombuffer(json.dumps(meta, default=as_plain).encode(), np.uint8)
    size = sum(np.asarray(array).nbytes for array in arrays.values()) + text.nbytes
    try:
        with replacing(file, reserve=size) as stream:
            np.savez(stream, **{META: text}, **arrays)
    except OSError as error:
        raise OSError(
            f"{size:,} bytes couldn't be written to `checkpoint_dir`: {error}. Training goes on from what was written "
            f"before, by the same call, when there is room. Received: checkpoint_dir={str(file.parent)!r}"
        ) from error


def read(file: Path, check: Check | None = None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The plain values and the arrays that `write` wrote.

    Args:
        file: one that is there.
        check: raises anything if they aren't what they should be.

    Raises:
        ValueError: the file is damaged, or not one that `write` wrote.
    """
    try:
        arrays = read_arrays(file, finite=False)  # a loss that isn't finite is the user's to see
        if META not in arrays:
            raise ValueError(f"the array {META!r} is missing")
        text = arrays.pop(META)
        require(text.dtype == np.uint8 and text.nbytes <= LARGEST_META, f"{META!r} isn't text")
        meta = json.loads(text.tobytes())
        require(isinstance(meta, dict), f"{META!r} isn't a JSON object")
        if check is not None:
            check(meta, arrays)
    except Exception as error:  # whatever the libraries make of damaged bytes
        raise unusable(file, error) from error
    return meta, arrays


def unusable(file: Path, why: object) -> ValueError:
    """The error for a file of checkpoints that is damaged, with what to do about it."""
    how = "Give another `checkpoint_dir` to begin anew."
    if file.suffix == ".npz":
        # What training has changed goes with the start that it has begun from.
        names = [file.name, file.name.replace("start", "now", 1)] if file.name.startswith("start") else [file.name]
        how = (
            f"If it is a checkpoint, delete {' and '.join(names)}, and the same call trains its level again from the "
            f"beginning. {how}"
        )
    return ValueError(
        f"{file.name} in `checkpoint_dir` is damaged, or isn't a checkpoint: {printable(why, 500)}. It stays "
        f"as it is. {how} Received: checkpoint_dir={printable(repr(str(file.parent)))}"
    )


def check_history(meta: Mapping[str, Any]) -> None:
    """Raises `ValueError` if these aren't the epochs and the history of a Keras `History`."""
    epoch, history = meta.get("epoch"), meta.get("history")
    require(isinstance(epoch, list) and all(map(is_whole, epoch)), "`epoch` isn't a list of epochs")
    require(
        isinstance(history, dict) and all(isinstance(values, list) for values in history.values()),
        "`history` isn't one",
    )


def check_same_form(present: Iterable[tuple[str, Any]], arrays: Mapping[str, np.ndarray]) -> None:
    """Raises `ValueError` if an array is missing, or isn't of the shape and the type of what it is to be assigned to.

    Args:
        present: names of arrays, each with a variable or an array.
    """
    for name, wanted in present:
        require(name in arrays, f"the array {name!r} is missing")
        array, dtype = arrays[name], keras.backend.standardize_dtype(wanted.dtype)
        require(
            array.shape == tuple(wanted.shape) and keras.backend.standardize_dtype(array.dtype) == dtype,
            f"{name!r} has the shape {array.shape} and the type {array.dtype} where {tuple(wanted.shape)} and {dtype} "
            "are expected",
        )


def as_plain(value: Any) -> Any:
    """A number of numpy's as one of Python's."""
    return value.item() if isinstance(value, (np.number, np.bool_)) else value
