"""Where a call of `train` or `fine_tune` is, on disk: the same call goes on after a kill as if nothing had happened.

    <folder>/train.json    what was called for; another call is refused
    <folder>/start0.npz    level 0 before its first step, and the state of all random numbers
    <folder>/now0.npz      what changes while it trains, after an epoch or within a long one
    <folder>/done0.npz     level 0 when it was done

`fine_tune` has `fine_tune.json`, `start_all.npz`, … for all levels at once, so one folder holds those of both calls.
What goes on is set up again from its start, which gives the same optimizer, the same sample and the same order of the
data, and then takes over what `now` holds. Each file is there whole, or the one before it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from stacked_autoencoder.checkpoint_files import read, write
from stacked_autoencoder.durable import write_json
from stacked_autoencoder.level import Level
from stacked_autoencoder.level_state import state_of, take_over
from stacked_autoencoder.optimizer import LearningRate
from stacked_autoencoder.sources.pairs import Pairs
from stacked_autoencoder.stack import Stack
from stacked_autoencoder.workers import is_chief, of_chief

ALL = "_all"  # in place of a level's index in the names of files


class Checkpoints:
    """Of one call of a method.

    Args:
        folder: is made if it isn't there.
        method: `"train"` or `"fine_tune"`.
        call: what decides the result, as plain values.

    Raises:
        ValueError: the folder holds those of another call.
    """

    def __init__(self, folder: Path, method: str, call: Mapping[str, Any]) -> None:
        self.folder = folder
        of_chief(lambda: self._begin(method, json.loads(json.dumps(call, default=str))))

    def _begin(self, method: str, now: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{method}.json"
        if not file.exists():
            write_json(file, now)
            return
        before = json.loads(file.read_text(encoding="utf-8"))
        other = [name for name in now if now[name] != before.get(name)]
        if other:
            name = other[0]
            raise ValueError(
                f"`checkpoint_dir` holds the checkpoints of another call, with another {', '.join(other)}: {name} was "
                f"{_short(before.get(name))} and is {_short(now[name])}. Call `{method}` as before to go on, or give "
                f"another folder to begin anew. Received: checkpoint_dir={str(self.folder)!r}"
            )

    # === Whole levels ===

    def finished(
        self, part: int | str, levels: Sequence[Level]
    ) -> tuple[keras.callbacks.History, tuple[float, float]] | None:
        """Makes levels what they were when they were done, if they were; the history, and the value range of inputs.

        Args:
            part: the index of a level that is trained alone, or `ALL`.
        """
        meta = _restore(levels, self.folder / f"done{part}.npz")
        if meta is None:
            return None
        history = keras.callbacks.History()
        history.epoch, history.history, history.start_loss = meta["epoch"], meta["history"], meta["start_loss"]
        return history, tuple(meta["value_range"])

    def finish(
        self,
        part: int | str,
        levels: Sequence[Level],
        history: keras.callbacks.History,
        value_range: tuple[float, float],
    ) -> None:
        told = {"epoch": history.epoch, "history": history.history, "start_loss": history.start_loss}
        _keep(self.folder / f"done{part}.npz", levels, told | {"value_range": value_range})
        if is_chief():
            (self.folder / f"now{part}.npz").unlink(missing_ok=True)

    def begin(self, part: int | str, levels: Sequence[Level], start: Callable[[], None] | None = None) -> Path:
        """Makes levels what they were before the first step, or starts them now.

        Returns:
            The file for what changes from then on.
        """
        file = self.folder / f"start{part}.npz"
        if _restore(levels, file) is None:
            if start is not None:
                start()
            _keep(file, levels, {})
        return self.folder / f"now{part}.npz"


def _keep(file: Path, levels: Sequence[Level], told: Mapping[str, Any]) -> None:
    meta, arrays = state_of(levels)
    of_chief(lambda: write(file, arrays, {**told, **meta}))


def _restore(levels: Sequence[Level], file: Path) -> dict[str, Any] | None:
    """What a file tells, of levels that are as it says now; `None` if it isn't there."""
    found = of_chief(lambda: read(file) if file.exists() else None)
    if found is None:
        return None
    take_over(levels, *found)
    return found[0]


def described(
    stack: Stack,
    data: Mapping[str, Pairs | None],
    *,
    learning_rate: LearningRate,
    optimizer: Any,
    callbacks: Sequence[keras.callbacks.Callback],
    **numbers: Any,
) -> dict[str, Any]:
    """What decides the result of a call, as plain values: its arguments, the stack as it is, the data.

    Weights that the start will set are left out: they are random.
    """
    started = [index for index, level in enumerate(stack.levels) if level.started]
    known = stack.fingerprint(max(started)) if started == [*range(len(started))] and started else None
    is_schedule = isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule)
    return {
        "shape": stack.shape,
        "levels": [[level.kind, level.get_config()] for level in stack.levels],
        "trained before": [started, known],
        **{name: None if pairs is None else _described(pairs) for name, pairs in data.items()},
        "learning_rate": keras.optimizers.schedules.serialize(learning_rate) if is_schedule else learning_rate,
        "optimizer": None if optimizer is None else _optimizer_described(keras.optimizers.get(optimizer)),
        "callbacks": [type(callback).__name__ for callback in callbacks],
        **numbers,
    }


def _optimizer_described(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    config = {name: value for name, value in optimizer.get_config().items() if name != "name"}  # Keras counts them
    return [type(optimizer).__name__, config]


def _described(pairs: Pairs) -> list[Any]:
    return [[source.describe(), source.digest()] for source in pairs if source is not None]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 100 else f"{text[:100]}…"
