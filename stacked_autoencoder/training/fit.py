"""Training one level, or several jointly, and keeping the weights with the lowest loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.pairs import Pairs
from stacked_autoencoder.data.source import check_same_range
from stacked_autoencoder.distribution import is_chief, spread
from stacked_autoencoder.inference.evaluation import without_masked
from stacked_autoencoder.layers.tied import copy_out
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.metrics import squared_error
from stacked_autoencoder.optimizers import PEAK_LEARNING_RATE, LearningRate, LevelMuon, WarmCosine, fixed_rate
from stacked_autoencoder.training.callback_options import Callbacks, close_files, keep_written_rows
from stacked_autoencoder.training.callbacks import LevelProgress, RestoreBestWeights, TerminateOnNaN, Validate
from stacked_autoencoder.training.checkpoint_callback import CheckpointCallback
from stacked_autoencoder.training.loop import run_epochs
from stacked_autoencoder.training.model import ReconstructionModel
from stacked_autoencoder.training.report import FitReport
from stacked_autoencoder.training.units import check_units, scales_and_units
from stacked_autoencoder.training.validation import LossEvaluator
from stacked_autoencoder.utils.checks import SMALLEST, positive_int, positive_number
from stacked_autoencoder.utils.generators import releasing_frames
from stacked_autoencoder.utils.signals import deferred_signals

# Without validation data, a sample of the training data selects the weights: a quarter of an epoch's batches, within
# these limits. Each costs a third of a training step, so that an epoch takes about a tenth longer.
SAMPLE, LEAST_SAMPLE = 16, 4


# Enough that Python takes less than a tenth of the time; with more, the progress bar would move in large steps.
STEPS_PER_EXECUTION = 16


@dataclass(frozen=True)
class FitOptions:
    """The arguments of `train` and `fine_tune` that every `fit` needs.

    Attributes:
        batch_size: images per step.
        learning_rate: peak of a warm-up and cosine decay over all steps, or a Keras schedule; `None` for the default.
        optimizer: used instead of Muon; each `fit` makes a new optimizer with the same configuration.
        steps_per_epoch: batches per epoch; by default all of the data.
        callbacks: Keras callbacks, in any form that `train` and `fine_tune` accept.
        verbose: as in Keras's `fit`.
    """

    batch_size: int = 32
    learning_rate: LearningRate = None
    optimizer: keras.optimizers.Optimizer | None = None
    steps_per_epoch: int | None = None
    callbacks: Callbacks = ()
    verbose: int | str = 1

    @classmethod
    def checked(
        cls,
        batch_size: int,
        learning_rate: LearningRate,
        optimizer: str | keras.optimizers.Optimizer | None,
        steps_per_epoch: int | None,
        callbacks: Callbacks,
        verbose: int | str,
    ) -> FitOptions:
        """Checks the arguments that a user passed.

        Raises:
            ValueError: an argument is invalid.
        """
        batch_size = positive_int("batch_size", batch_size)
        if steps_per_epoch is not None:
            steps_per_epoch = positive_int("steps_per_epoch", steps_per_epoch)
        if optimizer is not None and learning_rate is not None:
            raise ValueError(
                "`learning_rate` can't be combined with `optimizer`, which has a rate already. Remove one of them. "
                f"Received: optimizer={optimizer!r}, learning_rate={learning_rate!r}"
            )
        if learning_rate is not None and not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            learning_rate = positive_number("learning_rate", learning_rate)
        if optimizer is not None:
            optimizer = keras.optimizers.get(optimizer)
            if (rate := fixed_rate(optimizer)) is not None:
                positive_number("optimizer.learning_rate", rate)
        return cls(batch_size, learning_rate, optimizer, steps_per_epoch, callbacks, verbose)


def fit(
    levels: Sequence[Level],
    data: Pairs,
    epochs: int,
    options: FitOptions,
    *,
    validation: Pairs | None,
    report: FitReport,
    checkpoint: Path | None = None,
    is_new: bool = False,
) -> keras.callbacks.History:
    """Trains levels to reconstruct the input of the first one, jointly if there are several; keeps the best weights.

    Args:
        levels: neighbouring levels, the lowest first.
        data: inputs of the first level, and its targets.
        epochs: passes over the data.
        options: the other arguments of training.
        validation: selects the weights; without it, a fixed sample of `data` does.
        report: prints progress.
        checkpoint: file that is written after each epoch. If it exists, training continues from it.
        is_new: whether this is a single level that has just been initialised, possibly in an interrupted call.

    Returns:
        The Keras `History`. It also has `start_loss`, the loss before the first step, and `best_loss`, the loss of the
        weights that were kept.
    """
    is_spread = tf.distribute.has_strategy()
    batch_size, callbacks = options.batch_size, list(options.callbacks)
    steps = options.steps_per_epoch or data.inputs.n_batches(batch_size)
    tie(levels)  # the user may have trained the encoder elsewhere
    model = ReconstructionModel(levels)
    evaluator = LossEvaluator(model, levels[0].input_shape)
    # The optimizer needs one batch, to scale its steps. Without validation data, more batches select the weights.
    most = min(max(steps // 4, LEAST_SAMPLE), SAMPLE) if validation is None else 1
    sample = list(data.batches(batch_size, shuffle=True, most=most))
    check_targets(levels[0], data, sample)
    check_units(levels[0], [inputs for inputs, _ in sample])
    measure = partial(evaluator, sample) if validation is None else partial(evaluator.of_all, validation, batch_size)
    if is_new:
        start_loss, pca_loss = _choose_start(levels[0], measure)
    else:
        start_loss = pca_loss = measure()["loss"]
    if validation is not None:
        check_same_range(data.inputs, validation.inputs)
    report.measured(start_loss, pca_loss)
    if levels[-1].objective.nested:
        model.weigh_prefixes(*map(tf.convert_to_tensor, sample[0]))
    if options.optimizer is None:
        learning_rate = PEAK_LEARNING_RATE if options.learning_rate is None else options.learning_rate
        if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            learning_rate = WarmCosine(learning_rate, steps * epochs)
        is_plain = all(level.objective.is_plain for level in levels)
        inputs, targets = sample[0]
        # `model` includes corruption and noise. Without them, an encoding as large as the image would have no error.
        total, count = squared_error(*without_masked(levels[0], targets, np.asarray(model(inputs))))
        inputs = levels[0].filled(inputs)
        optimizer = optimizer_for(levels, inputs, start_loss if is_plain else total / count, learning_rate, start_loss)
    else:
        # A new one for each level, since an optimizer belongs to the weights that it was built with.
        optimizer = type(options.optimizer).from_config(options.optimizer.get_config())
    if computes_in_float16(levels) and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # `compile` does this only for models whose own policy is float16, and `ReconstructionModel` is float32.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    # Outside of the traced step, whose graph would keep the initial value of each slot in memory.
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, steps_per_execution=min(STEPS_PER_EXECUTION, steps))
    best = RestoreBestWeights(measure if validation is None else None, start_loss)
    history = keras.callbacks.History()
    first_epoch, first_step, is_over, checkpoints = 0, 0, False, []
    if checkpoint is not None:
        checkpoints = [CheckpointCallback(checkpoint, best, callbacks, epochs, steps)]
        first_epoch, first_step, is_over = checkpoints[0].epoch, checkpoints[0].step, checkpoints[0].is_over
        if first_epoch:
            keep_written_rows(callbacks)
        if (first_epoch or first_step) and not is_over and first_epoch < epochs:
            report.resumed(first_epoch, first_step)
    progress = LevelProgress(report.title, report.time_left, first_step)
    # The history follows the user's callbacks, as in Keras's `fit`, since they may add to the logs that it keeps.
    all_callbacks = [TerminateOnNaN(report.title), best, progress, *callbacks, history, *checkpoints]
    if validation is not None:
        all_callbacks.insert(0, Validate(measure, callbacks))
    try:
        with data.own_errors(), releasing_frames(), deferred_signals() as handle_signals:
            between_steps = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: handle_signals())
            batches = data.from_step(batch_size, first_epoch * steps + first_step)
            run_epochs(
                model,
                spread(batches) if is_spread else batches,
                epochs=first_epoch if is_over else epochs,
                steps=steps,
                first_epoch=first_epoch,
                first_step=first_step,
                callbacks=[between_steps, *all_callbacks],
                verbose=options.verbose if is_chief() else 0,
            )
    except BaseException as error:
        best.restore()
        if not isinstance(error, KeyboardInterrupt):
            raise
        advice = "call `train` to continue" if checkpoint is None else "repeat the call to continue from the checkpoint"
        raise KeyboardInterrupt(
            f"{report.title} was interrupted. Its best weights so far were restored. Call `save` to keep them, "
            f"or {advice}."
        ) from None
    finally:
        close_files(callbacks)
        tie(levels)
    history.start_loss, history.best_loss = start_loss, float(best.best)
    report.finished(history)
    return history


def _choose_start(level: Level, measure: Callable[[], dict[str, float]]) -> tuple[float, float]:
    """Sets the decoder of a new level back to that of PCA, if this lowers the loss.

    Returns:
        The loss before the first step, and the loss with PCA's decoder. They are the same for most kinds of levels.
    """
    loss, layer = measure()["loss"], level.neighbour_layer
    if layer is None or not any(map(np.any, layer.get_weights())):
        return loss, loss
    weights = layer.get_weights()
    layer.set_weights([np.zeros_like(weight) for weight in weights])
    pca_loss = measure()["loss"]
    if not loss < pca_loss:
        return pca_loss, pca_loss
    layer.set_weights(weights)
    return loss, pca_loss


def computes_in_float16(levels: Sequence[Level]) -> bool:
    """Whether any layer computes in float16, in which small gradients become 0."""
    models = [model for level in levels for model in level.models().values()]
    return any(layer.compute_dtype == "float16" for model in models for layer in model.layers)


def tie(levels: Sequence[Level]) -> None:
    """Copies the kernels of tied encoders to their decoders, which don't train kernels of their own."""
    for level in levels:
        copy_out(level.decoder, level.tied_layers())


