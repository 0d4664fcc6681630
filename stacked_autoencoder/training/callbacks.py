"""Keras callbacks that every training has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.utils.console import open_line


class LevelProgress(keras.callbacks.ProgbarLogger):
    """Keras's progress bar under a line that names the level."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def set_params(self, params: dict[str, Any]) -> None:
        self.n_epochs = params["epochs"]
        super().set_params(params | {"epochs": 1})  # of more it prints the number, in a line of its own

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.verbose:
            print(f"{self.title}, epoch {epoch + 1}/{self.n_epochs}")
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        if self.verbose == 1:
            open_line.begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)  # ends the line
        open_line.close()


class RestoreBestWeights(keras.callbacks.Callback):
    """Puts the best weights back when training ends: those of the start if no epoch did better.

    Args:
        measure: gives the loss of the model as it is; `None` to take the `val_loss` that `Validate` has measured.
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
            self.put_back()

    def put_back(self) -> None:
        if self.weights is not None:
            self.model.set_weights(self.weights)


class TerminateOnNaN(keras.callbacks.Callback):
    """Ends training with an error when the loss isn't finite any more: it won't be again."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch, self.before = epoch, -1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not np.isfinite(logs["loss"]):
            first, last = self.before + 2, batch + 1
            raise FloatingPointError(
                f"{self.title}: the loss isn't a finite number any more, in epoch {self.epoch + 1}, "
                f"{f'batch {last}' if first >= last else f'one of the batches {first} to {last}'}. The best weights "
                "before that are in place. Look for values in these batches that aren't like the others, or lower "
                f"`learning_rate`. Received: loss={logs['loss']}"
            )
        self.before = batch


class Validate(keras.callbacks.Callback):
    """Measures the validation data after each epoch, before other callbacks are told of its end.

    Args:
        measure: gives the loss and its terms.
        callbacks: those that Keras's `evaluate` would tell when it begins and ends.
    """

    def __init__(self, measure: Callable[[], dict[str, float]], callbacks: Sequence[keras.callbacks.Callback]) -> None:
        super().__init__()
        self.measure = measure
        self.callbacks = callbacks

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for callback in self.callbacks:
            callback.on_test_begin()
        means = self.measure()
        told = {name: means[name] for name in ("loss", *(each.name for each in self.model.trackers))}
        for callback in self.callbacks:
            callback.on_test_end(told)
        logs |= {f"val_{name}": value for name, value in told.items()}
