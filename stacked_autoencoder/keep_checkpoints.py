"""The callback that writes where training is, and goes on from there."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.checkpoint_files import (
    as_plain,
    in_order,
    numbered,
    put_back,
    random_state,
    read,
    set_random_state,
    write,
)
from stacked_autoencoder.workers import of_chief

WITHIN_EPOCH = 300.0  # seconds: most of what a kill can cost


class KeepCheckpoints(keras.callbacks.Callback):
    """Writes what changes in training after each epoch, and in long ones on the way; puts it back before the first.

    Args:
        file: to write to, and to go on from if it is there.
        best: `KeepBest`, which holds the best weights so far.
        others: callbacks of the user's, whose plain numbers and lists of arrays are kept, too: what was best so far,
            since when it hasn't got better.

    Attributes:
        epoch: the first one to train.
        step: of this epoch, the first one to train.
        is_over: whether a callback had ended training before.
    """

    def __init__(self, file: Path, best: Any, others: Sequence[keras.callbacks.Callback]) -> None:
        super().__init__()
        self.file, self.best, self.others = file, best, others
        self.meta, self.arrays = of_chief(lambda: read(file) if file.exists() else (None, {}))
        self.epoch, self.step, self.is_over = 0, 0, False
        if self.meta is not None:
            self.epoch, self.step, self.is_over = len(self.meta["epoch"]), self.meta["step"], self.meta["is_over"]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.written = time.monotonic()
        if self.meta is None:
            return
        self.model.passed = self.step
        put_back(self._variables(), "variable", self.arrays)
        self.best.best, self.best.last = self.meta["best"], self.meta["last"]
        self.best.weights = in_order("best", self.arrays)
        self.model.history.epoch, self.model.history.history = list(self.meta["epoch"]), self.meta["history"]
        self._put_back_others()
        set_random_state(self.meta["random"])

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.model.passed:  # Keras has just set what it measures to zero
            put_back(self.model.metrics_variables, "metric", self.arrays)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        done = batch + 1
        if self.model.passed:
            if done == self.step:  # the other callbacks have seen all of these batches a second time
                self._put_back_others()
        elif done < self.model.steps and of_chief(lambda: time.monotonic() - self.written > WITHIN_EPOCH):
            self._write(done)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._write(0)

    def _put_back_others(self) -> None:
        for index, (callback, plain) in enumerate(zip(self.others, self.meta["callbacks"], strict=True)):
            vars(callback).update(plain)
            for name in self.meta["lists"][index]:
                setattr(callback, name, in_order(f"callback{index}_{name}", self.arrays))

    def _write(self, step: int) -> None:
        self.arrays = {}  # what was read has been put back
        arrays = numbered("variable", [np.asarray(variable) for variable in self._variables()])
        arrays |= numbered("metric", [np.asarray(variable) for variable in self.model.metrics_variables])
        arrays |= numbered("best", self.best.weights)
        lists: list[list[str]] = []
        for index, callback in enumerate(self.others):
            held = {name: value for name, value in vars(callback).items() if _is_list_of_arrays(value)}
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
        """All that training changes: weights, the states of noises and draws, the optimizer's."""
        return [*self.model.variables, *self.model.optimizer.variables]


def plain_state(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Its plain numbers but those it was made with, some of which Keras's change when training begins."""
    arguments = inspect.signature(type(callback).__init__).parameters
    state = {name: as_plain(value) for name, value in vars(callback).items() if _is_plain(value)}
    return {name: value for name, value in state.items() if name not in arguments}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, np.number))


def _is_list_of_arrays(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, np.ndarray) for each in value)
