"""Files of arrays and plain values that are there whole or not at all, and the state of random numbers.

What is read may be damaged or come from another program: it is checked before anything is set to it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.durable import replacing
from stacked_autoencoder.errors import printable
from stacked_autoencoder.weights_file import read_arrays

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


# === Checks ===


def require(condition: object, why: str) -> None:
    if not condition:
        raise ValueError(why)


def is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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


def numbered(name: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}_{number}": array for number, array in enumerate(arrays)}


def in_order(name: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The arrays that `numbered` has named.

    Raises:
        ValueError: one of them is missing.
    """
    count = sum(key.rpartition("_")[0] == name for key in arrays)
    require(all(f"{name}_{number}" in arrays for number in range(count)), f"one of the arrays {name!r} is missing")
    return [arrays[f"{name}_{number}"] for number in range(count)]


def put_back(variables: Sequence[keras.Variable], name: str, arrays: Mapping[str, np.ndarray]) -> None:
    for variable, value in zip(variables, in_order(name, arrays), strict=True):
        variable.assign(value)


# === Random numbers ===


def random_state() -> dict[str, Any]:
    """Of Python's and of numpy's random numbers, from which all others here are drawn."""
    name, keys, *rest = np.random.get_state()
    return {"python": random.getstate(), "numpy": [name, keys.tolist(), *rest]}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Sets what `random_state` has returned, or what JSON has made of it.

    Raises:
        ValueError: it isn't that; nothing is set.
    """
    check_random_state(state)
    version, inner, gauss = state["python"]
    random.setstate((version, tuple(inner), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))


def check_random_state(state: Any) -> None:
    """Raises `ValueError` if this isn't the state of a Mersenne twister of Python's and one of numpy's."""
    words = 624
    try:
        (version, (*inner, position), gauss), (name, keys, *rest) = state["python"], state["numpy"]
        place, has_gauss, cached = rest
        fits = [
            version == random.getstate()[0],
            len(inner) == len(keys) == words,
            all(is_whole(key) and key < 1 << 32 for key in (*inner, *keys)),
            all(is_whole(each) and each <= words for each in (position, place)),
            gauss is None or is_number(gauss),
            name == "MT19937",
            has_gauss in (0, 1),
            is_number(cached),
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("the state of the random numbers isn't whole") from error
    require(all(fits), "the state of the random numbers isn't one")


def as_plain(value: Any) -> Any:
    """A number of numpy's as one of Python's."""
    return value.item() if isinstance(value, (np.number, np.bool_)) else value
