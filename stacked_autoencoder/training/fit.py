"""Training levels, one or several jointly, by Keras `fit`, and keeping the best weights they have ever had."""

from __future__ import annotations

from collections.abc import Sequence
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
from stacked_autoencoder.training.callback_options import Callbacks, close_files, go_on_writing
from stacked_autoencoder.training.callbacks import LevelProgress, RestoreBestWeights, TerminateOnNaN, Validate
from stacked_autoencoder.training.checkpoint_callback import CheckpointCallback
from stacked_autoencoder.training.loop import run_epochs
from stacked_autoencoder.training.model import ReconstructionModel
from stacked_autoencoder.training.validation import LossEvaluator
from stacked_autoencoder.utils.checks import SMALLEST, positive_int, positive_number
from stacked_autoencoder.utils.generators import releasing_frames

# Batches that decide which weights are best where there is no validation data: at most and at least. In between it is a
# quarter of an epoch's: forward, each costs a third of a step, so all 16 of 16 would make an epoch a third longer.
SAMPLE, LEAST_SAMPLE = 16, 4


# Python's share of `fit` at batch 16 and up falls below a tenth; more would only make the progress bar coarse.
STEPS_PER_EXECUTION = 16


@dataclass(frozen=True)
class FitOptions:
    """The arguments of `train` and `fine_tune` that each `fit` takes as they are.

    Attributes:
        batch_size: images per step.
        learning_rate: peak of a warm-up and cosine over all steps, or a schedule of the user's; `None` for the default.
        optimizer: one like it is used instead of Muon, as it is.
        steps_per_epoch: batches that make an epoch; all of the data by default.
        callbacks: Keras callbacks; `train` and `fine_tune` get them as users give them.
        verbose: as Keras's `fit` has it.
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
        """Makes them of what a user passed in.

        Raises:
            ValueError: an argument isn't what it should be; the message says which.
        """
        batch_size = positive_int("batch_size", batch_size)
        if steps_per_epoch is not None:
            steps_per_epoch = positive_int("steps_per_epoch", steps_per_epoch)
        if optimizer is not None and learning_rate is not None:
            raise ValueError(
                "An `optimizer` has its own learning rate: leave `learning_rate` out. "
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
    seen: Pairs,
    epochs: int,
    options: FitOptions,
    *,
    validation: Pairs | None,
    title: str,
    checkpoint: Path | None = None,
) -> keras.callbacks.History:
    """Fits levels, jointly if there are several, to restore what the first of them sees; keeps the best weights.

    Args:
        seen: by the first level, with what it should restore.
        epochs: passes over it.
        validation: decides which weights are best; without, a fixed sample of `seen` does.
        title: names the level in the progress bar.
        checkpoint: file that is written after each epoch, and gone on from if it is there.

    Returns:
        The Keras `History`, with the loss before the first step as `history.start_loss`.
    """
    is_spread = tf.distribute.has_strategy()
    batch_size, callbacks = options.batch_size, list(options.callbacks)
    steps = options.steps_per_epoch or seen.inputs.n_batches(batch_size)
    tie(levels)  # the user may have trained the encoder elsewhere
    model = ReconstructionModel(levels)
    evaluator = LossEvaluator(model, levels[0].input_shape)
    # One batch tells the scale of the steps; only without validation data do more have to decide what is kept.
    most = min(max(steps // 4, LEAST_SAMPLE), SAMPLE) if validation is None else 1
    sample = list(seen.batches(batch_size, shuffle=True, most=most))
    check_targets(levels[0], seen, sample)
    measure = partial(evaluator, sample) if validation is None else partial(evaluator.of_all, validation, batch_size)
    start_loss = measure()["loss"]
    if validation is not None:
        check_same_range(seen.inputs, validation.inputs)
    if options.optimizer is None:
        learning_rate = PEAK_LEARNING_RATE if options.learning_rate is None else options.learning_rate
        if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            learning_rate = WarmCosine(learning_rate, steps * epochs)
        is_plain = all(level.objective.is_plain for level in levels)
        inputs, targets = sample[0]
        # With what acts in training alone: a code of as many values as the image restores all but what is corrupted.
        total, count = squared_error(*without_masked(levels[0], targets, np.asarray(model(inputs))))
        inputs = levels[0].filled(inputs)
        optimizer = optimizer_for(levels, inputs, start_loss if is_plain else total / count, learning_rate, start_loss)
    else:
        # Another one has its slots for other weights.
        optimizer = type(options.optimizer).from_config(options.optimizer.get_config())
    if computes_in_float16(levels) and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # As `compile` does for models of this policy. Ours is float32 outside its layers, so that it doesn't.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    # Here, not in the traced step, where each slot's initial value would stay in memory for good.
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, steps_per_execution=min(STEPS_PER_EXECUTION, steps))
    best = RestoreBestWeights(measure if validation is None else None, start_loss)
    history = keras.callbacks.History()
    # The history comes after the user's callbacks, as in Keras's `fit`: they may add to what it keeps.
    followed = [TerminateOnNaN(title), best, LevelProgress(title), *callbacks, history]
    if validation is not None:
        followed.insert(0, Validate(measure, callbacks))
    done, step, is_over = 0, 0, False
    if checkpoint is not None:
        followed.append(keeper := CheckpointCallback(checkpoint, best, callbacks, epochs, steps))
        done, step, is_over = keeper.epoch, keeper.step, keeper.is_over
        if done:
            go_on_writing(callbacks)
    try:
        with seen.own_errors(), releasing_frames():
            data = seen.from_step(batch_size, done * steps + step)
            run_epochs(
                model,
                spread(data) if is_spread else data,
                epochs=done if is_over else epochs,
                steps=steps,
                first_epoch=done,
                first_step=step,
                callbacks=followed,
                verbose=options.verbose if is_chief() else 0,
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
        close_files(callbacks)
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
        copy_out(level.decoder, level.tied_layers())


def check_targets(level: Level, seen: Pairs, sample: Sequence[tuple[np.ndarray, np.ndarray]] = ()) -> None:
    """Refuses a loss of probabilities for values that can't be any, as far as is known.

    Args:
        sample: batches of what the level sees, besides what has been read before.
    """
    if not level.objective.is_within_unit_interval:
        return
    source = seen.inputs if seen.targets is None else seen.targets
    low = min([source.low, *(np.fmin.reduce(targets, axis=None) for _, targets in sample)])
    high = max([source.high, *(np.fmax.reduce(targets, axis=None) for _, targets in sample)])
    if low < 0 or high > 1:
        raise ValueError(
            "This level's `loss` is one of probabilities, so what it restores must lie in [0, 1]. For `uint8` images "
            "make the Autoencoder with `value_range=(0, 1)`; scale floats from [-1, 1] with `(images + 1) / 2`; or "
            f'take `loss="mse"`. Received: values from {low:g} to {high:g}'
        )


def optimizer_for(
    levels: Sequence[Level], inputs: np.ndarray, error: float, learning_rate: LearningRate, loss: float | None = None
) -> LevelMuon:
    """The optimizer of levels, chained, before the first step.

    Args:
        inputs: what the first of them sees, one batch.
        error: mean squared error at which they stand.
        learning_rate: a number or a schedule.
        loss: at which they stand, `error` by default.
    """
    unit = max(error if loss is None else loss, SMALLEST)
    return LevelMuon(learning_rate, scales=step_scales(levels, inputs, max(error, SMALLEST)), unit=unit)


def step_scales(levels: Sequence[Level], inputs: np.ndarray, error: float) -> dict[int, float]:
    """Learning rates of the layers that write an output, in units of what is left to correct.

    Adam moves every weight by about the learning rate, whatever the loss. Near a start whose error is a hundredth of
    the signal, such steps would shake the output by more than that error; scaled by it they don't, and the residual
    paths learn at full speed.
    """
    scales = {}
    relative = float(np.sqrt(error)) / max(float(inputs.std()), SMALLEST)
    for level in levels:
        encodings = level.encode(inputs)
        sides = ((level.encoder, encodings), (level.decoder, inputs))
        for (model, outputs), names in zip(sides, level.output_layers, strict=True):
            for layer in map(model.get_layer, names):
                scales |= {id(variable): relative * float(outputs.std()) for variable in layer.trainable_variables}
        inputs = encodings
    return scales
