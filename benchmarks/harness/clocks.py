"""Fair times on a machine that others use too."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.optimizers import PEAK_LEARNING_RATE, WarmCosine

FINENESS = 10_000  # steps that stand for the whole time


class TimeLimit(keras.callbacks.Callback):
    """Stops training so many seconds after it was made: starts, compiling and looks at the validation set count.

    Attributes:
        elapsed: variable, the share of the seconds that is over.
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
    """The validation loss over the seconds since this was made: starts, compiling and looks count.

    Attributes:
        rows: `seconds` and `loss` of each look.
        start: seconds at the first step, before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.began = time.perf_counter()
        self.rows: list[dict[str, float]] = []
        self.start = 0.0

    @property
    def seconds(self) -> float:
        """Since this was made."""
        return time.perf_counter() - self.began

    def add(self, loss: float) -> None:
        self.rows.append({"seconds": self.seconds, "loss": loss})

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.start = self.seconds

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.add(logs["val_loss"])


class OverTime(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate that `train` would use, by the clock: how many steps will fit isn't known beforehand."""

    def __init__(self, limit: TimeLimit) -> None:
        self.limit = limit
        self.over_steps = WarmCosine(PEAK_LEARNING_RATE, FINENESS)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return self.over_steps(FINENESS * self.limit.elapsed)


def reached_after(curve: list[dict], value: float, name: str) -> float | None:
    """Seconds until a curve is as low as a value, in a straight line between two looks; `None`: it never is."""
    earlier = None
    for look in curve:
        if look[name] <= value:
            if earlier is None:
                return look["seconds"]
            share = (earlier[name] - value) / (earlier[name] - look[name])
            return earlier["seconds"] + share * (look["seconds"] - earlier["seconds"])
        earlier = look
    return None


def step_times(models: dict[str, keras.Model], batch: tf.Tensor, rounds: int = 10, steps: int = 3) -> dict[str, float]:
    """Seconds of one compiled training step of each model. They are real steps; the weights are put back in the end."""
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
    """Seconds of each job: the best of `in_turns`.

    Others on the machine only ever add time, and more to small jobs than to large ones.
    """
    return best_of(in_turns(jobs, rounds))


def best_of(turns: dict[str, list[float]]) -> dict[str, float]:
    return {name: min(values) for name, values in turns.items()}


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """The median in the middle, and between what the middle half lies."""
    lower, median, upper = np.percentile(values, (25, 50, 75))
    return lower, median, upper


def in_turns(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each job in several rounds in which they take turns, after one that isn't counted.

    Prints medians, and between what times the middle half of the rounds lies.
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
        told = f"best {best:.3g} ms, median {median:.3g} ms, half within {lower:.3g} and {upper:.3g} ms"
        print(f"  {name}, {rounds} rounds: {told}", flush=True)
    return times
