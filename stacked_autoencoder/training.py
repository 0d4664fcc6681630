"""Training levels, one or several jointly, by Keras `fit`, and keeping the best weights they have ever had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.budget import counted, squared_error
from stacked_autoencoder.distribute import spread
from stacked_autoencoder.keep_checkpoints import KeepCheckpoints
from stacked_autoencoder.level import Level
from stacked_autoencoder.optimizer import PEAK_LEARNING_RATE, LearningRate, WarmCosine, optimizer_for
from stacked_autoencoder.reconstruction import Reconstruction
from stacked_autoencoder.sources.pairs import Pairs
from stacked_autoencoder.sources.released import releasing_frames
from stacked_autoencoder.tied import copy_out
from stacked_autoencoder.validation import MeansOver, Validate
from stacked_autoencoder.workers import is_chief

# Batches that decide which weights are best where there is no validation data: at most and at least. In between it is a
# quarter of an epoch's: forward, each costs a third of a step, so all 16 of 16 would make an epoch a third longer.
SAMPLE, LEAST_SAMPLE = 16, 4
# Python's share of `fit` at batch 16 and up falls below a tenth; more would only make the progress bar coarse.
STEPS_PER_EXECUTION = 16


class LevelProgress(keras.callbacks.ProgbarLogger):
    """Keras's progress bar under a line that names the level."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.verbose:
            print(f"{self.title}, epoch {epoch + 1}/{self.epochs}")
        self._reset_progbar()
        self._maybe_init_progbar()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_end(min(batch, self.target - 1), logs)  # Keras counts beyond the epoch


class KeepBest(keras.callbacks.Callback):
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


class StopAtNaN(keras.callbacks.Callback):
    """Ends training with an error when the loss isn't finite any more: it won't be again."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch, self.before = epoch, -1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not np.isfinite(logs["loss"]):
            first, last = self.before + 2, min(batch + 1, self.params["steps"])
            raise FloatingPointError(
                f"{self.title}: the loss isn't a finite number any more, in epoch {self.epoch + 1}, "
                f"{f'batch {last}' if first >= last else f'one of the batches {first} to {last}'}. The best weights "
                "before that are in place. Look for values in these batches that aren't like the others, or lower "
                f"`learning_rate`. Received: loss={logs['loss']}"
            )
        self.before = batch


def fit(
    levels: Sequence[Level],
    seen: Pairs,
    *,
    validation: Pairs | None,
    title: str,
    epochs: int,
    batch_size: int,
    steps: int | None,
    learning_rate: LearningRate,
    optimizer: keras.optimizers.Optimizer | None,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: int | str,
    checkpoint: Path | None = None,
) -> keras.callbacks.History:
    """Fits levels, jointly if there are several, to restore what the first of them sees; keeps the best weights.

    Args:
        seen: by the first level, with what it should restore.
        validation: decides which weights are best; without, a fixed sample of `seen` does.
        title: names the level in the progress bar.
        steps: batches per epoch; all of `seen` by default.
        learning_rate: peak of a warm-up and cosine over all steps, or a schedule of the user's.
        optimizer: one like it is used instead of Muon, as it is.
        checkpoint: file that is written after each epoch, and gone on from if it is there.

    Returns:
        The Keras `History`, with the loss before the first step as `history.start_loss`.
    """
    is_spread = tf.distribute.has_strategy()
    steps = steps or seen.inputs.n_batches(batch_size)
    tie(levels)  # the user may have trained the encoder elsewhere
    model = Reconstruction(levels)
    means_over = MeansOver(model, levels[0].input_shape)
    # One batch tells the scale of the steps; only without validation data do more have to decide what is kept.
    most = min(max(steps // 4, LEAST_SAMPLE), SAMPLE) if validation is None else 1
    sample = list(seen.batches(batch_size, shuffle=True, most=most))
    check_targets(levels[0], seen, sample)
    measure = partial(means_over, sample) if validation is None else partial(means_over.of_all, validation, batch_size)
    start_loss = measure()["loss"]
    if optimizer is None:
        if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            learning_rate = WarmCosine(PEAK_LEARNING_RATE if learning_rate is None else learning_rate, steps * epochs)
        is_plain = all(level.objective.is_plain for level in levels)
        inputs, targets = sample[0]
        # With what acts in training alone: a code of as many values as the image restores all but what is corrupted.
        total, count = squared_error(*counted(levels[0], targets, np.asarray(model(inputs))))
        optimizer = optimizer_for(levels, inputs, start_loss if is_plain else total / count, learning_rate, start_loss)
    else:
        optimizer = type(optimizer).from_config(optimizer.get_config())  # another one has its slots for other weights
    if computes_in_float16(levels) and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # As `compile` does for models of this policy. Ours is float32 outside its layers, so that it doesn't.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    # Here, not in the traced step, where each slot's initial value would stay in memory for good.
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, steps_per_execution=min(STEPS_PER_EXECUTION, steps))
    best = KeepBest(measure if validation is None else None, start_loss)
    followed = [StopAtNaN(title), keras.callbacks.History(), best, LevelProgress(title), *callbacks]
    if validation is not None:
        followed.insert(0, Validate(measure, callbacks))
    done, step, is_over = 0, 0, False
    if checkpoint is not None:
        followed.append(keeper := KeepCheckpoints(checkpoint, best, callbacks, epochs, steps))
        done, step, is_over = keeper.epoch, keeper.step, keeper.is_over
    try:
        with seen.inputs.own_errors(), releasing_frames():
            data = seen.from_step(batch_size, done * steps + step)
            history = model.fit(
                spread(data) if is_spread else data,
                initial_epoch=done,
                epochs=done if is_over else epochs,
                steps_per_epoch=steps,
                callbacks=followed,
                shuffle=False,  # the source has shuffled
                verbose=verbose if is_chief() else 0,
            )
    except BaseException as error:
        best.put_back()
        if not isinstance(error, KeyboardInterrupt):
            raise
        how = "" if checkpoint is None else ": the same call goes on after the last checkpoint"
        raise KeyboardInterrupt(
            f"{title} was interrupted. Its best weights so far are in place; `save` keeps them, `train` goes on{how}."
        ) from None
    finally:
        tie(levels)
    history.start_loss = start_loss
    return history


def computes_in_float16(levels: Sequence[Level]) -> bool:
    """Whether gradients may be too small for the numbers that they are computed in."""
    models = [model for level in levels for model in level.models().values()]
    return any(layer.compute_dtype == "float16" for model in models for layer in model.layers)


def tie(levels: Sequence[Level]) -> None:
    """Makes the decoders' own kernels those of the encoders, where they are tied."""
    for level in levels:
        copy_out(level.decoder, level.ties())


def check_targets(level: Level, seen: Pairs, sample: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Refuses a loss of probabilities for values that can't be any."""
    if not level.objective.is_within_unit_interval:
        return
    source = seen.inputs if seen.targets is None else seen.targets
    low = min(source.low, *(targets.min() for _, targets in sample))
    high = max(source.high, *(targets.max() for _, targets in sample))
    if low < 0 or high > 1:
        raise ValueError(
            "This level's `loss` is one of probabilities, so what it restores must lie in [0, 1]. `uint8` images are "
            'scaled to [-1, 1]: pass `images / 255.0` instead, or take `loss="mse"`. Received: values from '
            f"{low:g} to {high:g}"
        )
