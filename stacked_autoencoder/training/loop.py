"""The training loop: that of Keras's `fit`, for a known number of steps, from any step on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf


def run_epochs(
    model: keras.Model,
    data: Iterable[Any],
    *,
    epochs: int,
    steps: int,
    first_epoch: int = 0,
    first_step: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = 0,
) -> None:
    """Trains a compiled model, `steps_per_execution` steps at a time.

    Keras's `fit` runs as many steps each time, also beyond the end of an epoch: of 20 steps, 32. On several devices it
    also takes the mean of their batches first, which fails for several workers, and can't begin within an epoch.

    Args:
        model: its weights, and its optimizer's, must have been built.
        data: infinite batches, as `model.train_step` takes them; those from the first step on.
        epochs: number of the last epoch.
        steps: of an epoch.
        first_epoch: the first one to train.
        first_step: of this epoch, likewise; a whole number of executions. The steps before it are passed over:
            callbacks see them, with the metrics as they are, and no data are taken.
        callbacks: Keras callbacks.
        verbose: as Keras's `fit` has it; what callbacks are told.
    """
    at_once = model.steps_per_execution
    followed = keras.callbacks.CallbackList(callbacks, model=model, verbose=verbose, epochs=epochs, steps=steps)
    take_steps = _several_steps(model)
    iterator = iter(data)
    try:
        model.stop_training = False
        logs = None
        followed.on_train_begin()
        for epoch in range(first_epoch, epochs):
            model.reset_metrics()
            followed.on_epoch_begin(epoch)
            for begin in range(0, steps, at_once):
                end = min(begin + at_once, steps)
                followed.on_train_batch_begin(begin)
                if epoch > first_epoch or end > first_step:
                    take_steps(iterator, tf.constant(end - begin))
                followed.on_train_batch_end(end - 1, model.get_metrics_result())
                if model.stop_training:
                    break
            logs = dict(model.get_metrics_result())
            followed.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        followed.on_train_end(logs)
    finally:
        del iterator  # not in the traceback of an error: it must be gone before the interpreter shuts down


def _several_steps(model: keras.Model) -> Callable[[Any, tf.Tensor], None]:
    """Takes so many steps, in one execution."""
    strategy = model.distribute_strategy

    def one_step(data: Any) -> None:
        strategy.run(model.train_step, args=(data,))  # what it returns is told by the metrics that it has updated

    if model.jit_compile:  # else a function within the loop's would only take time to be made
        one_step = tf.function(one_step, autograph=False, reduce_retracing=True, jit_compile=True)

    def several_steps(iterator: Any, count: tf.Tensor) -> None:
        """In a loop from the first on: TensorFlow optimises the whole step at every place that has it."""

        def one_more(done: tf.Tensor) -> tuple[tf.Tensor]:
            one_step(next(iterator))
            return (done + 1,)

        tf.while_loop(lambda done: done < count, one_more, (tf.constant(0),))

    return tf.function(several_steps, autograph=False, reduce_retracing=True)
