"""Keras callbacks that measure training time."""

import time

import keras


class Stopwatch(keras.callbacks.Callback):
    """Stops training after a number of minutes and counts the steps.

    The time includes the first step, in which Keras compiles the network.
    """

    def __init__(self, minutes: float) -> None:
        super().__init__()
        self.minutes = minutes
        self.steps = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.steps += 1
        self.seconds = time.perf_counter() - self.began
        if self.seconds > 60 * self.minutes:
            self.model.stop_training = True

    def row(self) -> dict[str, float]:
        """Returns the number of steps, the seconds and the milliseconds per step, as a row of a table."""
        return {"steps": self.steps, "seconds": self.seconds, "ms/step": 1000 * self.seconds / self.steps}


class Clock(keras.callbacks.Callback):
    """Records how long epochs take.

    Attributes:
        epochs: seconds of each epoch, training steps only.
        whole_epochs: seconds of each epoch, including what follows the steps, such as validation.
        first: time at which the first batch was finished, as given by `time.perf_counter`.
    """

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.epochs: list[float] = []
        self.whole_epochs: list[float] = []
        self.first: float | None = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.ended = time.perf_counter()
        self.first = self.first or self.ended

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.epochs.append(self.ended - self.began)
        self.whole_epochs.append(time.perf_counter() - self.began)
