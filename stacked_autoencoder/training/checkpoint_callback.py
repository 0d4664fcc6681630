"""The callback that writes checkpoints while a level trains, and restores them."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.distribution import of_chief
from stacked_autoencoder.saving.state import in_order, numbered, put_back
from stacked_autoencoder.training.checkpoint_format import (
    as_plain,
    check_history,
    check_same_form,
    read,
    unusable,
    write,
)
from stacked_autoencoder.utils.checks import is_number, is_whole, require
from stacked_autoencoder.utils.seeds import check_random_state, random_state, set_random_state

WITHIN_EPOCH = 300.0  # seconds between checkpoints within an epoch, the most that an interruption can cost


class CheckpointCallback(keras.callbacks.Callback):
    """Writes a checkpoint after each epoch, and every five minutes within longer ones; restores it at the beginning.

    Args:
        file: the checkpoint. If it exists, training continues from it.
        best: `RestoreBestWeights`, which has the best weights so far.
        others: the user's callbacks. Their numbers and lists of arrays are saved, too, such as the best loss so far.
            Arguments of their constructors aren't.
        epochs: number of epochs; a checkpoint with more epochs is refused.
        steps: steps per epoch; a checkpoint with more steps is refused.

    Attributes:
        epoch: index of the first epoch to train.
        step: index of the first step to train in that epoch.
        is_over: whether a callback had stopped training.

    Raises:
        ValueError: the file is damaged, or belongs to another call.
    """

    def __init__(
        self,
        file: Path,
        best: Any,
        others: Sequence[keras.callbacks.Callback],
        epochs: int | None = None,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        self.file, self.best, self.others = file, best, others

        def check(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
            check_now(meta, arrays)
            require(epochs is None or len(meta["epoch"]) <= epochs, f"it has more than {epochs} epochs")
            require(steps is None or meta["step"] < steps, f"it has more than {steps} steps per epoch")
            require(len(meta["callbacks"]) == len(others), f"it wasn't written with {len(others)} callbacks")

        self.meta, self.arrays = of_chief(lambda: read(file, check) if os.path.lexists(file) else (None, {}))
        self.epoch, self.step, self.is_over = 0, 0, False
        if self.meta is not None:
            self.epoch, self.step, self.is_over = len(self.meta["epoch"]), self.meta["step"], self.meta["is_over"]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.written = time.monotonic()
        if self.meta is None:
            return
        try:
            self._check_form()
        except ValueError as error:
            raise unusable(self.file, error) from error
        put_back(self._variables(), "variable", self.arrays)
        self.best.best, self.best.last = self.meta["best"], self.meta["last"]
        self.best.weights = in_order("best", self.arrays)
        self.model.history.epoch, self.model.history.history = list(self.meta["epoch"]), self.meta["history"]
        self._restore_others()
        set_random_state(self.meta["random"])

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.is_first = epoch == self.epoch
        if self.is_first and self.step:  # the metrics have just been reset
            put_back(self.model.metrics_variables, "metric", self.arrays)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        done = batch + 1
        if self.is_first and done <= self.step:  # the loop skips steps that were taken before the interruption
            if done == self.step:  # the other callbacks were called a second time for the skipped steps
                self._restore_others()
        elif done < self.params["steps"] and of_chief(lambda: time.monotonic() - self.written > WITHIN_EPOCH):
            self._write(done)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._write(0)

    def _check_form(self) -> None:
        """Raises `ValueError` if the checkpoint can't be restored, before anything is changed."""
        variables = self._variables()
        check_same_form(((f"variable_{number}", each) for number, each in enumerate(variables)), self.arrays)
        check_same_form(((f"best_{number}", each) for number, each in enumerate(self.model.weights)), self.arrays)
        counts = {"variable": len(variables), "best": len(self.model.weights)}
        if self.meta["step"]:
            metrics = self.model.metrics_variables
            check_same_form(((f"metric_{number}", each) for number, each in enumerate(metrics)), self.arrays)
            counts["metric"] = len(metrics)
        for name, count in counts.items():
            require(len(in_order(name, self.arrays)) == count, f"there are more than {count} arrays {name!r}")
        step, at_once = self.meta["step"], self.model.steps_per_execution
        require(step < self.params["steps"] and step % at_once == 0, f"no checkpoint is written after step {step}")
        for _ in self._state_of_others():
            pass

    def _restore_others(self) -> None:
        for callback, name, value in [*self._state_of_others()]:
            setattr(callback, name, value)

    def _state_of_others(self) -> Iterator[tuple[keras.callbacks.Callback, str, Any]]:
        """Yields the user's callbacks, names of their attributes, and the saved values.

        Raises:
            ValueError: the checkpoint has an attribute that is never saved.
        """
        for index, callback in enumerate(self.others):
            for name, value in self.meta["callbacks"][index].items():
                # Earlier versions also saved text, which could be a path to write to.
                if isinstance(value, str):
                    continue
                _check_name(callback, name)
                if _is_plain(_present(callback, name)):  # otherwise the attribute now has another type
                    yield callback, name, value
            for name in self.meta["lists"][index]:
                _check_name(callback, name)
                present = _present(callback, name)
                if present is None or _is_list_of_arrays(present):
                    yield callback, name, in_order(f"callback{index}_{name}", self.arrays)

    def _write(self, step: int) -> None:
        self.arrays = {}  # frees the arrays that were restored
        arrays = numbered("variable", [np.asarray(variable) for variable in self._variables()])
        arrays |= numbered("metric", [np.asarray(variable) for variable in self.model.metrics_variables])
        arrays |= numbered("best", self.best.weights)
        lists: list[list[str]] = []
        for index, callback in enumerate(self.others):
            held = {
                name: value
                for name, value in vars(callback).items()
                if _is_list_of_arrays(value) and value and _is_own(callback, name)
            }
            lists.append([*held])
            for name, value in held.items():
                arrays |= numbered(f"callback{index}_{name}", value)
        meta = {"epoch": self.model.history.epoch, "step": step, "history": self.model.history.history}
        meta |= {"best": self.best.best, "last": self.best.last, "is_over": bool(self.model.stop_training)}
        plain = [plain_state(callback) for callback in self.others]
        meta |= {"callbacks": plain, "lists": lists, "random": random_state()}
        of_chief(lambda: write(self.file, arrays, meta))
        self.written = time.monotonic()

    def _variables(self) -> list[keras.Variable]:
        """Returns all variables that training changes: weights, random states, and those of the optimizer."""
        return [*self.model.variables, *self.model.optimizer.variables]


