"""The checkpoints of a call of `train` or `fine_tune`. After an interruption, the same call continues from them.

    <folder>/train.json    the arguments of the call; another call is refused
    <folder>/start0.npz    level 0 before its first step, and the state of all random numbers
    <folder>/now0.npz      the state of training, after an epoch or within a long one
    <folder>/done0.npz     level 0 after training

`fine_tune` writes `fine_tune.json`, `start_all.npz`, …, so that one folder can contain the checkpoints of both calls.
To continue, a level is first restored from `start`, which determines the optimizer, the sample that selects weights and
the order of the data, and then from `now`. Files are replaced atomically.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.data.pairs import Pairs
from stacked_autoencoder.distribution import is_chief, of_chief
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.saving.state import state_of, take_over
from stacked_autoencoder.training.callback_options import CallbacksOfLevels
from stacked_autoencoder.training.checkpoint_callback import check_now
from stacked_autoencoder.training.checkpoint_format import check_history, check_same_form, read, unusable, write
from stacked_autoencoder.training.fit import FitOptions
from stacked_autoencoder.utils.checks import is_number, require
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import read_regular, write_json
from stacked_autoencoder.utils.seeds import check_random_state

ALL = "_all"  # replaces the level index in the names of files
NPZ = {"train": re.compile(r"(start|now|done)\d+\.npz"), "fine_tune": re.compile(rf"(start|now|done){ALL}\.npz")}
DATA = ("images", "validation_data")  # keys of `described`
MARK = "trained before"  # a key that only the JSON of `described` has
LARGEST_CALL = 1 << 24  # bytes
LINEAR = ("mean", "components", "variances", "residual")


class Checkpoints:
    """The checkpoints of one call.

    Args:
        folder: the folder, which is created if necessary.
        method: `"train"` or `"fine_tune"`.
        call: everything that determines the result, as plain values.

    Raises:
        ValueError: the folder contains checkpoints of another call.
    """

    def __init__(self, folder: Path, method: str, call: Mapping[str, Any]) -> None:
        self.folder = folder
        of_chief(lambda: self._begin(method, json.loads(json.dumps(call, default=str))))

    def _begin(self, method: str, call: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{method}.json"
        if not os.path.lexists(file):
            self._check_free(method)
            write_json(file, call)
            return
        earlier = _earlier_call(file)
        different = [
            _difference(name, earlier.get(name), call[name]) for name in call if call[name] != earlier.get(name)
        ]
        if different:
            raise ValueError(
                f"`checkpoint_dir` contains checkpoints of a call with other arguments: {'; '.join(different)}. Call "
                f"`{method}` with the earlier arguments to continue, or use another folder to start again. "
                f"Received: checkpoint_dir={str(self.folder)!r}"
            )

    def _check_free(self, method: str) -> None:
        """Raises `ValueError` if checkpoints would overwrite files that this library didn't write."""
        taken = sorted(entry.name for entry in self.folder.iterdir() if NPZ[method].fullmatch(entry.name))
        if taken:
            raise ValueError(
                f"`checkpoint_dir` contains {taken[0]}, but no {method}.json, so `{method}` didn't write that file "
                "and would overwrite it. Nothing was changed. Use another folder, or move the file. "
                f"Received: checkpoint_dir={str(self.folder)!r}"
            )

    # === Whole levels ===

    def finished(
        self, part: int | str, levels: Sequence[Level]
    ) -> tuple[keras.callbacks.History, tuple[float, float]] | None:
        """Restores levels that an earlier call finished.

        Args:
            part: the index of a level that is trained alone, or `ALL`.
            levels: the levels, which don't change if they weren't finished.

        Returns:
            The history, and the value range of the inputs; `None` if the levels weren't finished.
        """
        meta = _restore(levels, self.folder / f"done{part}.npz", _check_done)
        if meta is None:
            return None
        history = keras.callbacks.History()
        history.epoch, history.history, history.start_loss = meta["epoch"], meta["history"], meta["start_loss"]
        history.best_loss = meta.get("best_loss")  # earlier versions didn't write it
        return history, tuple(meta["value_range"])

    def finish(
        self,
        part: int | str,
        levels: Sequence[Level],
        history: keras.callbacks.History,
        value_range: tuple[float, float],
    ) -> None:
        """Writes the checkpoint of levels whose training is over."""
        meta = {"epoch": history.epoch, "history": history.history}
        meta |= {"start_loss": history.start_loss, "best_loss": history.best_loss, "value_range": value_range}
        _keep(self.folder / f"done{part}.npz", levels, meta)
        if is_chief():
            (self.folder / f"now{part}.npz").unlink(missing_ok=True)

    def begin(self, part: int | str, levels: Sequence[Level], initialise: Callable[[], None] | None = None) -> Path:
        """Restores levels as they were before their first step, or initialises them and writes that checkpoint.

        Returns:
            The file for the state of training.
        """
        file, now = self.folder / f"start{part}.npz", self.folder / f"now{part}.npz"
        of_chief(partial(_check_now, now))  # before any level is changed
        if _restore(levels, file) is None:
            if initialise is not None:
                initialise()
            _keep(file, levels, {})
        return now


