"""The training loop: as in Keras's `fit`, for a known number of steps, and able to start at any step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from stacked_autoencoder.utils.tracing import graph_function


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

    It replaces Keras's `fit`, which always executes that many steps, even beyond the end of an epoch (32 steps instead
    of 20). Keras's `fit` also fails with several workers, and can't start within an epoch.

    Args:
        model: its weights, and those of its optimizer, must be built.
        data: infinite batches for `model.train_step`, from the first step on.
        epochs: number of the last epoch.
        steps: steps per epoch.
        first_epoch: index of the first epoch to train.
        first_step: first step of that epoch to train, a multiple of `steps_per_execution`. For the steps before it,
            callbacks are called with the metrics as they are, and no data are read.
        callbacks: Keras callbacks.
        verbose: as in Keras's `fit`; passed on to the callbacks.
    """
    at_once = model.steps_per_execution
    all_callbacks = keras.callbacks.CallbackList(callbacks, model=model, verbose=verbose, epochs=epochs, steps=steps)
    take_steps = _several_steps(model)
    iterator = iter(data)
    try:
        model.stop_training = False
        logs = None
        all_callbacks.on_train_begin()
        for epoch in range(first_epoch, epochs):
            model.reset_metrics()
            all_callbacks.on_epoch_begin(epoch)
            for begin in range(0, steps, at_once):
                end = min(begin + at_once, steps)
                all_callbacks.on_train_batch_begin(begin)
                if epoch > first_epoch or end > first_step:
                    take_steps(iterator, tf.constant(end - begin))
                all_callbacks.on_train_batch_end(end - 1, model.get_metrics_result())
                if model.stop_training:
                    break
            logs = dict(model.get_metrics_result())
            all_callbacks.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        all_callbacks.on_train_end(logs)
    finally:
        del iterator  # an error's traceback must not keep it until the interpreter shuts down


def _several_steps(model: keras.Model) -> Callable[[Any, tf.Tensor], None]:
    """Returns a function that takes a number of steps in one execution."""
    strategy = model.distribute_strategy

    def one_step(data: Any) -> None:
        strategy.run(model.train_step, args=(data,))  # the metrics of the model hold the result

    if model.jit_compile:  # otherwise a nested function would only take time to trace
        one_step = graph_function(one_step, autograph=False, jit_compile=True)

    def several_steps(iterator: Any, count: tf.Tensor) -> None:
        """Takes all steps in a loop, so that the graph contains the step once and TensorFlow optimises it once."""

        def one_more(done: tf.Tensor) -> tuple[tf.Tensor]:
            one_step(next(iterator))
            return (done + 1,)

        tf.while_loop(lambda done: done < count, one_more, (tf.constant(0),))

    return graph_function(several_steps, autograph=False)