def check_now(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Raises `ValueError` if these aren't the contents of a checkpoint that is written while a level trains."""
    check_history(meta)
    require(is_whole(meta.get("step")), "`step` isn't a number of steps")
    require(is_number(meta.get("best")) and is_number(meta.get("last")), "`best` or `last` isn't a loss")
    require(isinstance(meta.get("is_over"), bool), "`is_over` isn't true or false")
    plain, lists = meta.get("callbacks"), meta.get("lists")
    require(
        isinstance(plain, list)
        and isinstance(lists, list)
        and len(plain) == len(lists)
        and all(isinstance(state, dict) and all(map(_is_plain_or_text, state.values())) for state in plain)
        and all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists),
        "the state of the callbacks is invalid",
    )
    for index, names in enumerate(lists):
        for name in names:
            require(in_order(f"callback{index}_{name}", arrays), f"the arrays of {name!r} of a callback are missing")
    check_random_state(meta.get("random"))


def plain_state(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Returns the numbers that a callback changes itself, without the arguments of its constructor."""
    return {
        name: as_plain(value) for name, value in vars(callback).items() if _is_plain(value) and _is_own(callback, name)
    }


def _is_own(callback: keras.callbacks.Callback, name: str) -> bool:
    """Returns whether an attribute is state, and not an argument of the constructor, which can be an output path."""
    of_class = inspect.getattr_static(type(callback), name, None)  # methods and properties aren't state
    is_argument = name in inspect.signature(type(callback).__init__).parameters
    return not name.startswith("__") and not is_argument and (_is_plain(of_class) or _is_list_of_arrays(of_class))


def _check_name(callback: keras.callbacks.Callback, name: str) -> None:
    require(_is_own(callback, name), f"it has {name!r} of a {type(callback).__name__}, which is never saved")


def _present(callback: keras.callbacks.Callback, name: str) -> Any:
    return inspect.getattr_static(callback, name, None)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, np.integer, np.floating, np.bool_))


def _is_plain_or_text(value: Any) -> bool:
    return isinstance(value, str) or _is_plain(value)


def _is_list_of_arrays(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, np.ndarray) for each in value)
