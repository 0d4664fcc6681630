"""The files of checkpoints: arrays and plain values, replaced atomically.

A file may be damaged or come from another program, so its contents are checked before they are used.
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

META = "meta"  # name of the array that contains JSON
LARGEST_META = 1 << 26  # bytes


Check = Callable[[Mapping[str, Any], Mapping[str, np.ndarray]], Any]


def write(file: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes arrays and plain values to a file, atomically and durably. Space is reserved before anything is written.

    Raises:
        OSError: the file can't be written. An existing file isn't changed.
    """
    text = np.frombuffer(json.dumps(meta, default=as_plain).encode(), np.uint8)
    size = sum(np.asarray(array).nbytes for array in arrays.values()) + text.nbytes
    try:
        with replacing(file, reserve=size) as stream:
            np.savez(stream, **{META: text}, **arrays)
    except OSError as error:
        raise OSError(
            f"Could not write {size:,} bytes to `checkpoint_dir`: {error}. Free disk space and repeat the same call, "
            f"which continues from the previous checkpoint. Received: checkpoint_dir={str(file.parent)!r}"
        ) from error


def read(file: Path, check: Check | None = None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the plain values and the arrays that `write` wrote.

    Args:
        file: an existing file.
        check: raises an exception if the contents are invalid.

    Raises:
        ValueError: the file is damaged, or `write` didn't write it.
    """
    try:
        arrays = read_arrays(file, finite=False)  # a loss may be infinite
        if META not in arrays:
            raise ValueError(f"the array {META!r} is missing")
        text = arrays.pop(META)
        require(text.dtype == np.uint8 and text.nbytes <= LARGEST_META, f"{META!r} isn't text")
        meta = json.loads(text.tobytes())
        require(isinstance(meta, dict), f"{META!r} isn't a JSON object")
        if check is not None:
            check(meta, arrays)
    except Exception as error:  # libraries raise many kinds of errors for damaged files
        raise unusable(file, error) from error
    return meta, arrays


def unusable(file: Path, why: object) -> ValueError:
    """Returns the error for a file that is damaged or isn't a checkpoint."""
    advice = "Use another `checkpoint_dir` to start again."
    if file.suffix == ".npz":
        # The state of training is useless without the initial state.
        names = [file.name, file.name.replace("start", "now", 1)] if file.name.startswith("start") else [file.name]
        advice = (
            f"If it is a checkpoint, delete {' and '.join(names)}, and repeat the call, which then trains this level "
            f"again from the beginning. {advice}"
        )
    return ValueError(
        f"{file.name} in `checkpoint_dir` is damaged, or isn't a checkpoint: {printable(why, 500)}. The file was not "
        f"changed. {advice} Received: checkpoint_dir={printable(repr(str(file.parent)))}"
    )


def check_history(meta: Mapping[str, Any]) -> None:
    """Raises `ValueError` if the epochs and the history aren't those of a Keras `History`."""
    epoch, history = meta.get("epoch"), meta.get("history")
    require(isinstance(epoch, list) and all(map(is_whole, epoch)), "`epoch` isn't a list of epochs")
    require(
        isinstance(history, dict) and all(isinstance(values, list) for values in history.values()),
        "`history` isn't a dict of lists",
    )


def check_same_form(present: Iterable[tuple[str, Any]], arrays: Mapping[str, np.ndarray]) -> None:
    """Raises `ValueError` if an array is missing, or its shape or dtype differs from that of the variable to restore.

    Args:
        present: names of arrays, each with the variable or array that it replaces.
        arrays: the arrays of a checkpoint.
    """
    for name, expected in present:
        require(name in arrays, f"the array {name!r} is missing")
        array, dtype = arrays[name], keras.backend.standardize_dtype(expected.dtype)
        require(
            array.shape == tuple(expected.shape) and keras.backend.standardize_dtype(array.dtype) == dtype,
            f"{name!r} has shape {array.shape} and dtype {array.dtype}, but {tuple(expected.shape)} and {dtype} are "
            "expected",
        )


def as_plain(value: Any) -> Any:
    """Converts a number of numpy to one of Python, and returns other values unchanged."""
    return value.item() if isinstance(value, (np.number, np.bool_)) else value
