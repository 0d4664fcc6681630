"""Keras callbacks that every training run uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.utils.console import open_line

# In a long epoch, the time left is printed once: after this many seconds, if at least that many are left.
SECONDS_OF_MEASUREMENT = 10.0
SECONDS_WORTH_A_LINE = 60.0


class LevelProgress(keras.callbacks.ProgbarLogger):
    """Prints the level, the epoch and the time left, with Keras's progress bar or with one line per epoch.

    Args:
        title: names the level.
        time_left: formats the time left; its arguments are the seconds per step, the number of steps left and the
            number of steps in an epoch. Without it, no time is printed.
        first_step: number of steps of the first epoch that an earlier run took, which say nothing about the speed.
    """

    def __init__(self, title: str, time_left: Callable[[float, int, int], str] | None = None, first_step: int = 0):
        super().__init__()
        self.title = title
        self.time_left = time_left
        self.first_step = first_step
        self.measured_since: float | None = None
        self.steps_measured = self.steps_in_epoch = 0
        self.has_printed_time = False

    def set_params(self, params: dict[str, Any]) -> None:
        self.n_epochs, self.n_steps = params["epochs"], params["steps"]
        super().set_params(params | {"epochs": 1})  # for more epochs, Keras prints their number in a line of its own

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.current_epoch, self.steps_in_epoch, self.epoch_start = epoch, 0, time.monotonic()
        if not self.verbose:
            return
        if self.verbose == 1:
            left = self._time_left()
            print(f"{self.title}, epoch {epoch + 1}/{self.n_epochs}{f', {left}' if left else ''}", flush=True)
            super().on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        steps, self.steps_in_epoch = batch + 1 - self.steps_in_epoch, batch + 1
        if self.measured_since is not None:
            self.steps_measured += steps
        elif self.steps_in_epoch > self.first_step:  # the first execution compiled the step
            self.measured_since = time.monotonic()
        if self.verbose == 1:
            super().on_train_batch_end(batch, logs)
            open_line.begin()
        self._print_time_left()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.verbose == 1:
            super().on_epoch_end(epoch, logs)  # prints the line feed
            open_line.close()
        elif self.verbose:
            seconds = time.monotonic() - self.epoch_start
            parts = [f"{self.title}, epoch {epoch + 1}/{self.n_epochs}", f"{seconds:.0f}s"]
            parts.append(f"{1000 * seconds / max(self.steps_in_epoch, 1):.0f}ms/step")
            parts += [f"{name}: {value:.4g}" for name, value in (logs or {}).items() if isinstance(value, Real)]
            is_last = epoch + 1 == self.n_epochs
            if not is_last and (left := self._time_left(is_at_end=True)):
                parts.append(left)
            print(" - ".join(parts), flush=True)

    def _time_left(self, is_at_end: bool = False) -> str:
        """Returns the estimate as text, which is empty if nothing has been measured yet."""
        steps = self.n_steps
        if self.time_left is None or not self.steps_measured or steps is None:
            return ""
        done = self.current_epoch * steps + (steps if is_at_end else self.steps_in_epoch)
        per_step = (time.monotonic() - self.measured_since) / self.steps_measured
        return self.time_left(per_step, self.n_epochs * steps - done, steps)

    def _print_time_left(self) -> None:
        """Prints the estimate once, in the first epoch, if that epoch takes long."""
        if self.has_printed_time or not self.verbose or not self.steps_measured:
            return
        elapsed, steps = time.monotonic() - self.measured_since, self.n_steps
        if elapsed < SECONDS_OF_MEASUREMENT or steps is None:
            return
        self.has_printed_time = True
        if elapsed / self.steps_measured * (steps - self.steps_in_epoch) > SECONDS_WORTH_A_LINE:
            left = self._time_left()
            if left:
                open_line.end()
                print(f"{self.title}: {left}", flush=True)


class RestoreBestWeights(keras.callbacks.Callback):
    """Restores the weights with the lowest loss at the end of training, the initial weights included.

    Args:
        measure: returns the current loss of the model and its terms; `None` uses the `val_loss` that `Validate` has
            measured.
        start_loss: the loss before the first step.
    """

    def __init__(self, measure: Callable[[], dict[str, float]] | None, start_loss: float) -> None:
        super().__init__()
        self.measure = measure
        self.best = self.last = start_loss
        self.weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.weights = self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.last = logs["val_loss"] if self.measure is None else self.measure()["loss"]
        if self.last < self.best:  # never true for NaN
            weights = self.model.get_weights()
            # A NaN pixel can leave the loss finite and a kernel not.
            if all(np.isfinite(weight).all() for weight in weights):
                self.best, self.weights = self.last, weights

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.last != self.best:
            self.restore()

    def restore(self) -> None:
        """Sets the best weights so far."""
        if self.weights is not None:
            self.model.set_weights(self.weights)


class TerminateOnNaN(keras.callbacks.Callback):
    """Raises an error when the loss is no longer finite, from which training never recovers.

    Args:
        title: names the level in the message.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch, self.previous_batch = epoch, -1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not np.isfinite(logs["loss"]):
            first, last = self.previous_batch + 2, batch + 1
            raise FloatingPointError(
                f"{self.title}: the loss is no longer a finite number, in epoch {self.epoch + 1}, "
                f"{f'batch {last}' if first >= last else f'one of the batches {first} to {last}'}. The best weights "
                "from before were restored. Check these batches for unusual values, or use a smaller `learning_rate`. "
                f"Received: loss={logs['loss']}"
            )
        self.previous_batch = batch


class Validate(keras.callbacks.Callback):
    """Measures the loss on the validation data after each epoch, before the `on_epoch_end` of other callbacks.

    Args:
        measure: returns the loss and its terms.
        callbacks: the callbacks whose `on_test_begin` and `on_test_end` Keras's `evaluate` would call.
    """

    def __init__(self, measure: Callable[[], dict[str, float]], callbacks: Sequence[keras.callbacks.Callback]) -> None:
        super().__init__()
        self.measure = measure
        self.callbacks = callbacks

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for callback in self.callbacks:
            callback.on_test_begin()
        means = self.measure()
        reported = {name: means[name] for name in ("loss", *(each.name for each in self.model.trackers))}
        for callback in self.callbacks:
            callback.on_test_end(reported)
        logs |= {f"val_{name}": value for name, value in reported.items()}
