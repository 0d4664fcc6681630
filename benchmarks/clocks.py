"""Fair times on a machine that others use too."""

import time

import keras
import tensorflow as tf

from stacked_autoencoder.optimizer import PEAK_LEARNING_RATE, warm_cosine

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


class OverTime(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate that `train` would use, by the clock: how many steps will fit isn't known beforehand."""

    def __init__(self, limit: TimeLimit) -> None:
        self.limit = limit
        self.over_steps = warm_cosine(PEAK_LEARNING_RATE, FINENESS)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return self.over_steps(FINENESS * self.limit.elapsed)


class Clock(keras.callbacks.Callback):
    """Seconds of each epoch's steps."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.epochs: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.ended = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.epochs.append(self.ended - self.began)


def step_times(models: dict[str, keras.Model], batch: tf.Tensor, rounds: int = 10, steps: int = 3) -> dict[str, float]:
    """Seconds of one compiled training step: the best of several rounds, the models taken in turn.

    Others on the machine only ever add time, and more to small steps than to large ones, so the best round tells what a
    step costs. The steps are real ones, so the weights are put back in the end.
    """
    weights = {name: model.get_weights() for name, model in models.items()}
    compiled = {name: tf.function(model.train_step) for name, model in models.items()}
    for step in compiled.values():
        step((batch, batch))
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, step in compiled.items():
            began = time.perf_counter()
            for _ in range(steps):
                step((batch, batch))
            times[name].append((time.perf_counter() - began) / steps)
    for name, model in models.items():
        model.set_weights(weights[name])
    return {name: min(values) for name, values in times.items()}
