"""How long training takes."""

import time

import keras


class Stopwatch(keras.callbacks.Callback):
    """Ends training after so many minutes, and counts its steps. The first step, which compiles, counts."""

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
        return {"steps": self.steps, "seconds": self.seconds, "ms/step": 1000 * self.seconds / self.steps}


class Clock(keras.callbacks.Callback):
    """Times of steps.

    Attributes:
        epochs: seconds of each epoch's steps.
        whole_epochs: the same with what follows them, such as a look at validation data.
        first: when the first steps had been taken.
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
