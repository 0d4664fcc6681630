"""Epochs of just as many steps as they should have, though several run at once."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from stacked_autoencoder.distribute import OnDevices


class ExactSteps(OnDevices):
    """A model for data without end, whose training can go on within an epoch.

    Keras runs `steps_per_execution` steps each time, beyond the end of an epoch where data go on: of 20 steps, 32.

    Attributes:
        steps: in an epoch, as `fit` is told.
        begin: steps of the present epoch that are done.
        passed: steps of the first epoch that an earlier run has done, a whole number of executions. They are passed
            over: callbacks see them, with the metrics as they are, and no data are taken.
    """

    steps: int
    begin: int
    passed = 0

    def fit(self, *arguments: Any, steps_per_epoch: int, **named: Any) -> keras.callbacks.History:
        self.steps, self.begin = steps_per_epoch, 0
        return super().fit(*arguments, steps_per_epoch=steps_per_epoch, **named)

    def make_train_function(self, force: bool = False) -> Any:
        if self.train_function is not None and not force:
            return
        strategy = self.distribute_strategy

        def one_step(data: Any) -> None:
            strategy.run(self.train_step, args=(data,))  # what it returns is told by the metrics that it has updated

        if self.jit_compile:  # else a function within the loop's would only take time to be made
            one_step = tf.function(one_step, autograph=False, reduce_retracing=True, jit_compile=True)

        def several_steps(iterator: Any, count: tf.Tensor) -> None:
            """In a loop from the first on: TensorFlow optimises the whole step at every place that has it."""

            def one_more(done: tf.Tensor) -> tf.Tensor:
                one_step(next(iterator))
                return done + 1

            tf.while_loop(lambda done: done < count, one_more, (tf.constant(0),))

        several_steps = tf.function(several_steps, autograph=False, reduce_retracing=True)

        def execute(iterator: Any) -> dict[str, Any]:
            count = min(self.steps_per_execution, self.steps - self.begin)
            is_done, self.begin = self.begin < self.passed, (self.begin + count) % self.steps
            if not is_done:
                self.passed = 0
                several_steps(iterator, tf.constant(count))
            return self.get_metrics_result()

        self.train_function = execute
