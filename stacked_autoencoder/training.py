"""Training levels, one or several jointly, by Keras `fit`, and keeping the best weights they have ever had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.level import Level, chain, compiled
from stacked_autoencoder.metrics import Mean, squared_error
from stacked_autoencoder.optimizer import PEAK_LEARNING_RATE, LearningRate, optimizer_for, warm_cosine
from stacked_autoencoder.patches import patch_by_patch
from stacked_autoencoder.sources.base import Source

SAMPLE = 16  # batches that decide which weights are best where there is no validation data
# Python's share of `fit` at batch 16 and up falls below a tenth; more would only make the progress bar coarse.
STEPS_PER_EXECUTION = 16


class Reconstruction(keras.Model):
    """What `train` fits: `decoder(encoder(x))` against `x`, so that no second copy of the data is a target."""

    def __init__(self, encoder: keras.Model, decoder: keras.Model) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.decoder(self.encoder(inputs, training=training), training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor:
        return ops.mean(ops.square(x - y_pred))


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


class KeepBest(keras.callbacks.Callback):
    """Puts the best weights back when training ends: those of the start if no epoch did better.

    Args:
        loss_of: measures the model as it is; `None` to take the `val_loss` that `fit` measures anyway.
        start_loss: the loss before the first step.
    """

    def __init__(self, loss_of: Callable[[], float] | None, start_loss: float) -> None:
        super().__init__()
        self.loss_of = loss_of
        self.best = self.last = start_loss

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.weights = self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.last = logs["val_loss"] if self.loss_of is None else self.loss_of()
        if self.last < self.best:  # never true for NaN
            weights = self.model.get_weights()
            # A NaN pixel can leave the loss finite and a kernel not.
            if all(np.isfinite(weight).all() for weight in weights):
                self.best, self.weights = self.last, weights

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.last != self.best:
            self.model.set_weights(self.weights)


def loss_over(restore: Callable[[tf.Tensor], tf.Tensor], batches: Iterable[np.ndarray]) -> float:
    """Mean squared error of a reconstruction over all values of `batches`."""
    mean = Mean()
    for batch in batches:
        mean.add(*squared_error(batch, restore(tf.constant(batch)).numpy()))
    return mean.value


def fit(
    levels: Sequence[Level],
    source: Source,
    *,
    validation: Source | None,
    title: str,
    epochs: int,
    batch_size: int,
    steps: int | None,
    learning_rate: LearningRate,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: int | str,
) -> keras.callbacks.History:
    """Fits levels, jointly if there are several, to restore what the first of them sees; keeps the best weights.

    Args:
        source: what the first level sees.
        validation: decides which weights are best; without, a fixed sample of `source` does.
        title: names the level in the progress bar.
        steps: batches per epoch; all of `source` by default.
        learning_rate: peak of a warm-up and cosine over all steps, or a schedule of the user's.

    Returns:
        The Keras `History`, with the loss before the first step as `history.start_loss`.
    """
    encoder = chain([level.encoder for level in levels])
    decoder = patch_by_patch(chain([level.decoder for level in reversed(levels)]))
    steps = steps or source.n_batches(batch_size)
    restore = compiled(chain([encoder, decoder]))
    # One batch tells the scale of the steps; only without validation data do more have to decide what is kept.
    sample = list(source.batches(batch_size, shuffle=True, most=SAMPLE if validation is None else 1))
    if validation is None:
        loss_of = partial(loss_over, restore, sample)
        start_loss = loss_of()
    else:
        loss_of, start_loss = None, loss_over(restore, validation.batches(batch_size))
        # Keras would warn of a length that it doesn't know. After the loss of all of it, it is known here.
        length = tf.data.experimental.assert_cardinality(validation.n_batches(batch_size))
    if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        learning_rate = warm_cosine(PEAK_LEARNING_RATE if learning_rate is None else learning_rate, steps * epochs)
    optimizer = optimizer_for(levels, sample[0], start_loss, learning_rate)
    model = Reconstruction(encoder, decoder)
    model.compile(optimizer=optimizer, steps_per_execution=min(STEPS_PER_EXECUTION, steps))
    with source.own_errors():
        history = model.fit(
            source.dataset(batch_size, shuffle=True).repeat(),
            epochs=epochs,
            steps_per_epoch=steps,
            validation_data=None if validation is None else validation.dataset(batch_size).apply(length),
            callbacks=[KeepBest(loss_of, start_loss), LevelProgress(title), *callbacks],
            shuffle=False,  # the source has shuffled
            verbose=verbose,
        )
    history.start_loss = start_loss
    return history