def _keep(file: Path, levels: Sequence[Level], meta: Mapping[str, Any]) -> None:
    state, arrays = state_of(levels)
    of_chief(lambda: write(file, arrays, {**meta, **state}))


def _restore(
    levels: Sequence[Level], file: Path, check: Callable[[Mapping[str, Any]], None] | None = None
) -> dict[str, Any] | None:
    """Restores levels from a file and returns its plain values; `None` if there is no file.

    Raises:
        ValueError: the file is damaged, or belongs to other levels. The levels don't change.
    """

    def check_all(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        if check is not None:
            check(meta)
        _check_levels(levels, meta, arrays)

    contents = of_chief(lambda: read(file, check_all) if os.path.lexists(file) else None)
    if contents is None:
        return None
    take_over(levels, *contents)
    return contents[0]


def _check_now(file: Path) -> None:
    if os.path.lexists(file):
        read(file, check_now)


def _earlier_call(file: Path) -> dict[str, Any]:
    """Returns the arguments of an earlier call."""
    try:
        call = json.loads(read_regular(file, LARGEST_CALL))
        require(isinstance(call, dict) and MARK in call, "it doesn't describe a call")
        require(isinstance(call[MARK], list) and len(call[MARK]) == 2, f"{MARK!r} isn't a pair")
    except Exception as error:  # not JSON, not even text
        raise unusable(file, error) from error
    return call


def _check_done(meta: Mapping[str, Any]) -> None:
    """Raises `ValueError` if these aren't plain values that `finish` writes."""
    check_history(meta)
    ends = meta.get("value_range")
    require(is_number(meta.get("start_loss")), "`start_loss` isn't a number")
    require(meta.get("best_loss") is None or is_number(meta["best_loss"]), "`best_loss` isn't a number")
    require(isinstance(ends, list) and len(ends) == 2 and all(map(is_number, ends)), "`value_range` isn't a range")


def _check_levels(levels: Sequence[Level], meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Raises `ValueError` if `take_over` couldn't restore levels from these values."""
    states, present = meta.get("levels"), state_of(levels)[1]
    require(isinstance(states, list) and len(states) == len(levels), f"it doesn't contain {len(levels)} levels")
    check_same_form(((name, array) for name, array in present.items() if not name.startswith("linear")), arrays)
    for index, (level, state) in enumerate(zip(levels, states, strict=True)):
        require(isinstance(state, dict) and state.get("kind") == level.kind, f"level {index} has another kind")
        require(isinstance(state.get("started"), bool), f"`started` of level {index} isn't true or false")
        for name in level.statistics():
            require(
                name in state and _is_statistic(state[name], level.encoding_shape[-1]),
                f"`{name}` of level {index} isn't a number for each channel",
            )
        if level.fill_values is not None:
            require(
                state.get("fill_values") is not None and _is_statistic(state["fill_values"], level.input_shape[-1]),
                f"`fill_values` of level {index} isn't a number for each channel",
            )
        _check_linear_code(f"linear{index}_", arrays)
    known = {*present, *(f"linear{index}_{name}" for index in range(len(levels)) for name in LINEAR)}
    require(known.issuperset(arrays), "there are arrays that don't belong to any level")
    check_random_state(meta.get("random"))


def _is_statistic(values: Any, channels: int) -> bool:
    return values is None or (isinstance(values, list) and len(values) == channels and all(map(is_number, values)))


def _check_linear_code(prefix: str, arrays: Mapping[str, np.ndarray]) -> None:
    parts = [arrays.get(prefix + name) for name in LINEAR]
    if all(part is None for part in parts):
        return
    require(all(part is not None and part.dtype.kind == "f" for part in parts), "a part of a PCA is missing")
    mean, components, variances, residual = (part.shape for part in parts)
    is_consistent = len(components) == 2 and (*mean, *variances) == components and not residual
    require(is_consistent, "the shapes of a PCA don't match")


def described(
    stack: Stack,
    data: Mapping[str, Pairs | None],
    epochs: int | Mapping[int, int],
    options: FitOptions,
    callbacks: CallbacksOfLevels,
) -> dict[str, Any]:
    """Returns everything that determines the result of a call, as plain values: arguments, stack and data.

    Weights of levels that will be initialised are left out, since they are random.
    """
    started = [index for index, level in enumerate(stack.levels) if level.started]
    known = stack.fingerprint(max(started)) if started == [*range(len(started))] and started else None
    rate, optimizer = options.learning_rate, options.optimizer
    names = [[type(callback).__name__ for callback in of_level] for of_level in callbacks.values()]
    is_schedule = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
    return {
        "shape": stack.shape,
        "levels": [[level.kind, level.get_config()] for level in stack.levels],
        **({} if stack.missing == "error" else {"missing": stack.missing}),
        **({"value_range": list(stack.value_range)} if stack.values.is_scaled else {}),
        MARK: [started, known],
        **{name: None if pairs is None else _described(pairs) for name, pairs in data.items()},
        "learning_rate": keras.optimizers.schedules.serialize(rate) if is_schedule else rate,
        "optimizer": None if optimizer is None else _optimizer_described(optimizer),
        "callbacks": names[0] if all(each == names[0] for each in names) else names,
        "epochs": epochs,
        "batch_size": options.batch_size,
        "steps_per_epoch": options.steps_per_epoch,
    }


def _optimizer_described(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    config = {name: value for name, value in optimizer.get_config().items() if name != "name"}  # numbered by Keras
    return [type(optimizer).__name__, config]


def _described(pairs: Pairs) -> list[Any]:
    return [[source.describe(), source.digest()] for source in pairs.sources]


def _difference(name: str, earlier: Any, now: Any) -> str:
    """Says how one value of `described` differs between two calls."""
    if name == MARK:
        if earlier[0] == now[0]:
            return "the stack has other weights"
        return f"the stack was {_trained(earlier[0])} when that call began and is now {_trained(now[0])}"
    if name == "levels":
        return "the levels have other arguments"
    before, after = _shown(name, earlier), _shown(name, now)
    return f"`{name}` has other values" if before == after else f"`{name}` was {before} and is now {after}"


def _trained(indices: Sequence[int]) -> str:
    return f"trained in levels {printable(indices, 100)}" if indices else "untrained"


def _shown(name: str, value: Any) -> str:
    """Shows a value of `described`: data by their description, an optimizer by its name. Files may hold anything."""
    if name in DATA and isinstance(value, list) and all(isinstance(each, list) and each for each in value):
        return " with ".join(printable(source[0]) for source in value)
    if name == "optimizer" and isinstance(value, list) and value:
        return printable(value[0], 100)
    if name == "epochs" and isinstance(value, dict):
        return printable({int(key) if key.isdecimal() else key: each for key, each in value.items()}, 100)
    return printable(value, 100)
