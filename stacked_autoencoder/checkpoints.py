"""Where a call of `train` is, on disk, so that the same call goes on after a kill as if nothing had happened.

    <folder>/call.json     what was called for; another call is refused
    <folder>/start0.npz    level 0 before its first step, and the state of all random numbers
    <folder>/now0.npz      what changes while it trains, after its last whole epoch
    <folder>/done0.npz     level 0 when it was done

A level that goes on is set up again from its start, which gives the same optimizer, the same sample and the same order
of the data, and then takes over what `now` holds. Each file is there whole, or the one before it is.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.durable import replacing
from stacked_autoencoder.level import Level
from stacked_autoencoder.principal import LinearCode
from stacked_autoencoder.weights_file import read_arrays

CALL = "call.json"
META = "meta"  # the array of a file that holds its JSON


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
        text = json.dumps(call, indent=1, default=str)
        if not (folder / CALL).exists():
            with replacing(folder / CALL) as stream:
                stream.write(text.encode())
            return
        before, now = json.loads((folder / CALL).read_text(encoding="utf-8")), json.loads(text)
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
        for variable, value in zip(_states(level), in_order("corruption", arrays), strict=True):
            variable.assign(value)
        level.set_state(meta["level"])
        code = {name.removeprefix("linear_"): value for name, value in arrays.items() if name.startswith("linear_")}
        level.linear_code = LinearCode(**code) if code else None
        set_random_state(meta["random"])
        return meta, arrays


class KeepCheckpoints(keras.callbacks.Callback):
    """Writes what changes in training after each epoch, and puts it back before the first.

    Args:
        file: to write to, and to go on from if it is there.
        best: holds the best weights so far, its `state` plain numbers.
        others: callbacks of the user's, whose plain numbers and lists of arrays are kept, too: what was best so far,
            since when it hasn't got better.

    Attributes:
        epoch: the first one to train.
        is_over: whether a callback had ended training before.
    """

    def __init__(self, file: Path, best: Any, others: Sequence[keras.callbacks.Callback]) -> None:
        super().__init__()
        self.file, self.best, self.others = file, best, others
        self.meta, self.arrays = read(file) if file.exists() else (None, {})
        self.epoch = 0 if self.meta is None else self.meta["epoch"][-1] + 1
        self.is_over = self.meta is not None and self.meta["is_over"]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.meta is None:
            return
        self.model.optimizer.build(self.model.trainable_variables)
        for variable, value in zip(self._variables(), in_order("variable", self.arrays), strict=True):
            variable.assign(value)
        self.best.best, self.best.last = self.meta["best"], self.meta["last"]
        self.best.weights = in_order("best", self.arrays)
        self.model.history.epoch, self.model.history.history = list(self.meta["epoch"]), self.meta["history"]
        for index, (callback, plain) in enumerate(zip(self.others, self.meta["callbacks"], strict=True)):
            vars(callback).update(plain)
            for name in self.meta["lists"][index]:
                setattr(callback, name, in_order(f"callback{index}_{name}", self.arrays))
        set_random_state(self.meta["random"])
        self.arrays = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        arrays = numbered("variable", [np.asarray(variable) for variable in self._variables()])
        arrays |= numbered("best", self.best.weights)
        lists: list[list[str]] = []
        for index, callback in enumerate(self.others):
            held = {name: value for name, value in vars(callback).items() if _is_list_of_arrays(value)}
            lists.append([*held])
            for name, value in held.items():
                arrays |= numbered(f"callback{index}_{name}", value)
        meta = {"epoch": self.model.history.epoch, "history": self.model.history.history}
        meta |= {"best": self.best.best, "last": self.best.last, "is_over": bool(self.model.stop_training)}
        plain = [{name: _plain(each) for name, each in vars(other).items() if _is_plain(each)} for other in self.others]
        write(self.file, arrays, meta | {"callbacks": plain, "lists": lists, "random": random_state()})

    def _variables(self) -> list[keras.Variable]:
        """All that training changes: weights, the states of noises and draws, the optimizer's."""
        return [*self.model.variables, *self.model.optimizer.variables]


# === Files ===


def write(file: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Replaces a file of arrays and of plain values, durably. A full disk is found before anything is written."""
    text = np.frombuffer(json.dumps(meta, default=_plain).encode(), np.uint8)
    size = sum(np.asarray(array).nbytes for array in arrays.values()) + text.nbytes
    with replacing(file, reserve=size) as stream:
        np.savez(stream, **{META: text}, **arrays)


def read(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays = read_arrays(file, finite=False)  # a loss that isn't finite is the user's to see
    return json.loads(arrays.pop(META).tobytes()), arrays


def numbered(name: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}_{number}": array for number, array in enumerate(arrays)}


def in_order(name: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    count = sum(key.rpartition("_")[0] == name for key in arrays)
    return [arrays[f"{name}_{number}"] for number in range(count)]


def random_state() -> dict[str, Any]:
    """Of Python's and of numpy's random numbers, from which all others here are drawn."""
    name, keys, *rest = np.random.get_state()
    return {"python": random.getstate(), "numpy": [name, keys.tolist(), *rest]}


def set_random_state(state: Mapping[str, Any]) -> None:
    version, inner, gauss = state["python"]
    random.setstate((version, tuple(inner), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))


def _states(level: Level) -> list[keras.Variable]:
    """Of the random numbers that corrupt what it sees."""
    return [] if level.objective.corruption is None else level.objective.corruption.variables


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, np.number))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, (np.number, np.bool_)) else value


def _is_list_of_arrays(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, np.ndarray) for each in value)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 100 else f"{text[:100]}…"
