"""Training levels, one or several jointly, by Keras `fit`, and keeping the best weights they have ever had."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.level import Level, chain, compiled
from stacked_autoencoder.metrics import Mean, squared_error
from stacked_autoencoder.sources.base import Source

PEAK_LEARNING_RATE = 1e-2
WARM_UP = 0.05  # share of the steps
# Of Muon's kernels (Liu et al. 2025, section 2.2). Each step moves them by as much, so without it they grow for as long
# as training goes on: on the encodings of Fashion-MNIST, after 5 epochs, 0.0632 without it, 0.0589 with 0.1 and with 0.3.
WEIGHT_DECAY = 0.1
CLIP = 1.0  # global gradient norm, in units of the loss before the first step
NEWTON_SCHULZ_STEPS = 3  # of Muon: near enough to orthogonal, at little more than half the cost of the usual 5
SMALLEST = 1e-12  # a loss of zero still needs a scale
SAMPLE = 16  # batches that decide which weights are best where there is no validation data
# Python's share of `fit` at batch 16 and up falls below a tenth; more would only make the progress bar coarse.
STEPS_PER_EXECUTION = 16

LearningRate = float | keras.optimizers.schedules.LearningRateSchedule | None


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


class LevelMuon(keras.optimizers.Muon):
    """Muon (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982) also for convolutions, Adam for a level's ends.

    Muon moves a weight matrix by the orthogonal matrix nearest to its momentum, so that rare directions move as far as
    common ones. Keras's leaves convolutions to Adam; here a kernel is the matrix from all that it sees to its filters.

    Args:
        learning_rate: a number or a schedule.
        scales: `id` of a variable that Adam moves → factor on its learning rate. Biases are Adam's as well.
        unit: the loss before the first step. Losses range from 1e-5 to 1, and what is compared with a gradient must
            follow, so that one recipe fits all levels.
    """

    def __init__(self, learning_rate: LearningRate, *, scales: dict[int, float], unit: float) -> None:
        super().__init__(
            learning_rate,
            adam_weight_decay=None,
            weight_decay=WEIGHT_DECAY,
            epsilon=1e-7 * unit,
            # Without clipping one setting in a few diverges, since nothing in a level normalises.
            global_clipnorm=CLIP * unit,
            ns_steps=NEWTON_SCHULZ_STEPS,
        )
        self.scales = scales

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        return len(variable.shape) < 2 or id(variable) in self.scales

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        ours = self._trainable_variables[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * self.scales.get(id(ours), 1.0))

    def zeropower_via_newtonschulz5(self, x: tf.Tensor, steps: int) -> tf.Tensor:
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        matrix = matrix / (ops.norm(matrix) + SMALLEST)  # Keras adds 1e-7, more than some gradients
        return ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x: tf.Tensor) -> tf.Tensor:
        """Makes the root mean square of an update about that of Adam's, whatever the shape of the kernel."""
        return x * self.rms_rate * math.sqrt(max(math.prod(x.shape[:-1]), x.shape[-1]))


def step_scales(levels: Sequence[Level], inputs: np.ndarray, loss: float) -> dict[int, float]:
    """Learning rates of the layers that write an output, in units of what is left to correct.

    Adam moves every weight by about the learning rate, whatever the loss. Near a start whose error is a hundredth of
    the signal, such steps would shake the output by more than that error; scaled by it they don't, and the residual
    paths learn at full speed.
    """
    scales = {}
    relative = float(np.sqrt(loss)) / max(float(inputs.std()), SMALLEST)
    for level in levels:
        encodings = level.encode(inputs)
        for model, outputs in ((level.encoder, encodings), (level.decoder, inputs)):
            for layer in (model.get_layer("linear"), model.get_layer("residual")):
                scales |= {id(variable): relative * float(outputs.std()) for variable in layer.trainable_variables}
        inputs = encodings
    return scales


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


def warm_cosine(peak: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A linear warm-up to `peak` and a cosine to zero, over `steps` steps."""
    warm_up = max(1, math.ceil(WARM_UP * steps))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=peak, warmup_steps=warm_up
    )


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
    decoder = chain([level.decoder for level in reversed(levels)])
    steps = steps or source.n_batches(batch_size)
    restore = compiled(chain([encoder, decoder]))
    # One batch tells the scale of the steps; only without validation data do more have to decide what is kept.
    sample = list(source.batches(batch_size, shuffle=True, most=SAMPLE if validation is None else 1))
    if validation is None:
        loss_of = partial(loss_over, restore, sample)
        start_loss = loss_of()
    else:
        loss_of, start_loss = None, loss_over(restore, validation.batches(batch_size))
    if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        learning_rate = warm_cosine(PEAK_LEARNING_RATE if learning_rate is None else learning_rate, steps * epochs)
    unit = max(start_loss, SMALLEST)
    optimizer = LevelMuon(learning_rate, scales=step_scales(levels, sample[0], unit), unit=unit)
    model = Reconstruction(encoder, decoder)
    model.compile(optimizer=optimizer, steps_per_execution=min(STEPS_PER_EXECUTION, steps))
    with source.own_errors():
        history = model.fit(
            source.dataset(batch_size, shuffle=True).repeat(),
            epochs=epochs,
            steps_per_epoch=steps,
            validation_data=None if validation is None else validation.dataset(batch_size),
            callbacks=[KeepBest(loss_of, start_loss), LevelProgress(title), *callbacks],
            shuffle=False,  # the source has shuffled
            verbose=verbose,
        )
    history.start_loss = start_loss
    return history
