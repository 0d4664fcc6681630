"""Time measurements on a machine that other programs use as well."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.optimizers import PEAK_LEARNING_RATE, WarmCosine

SCHEDULE_STEPS = 10_000  # steps of the learning rate schedule that stand for the whole time


class TimeLimit(keras.callbacks.Callback):
    """Stops training a number of seconds after this object was created; compiling and validation count.

    Attributes:
        elapsed: variable, the share of the seconds that has passed.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.elapsed = tf.Variable(0.0, trainable=False)
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        share = (time.perf_counter() - self.began) / self.seconds
        self.elapsed.assign(min(share, 1.0))
        if share >= 1:
            self.model.stop_training = True


class Curve(keras.callbacks.Callback):
    """The validation loss over the seconds since this object was created; compiling and validation count.

    Attributes:
        rows: `seconds` and `loss` of each validation.
        start: seconds before the first step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.began = time.perf_counter()
        self.rows: list[dict[str, float]] = []
        self.start = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since this object was created."""
        return time.perf_counter() - self.began

    def add(self, loss: float) -> None:
        self.rows.append({"seconds": self.seconds, "loss": loss})

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.start = self.seconds

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.add(logs["val_loss"])


class OverTime(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of `train` over time instead of steps, because the number of steps is not known beforehand."""

    def __init__(self, limit: TimeLimit, peak: float = PEAK_LEARNING_RATE) -> None:
        self.limit = limit
        self.over_steps = WarmCosine(peak, SCHEDULE_STEPS)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return self.over_steps(SCHEDULE_STEPS * self.limit.elapsed)


def reached_after(curve: list[dict], value: float, name: str) -> float | None:
    """Seconds until a curve reaches a value, interpolated linearly; `None` if it never does."""
    earlier = None
    for point in curve:
        if point[name] <= value:
            if earlier is None:
                return point["seconds"]
            share = (earlier[name] - value) / (earlier[name] - point[name])
            return earlier["seconds"] + share * (point["seconds"] - earlier["seconds"])
        earlier = point
    return None


def step_times(models: dict[str, keras.Model], batch: tf.Tensor, rounds: int = 10, steps: int = 3) -> dict[str, float]:
    """Seconds of one compiled training step of each model; the weights are restored afterwards."""
    weights = {name: model.get_weights() for name, model in models.items()}
    compiled = {name: tf.function(model.train_step) for name, model in models.items()}

    def several(step: Callable[..., Any]) -> None:
        for _ in range(steps):
            step((batch, batch))

    jobs = {f"{steps} steps of {name}": partial(several, step) for name, step in compiled.items()}
    times = best_times(jobs, rounds).values()
    for name, model in models.items():
        model.set_weights(weights[name])
    return {name: seconds / steps for name, seconds in zip(models, times, strict=True)}


def best_times(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each job: the best round of `in_turns`, because other programs can only add time."""
    return best_of(in_turns(jobs, rounds))


def best_of(turns: dict[str, list[float]]) -> dict[str, float]:
    return {name: min(values) for name, values in turns.items()}


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    lower, median, upper = np.percentile(values, (25, 50, 75))
    return lower, median, upper


def in_turns(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each job in several rounds, in which the jobs take turns; a first round is not counted.

    Prints the best round, the median and the quartiles.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - began)
    times = {name: values[1:] for name, values in times.items()}
    for name, values in times.items():
        best, lower, median, upper = (1000 * seconds for seconds in (min(values), *quartiles(values)))
        text = f"best {best:.3g} ms, median {median:.3g} ms, quartiles {lower:.3g} and {upper:.3g} ms"
        print(f"  {name}, {rounds} rounds: {text}", flush=True)
    return times
