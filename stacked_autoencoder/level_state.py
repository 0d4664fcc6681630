"""All that levels are at one moment, as arrays and plain values, and making them that again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from stacked_autoencoder import workers
from stacked_autoencoder.checkpoint_files import in_order, numbered, put_back, random_state, set_random_state
from stacked_autoencoder.level import Level
from stacked_autoencoder.principal import LinearCode

State = tuple[dict[str, Any], dict[str, np.ndarray]]


def state_of(levels: Sequence[Level]) -> State:
    """Plain values and arrays, with the state of all random numbers."""
    arrays = {}
    for position, level in enumerate(levels):
        for name, model in level.models().items():
            arrays |= numbered(f"{name}{position}", model.get_weights())
        arrays |= numbered(f"training{position}", level.get_training_weights())
        arrays |= numbered(f"corruption{position}", [np.asarray(state) for state in _states(level)])
        if level.linear_code is not None:
            arrays |= {f"linear{position}_{name}": value for name, value in vars(level.linear_code).items()}
    return {"levels": [level.get_state() for level in levels], "random": random_state()}, arrays


def take_over(levels: Sequence[Level], meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Makes levels, and all random numbers, what they were."""
    for position, level in enumerate(levels):
        for name, model in level.models().items():
            model.set_weights(in_order(f"{name}{position}", arrays))
        level.set_training_weights(in_order(f"training{position}", arrays))
        put_back(_states(level), f"corruption{position}", arrays)
        level.set_state(meta["levels"][position])
        linear = f"linear{position}_"
        code = {name.removeprefix(linear): value for name, value in arrays.items() if name.startswith(linear)}
        level.linear_code = LinearCode(**code) if code else None
    set_random_state(meta["random"])


def change(levels: Sequence[Level], how: Callable[[], Any], *, together: bool = False) -> None:
    """Changes levels; where there are several workers, the chief's, and the others take over what they have become.

    Args:
        together: whether all workers do it, since they share the work.
    """
    if not workers.has_workers():
        how()
        return

    def changed() -> State:
        if not together:
            how()
        return state_of(levels)

    if together:
        workers.together(how)
    take_over(levels, *workers.of_chief(changed))


def _states(level: Level) -> list[keras.Variable]:
    """Of the random numbers that corrupt what it sees."""
    return [] if level.objective.corruption is None else level.objective.corruption.variables
