"""The complete state of levels as arrays and plain values, for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.levels.base import CORRUPTION, TRAINING, Level
from stacked_autoencoder.pca import LinearCode
from stacked_autoencoder.utils.checks import require
from stacked_autoencoder.utils.seeds import random_state, set_random_state

State = tuple[dict[str, Any], dict[str, np.ndarray]]


def state_of(levels: Sequence[Level]) -> State:
    """Returns the state of levels and of all random numbers, as plain values and arrays."""
    arrays = {}
    for index, level in enumerate(levels):
        for name, weights in level.get_weights().items():
            arrays |= numbered(f"{name}{index}", weights)
        if level.linear_code is not None:
            arrays |= {f"linear{index}_{name}": value for name, value in vars(level.linear_code).items()}
    return {"levels": [level.get_state() for level in levels], "random": random_state()}, arrays


def take_over(levels: Sequence[Level], meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Restores the state of levels and of all random numbers that `state_of` returned."""
    for index, level in enumerate(levels):
        names = (*level.models(), TRAINING, CORRUPTION)
        level.set_weights({name: in_order(f"{name}{index}", arrays) for name in names})
        level.set_state(meta["levels"][index])
        linear = f"linear{index}_"
        code = {name.removeprefix(linear): value for name, value in arrays.items() if name.startswith(linear)}
        level.linear_code = LinearCode(**code) if code else None
    set_random_state(meta["random"])


def numbered(name: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Names arrays by a common name and their index."""
    return {f"{name}_{number}": array for number, array in enumerate(arrays)}


def in_order(name: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Returns the arrays that `numbered` has named, in their order.

    Raises:
        ValueError: one of them is missing.
    """
    count = sum(key.rpartition("_")[0] == name for key in arrays)
    require(all(f"{name}_{number}" in arrays for number in range(count)), f"one of the arrays {name!r} is missing")
    return [arrays[f"{name}_{number}"] for number in range(count)]


def put_back(variables: Sequence[keras.Variable], name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Assigns arrays that `numbered` has named to variables."""
    for variable, value in zip(variables, in_order(name, arrays), strict=True):
        variable.assign(value)