def check_targets(level: Level, data: Pairs, sample: Sequence[tuple[np.ndarray, np.ndarray]] = ()) -> None:
    """Checks that targets of a loss for probabilities lie in [0, 1], as far as they have been read.

    Args:
        level: the level that is trained.
        data: its inputs and targets.
        sample: batches of both that were read now.

    Raises:
        ValueError: a value lies outside of [0, 1].
    """
    if not level.objective.is_within_unit_interval:
        return
    source = data.inputs if data.targets is None else data.targets
    low = min([source.low, *(np.fmin.reduce(targets, axis=None) for _, targets in sample)])
    high = max([source.high, *(np.fmax.reduce(targets, axis=None) for _, targets in sample)])
    if low < 0 or high > 1:
        raise ValueError(
            "The `loss` of this level compares probabilities, so its targets must lie in [0, 1]. Pass "
            "`value_range=(0, 1)` to the Autoencoder for `uint8` images, scale floats from [-1, 1] with "
            f'`(images + 1) / 2`, or use `loss="mse"`. Received: values from {low:g} to {high:g}'
        )


def optimizer_for(
    levels: Sequence[Level], inputs: np.ndarray, error: float, learning_rate: LearningRate, loss: float | None = None
) -> LevelMuon:
    """Returns the default optimizer for levels that are trained jointly.

    Args:
        levels: neighbouring levels, the lowest first.
        inputs: one batch of inputs of the first level.
        error: mean squared error of the levels before the first step.
        learning_rate: a number or a schedule.
        loss: loss of the levels before the first step; by default `error`.
    """
    start_loss = max(error if loss is None else loss, SMALLEST)
    scales, units = scales_and_units(levels, inputs, max(error, SMALLEST))
    return LevelMuon(learning_rate, scales=scales, start_loss=start_loss, units=units)
