"""Files of arrays and plain values that are there whole or not at all, and the state of random numbers."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.durable import replacing
from stacked_autoencoder.weights_file import read_arrays

META = "meta"  # the array of a file that holds its JSON


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


def read(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays = read_arrays(file, finite=False)  # a loss that isn't finite is the user's to see
    return json.loads(arrays.pop(META).tobytes()), arrays


def numbered(name: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}_{number}": array for number, array in enumerate(arrays)}


def in_order(name: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    count = sum(key.rpartition("_")[0] == name for key in arrays)
    return [arrays[f"{name}_{number}"] for number in range(count)]


def put_back(variables: Sequence[keras.Variable], name: str, arrays: Mapping[str, np.ndarray]) -> None:
    for variable, value in zip(variables, in_order(name, arrays), strict=True):
        variable.assign(value)


def random_state() -> dict[str, Any]:
    """Of Python's and of numpy's random numbers, from which all others here are drawn."""
    name, keys, *rest = np.random.get_state()
    return {"python": random.getstate(), "numpy": [name, keys.tolist(), *rest]}


def set_random_state(state: Mapping[str, Any]) -> None:
    version, inner, gauss = state["python"]
    random.setstate((version, tuple(inner), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))


def as_plain(value: Any) -> Any:
    """A number of numpy's as one of Python's."""
    return value.item() if isinstance(value, (np.number, np.bool_)) else value
