"""Where a call of `train` is, on disk, so that the same call goes on after a kill as if nothing had happened.

    <folder>/call.json     what was called for; another call is refused
    <folder>/start0.npz    level 0 before its first step, and the state of all random numbers
    <folder>/now0.npz      what changes while it trains, after an epoch or within a long one
    <folder>/done0.npz     level 0 when it was done

A level that goes on is set up again from its start, which gives the same optimizer, the same sample and the same order
of the data, and then takes over what `now` holds. Each file is there whole, or the one before it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.checkpoint_files import (
    in_order,
    numbered,
    put_back,
    random_state,
    read,
    set_random_state,
    write,
)
from stacked_autoencoder.durable import write_json
from stacked_autoencoder.level import Level
from stacked_autoencoder.optimizer import LearningRate
from stacked_autoencoder.principal import LinearCode
from stacked_autoencoder.seen import Seen
from stacked_autoencoder.stack import Stack

CALL = "call.json"


class Checkpoints:
    """Of one call of `train`.

    Args:
        folder: is made if it isn't there.
        call: what decides the result, as plain values.

    Raises:
        ValueError: the folder holds those of another call.
    """

    def __init__(self, folder: Path, call: Mapping[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        now = json.loads(json.dumps(call, default=str))
        if not (folder / CALL).exists():
            write_json(folder / CALL, now)
            return
        before = json.loads((folder / CALL).read_text(encoding="utf-8"))
        other = [name for name in now if now[name] != before.get(name)]
        if other:
            name = other[0]
            raise ValueError(
                f"`checkpoint_dir` holds the checkpoints of another call, with another {', '.join(other)}: {name} was "
                f"{_short(before.get(name))} and is {_short(now[name])}. Call `train` as before to go on, or give "
                f"another folder to begin anew. Received: checkpoint_dir={str(folder)!r}"
            )

    # === Whole levels ===

    def finished(self, index: int, level: Level) -> tuple[keras.callbacks.History, tuple[float, float]] | None:
        """Makes a level what it was when it was done, if it was; its history, and the value range of its inputs."""
        file = self.folder / f"done{index}.npz"
        if not file.exists():
            return None
        meta, _ = self._restore(file, level)
        history = keras.callbacks.History()
        history.epoch, history.history, history.start_loss = meta["epoch"], meta["history"], meta["start_loss"]
        return history, tuple(meta["value_range"])

    def finish(
        self, index: int, level: Level, history: keras.callbacks.History, value_range: tuple[float, float]
    ) -> None:
        told = {"epoch": history.epoch, "history": history.history, "start_loss": history.start_loss}
        self._keep(self.folder / f"done{index}.npz", level, told | {"value_range": value_range})
        (self.folder / f"now{index}.npz").unlink(missing_ok=True)

    def begin(self, index: int, level: Level, start: Callable[[], None]) -> Path:
        """Makes a level what it was before its first step, or starts it now.

        Returns:
            The file for what changes from then on.
        """
        file = self.folder / f"start{index}.npz"
        if file.exists():
            self._restore(file, level)
        else:
            start()
            self._keep(file, level, {})
        return self.folder / f"now{index}.npz"

    def _keep(self, file: Path, level: Level, meta: Mapping[str, Any]) -> None:
        arrays = {}
        for name, model in level.models().items():
            arrays |= numbered(name, model.get_weights())
        arrays |= numbered("training", level.get_training_weights())
        arrays |= numbered("corruption", [np.asarray(state) for state in _states(level)])
        if level.linear_code is not None:
            arrays |= {f"linear_{name}": value for name, value in vars(level.linear_code).items()}
        write(file, arrays, {**meta, "level": level.get_state(), "random": random_state()})

    def _restore(self, file: Path, level: Level) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        meta, arrays = read(file)
        for name, model in level.models().items():
            model.set_weights(in_order(name, arrays))
        level.set_training_weights(in_order("training", arrays))
        put_back(_states(level), "corruption", arrays)
        level.set_state(meta["level"])
        code = {name.removeprefix("linear_"): value for name, value in arrays.items() if name.startswith("linear_")}
        level.linear_code = LinearCode(**code) if code else None
        set_random_state(meta["random"])
        return meta, arrays


def described(
    stack: Stack,
    data: Mapping[str, Seen | None],
    *,
    learning_rate: LearningRate,
    optimizer: Any,
    callbacks: Sequence[keras.callbacks.Callback],
    **numbers: Any,
) -> dict[str, Any]:
    """What decides the result of a call of `train`, as plain values: its arguments, the stack as it is, the data.

    Weights that the start will set are left out: they are random.
    """
    started = [index for index, level in enumerate(stack.levels) if level.started]
    known = stack.fingerprint(max(started)) if started == [*range(len(started))] and started else None
    is_schedule = isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule)
    return {
        "shape": stack.shape,
        "levels": [[level.kind, level.get_config()] for level in stack.levels],
        "trained before": [started, known],
        **{name: None if seen is None else _described(seen) for name, seen in data.items()},
        "learning_rate": keras.optimizers.schedules.serialize(learning_rate) if is_schedule else learning_rate,
        "optimizer": None if optimizer is None else _optimizer_described(keras.optimizers.get(optimizer)),
        "callbacks": [type(callback).__name__ for callback in callbacks],
        **numbers,
    }


def _optimizer_described(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    config = {name: value for name, value in optimizer.get_config().items() if name != "name"}  # Keras counts them
    return [type(optimizer).__name__, config]


def _described(data: Seen) -> list[Any]:
    return [[source.describe(), source.digest()] for source in data.pairs if source is not None]


def _states(level: Level) -> list[keras.Variable]:
    """Of the random numbers that corrupt what it sees."""
    return [] if level.objective.corruption is None else level.objective.corruption.variables


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 100 else f"{text[:100]}…"
