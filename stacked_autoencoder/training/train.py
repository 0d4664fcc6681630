"""Training a stack, level by level or all levels jointly, from checkpoints where there are any."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import keras
import tensorflow as tf

from stacked_autoencoder.data.adapters import Images, as_pairs
from stacked_autoencoder.data.pairs import Pairs
from stacked_autoencoder.data.source import Source
from stacked_autoencoder.distribution import of_chief
from stacked_autoencoder.inference.cache import EncodingCache
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.optimizers import PEAK_LEARNING_RATE
from stacked_autoencoder.training.callback_options import (
    ALL_LEVELS,
    CallbacksOfLevels,
    callbacks_of_levels,
    check_callbacks,
    joint_callbacks,
    with_separate_paths,
)
from stacked_autoencoder.training.checkpoints import ALL, Checkpoints, described
from stacked_autoencoder.training.distribute import change
from stacked_autoencoder.training.fit import SAMPLE, FitOptions, fit
from stacked_autoencoder.training.greedy import steps_needed, train_greedily
from stacked_autoencoder.training.inputs import TrainingData, training_data_of
from stacked_autoencoder.training.report import TrainingReport
from stacked_autoencoder.utils.checks import is_real, positive_int, positive_ints
from stacked_autoencoder.utils.files import check_writable, expanded


def train(
    stack: Stack,
    images: Images,
    epochs: int | Sequence[int],
    options: FitOptions,
    *,
    targets: Images | None = None,
    validation_data: Images | tuple[Images, Images] | None = None,
    levels: Sequence[int] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    memory_budget: int | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
) -> list[keras.callbacks.History]:
    """Trains level by level; `Autoencoder.train` documents the arguments."""
    each = positive_ints("epochs", epochs, least=0)
    if memory_budget is not None:
        memory_budget = positive_int("memory_budget", memory_budget, least=0)
    if levels is not None:
        levels = stack.indices_of(levels)
    validation = _validation_data_of(stack, validation_data, targets)
    training_data = training_data_of(stack, images, targets)
    chosen = stack.indices_of(range(training_data.level, len(stack.levels)) if levels is None else levels)
    _check_trainable(stack, chosen, {"images": training_data, "validation_data": validation})
    if is_real(epochs):
        each *= len(chosen)
    if len(each) != len(chosen):
        raise ValueError(
            f"`epochs` must be one number, or a sequence of {len(chosen)}, one for each trained level. "
            f"Received: epochs={epochs!r}"
        )
    epochs_of = dict(zip(chosen, each, strict=True))
    _check_not_frozen(stack, chosen)
    callbacks = callbacks_of_levels(options.callbacks, chosen, len(stack.levels))
    check_callbacks(callbacks, options.optimizer, has_validation=validation is not None)
    if cache_dir is not None:
        _check_writable(cache_dir, "cache_dir")
    checkpoints = _checkpoints_of(
        stack,
        "train",
        checkpoint_dir,
        {"images": training_data.pairs, "validation_data": None if validation is None else validation.pairs},
        epochs_of,
        options,
        callbacks,
    )
    with EncodingCache(None if cache_dir is None else expanded(cache_dir), memory_budget) as cache:
        return train_greedily(
            stack,
            epochs_of,
            training_data,
            validation,
            options,
            callbacks=with_separate_paths(callbacks),
            cache=cache,
            checkpoints=checkpoints,
            report=TrainingReport(
                stack,
                training_data.pairs,
                None if validation is None else validation.pairs,
                epochs_of,
                options.verbose,
                batch_size=options.batch_size,
                first_level=training_data.level,
            ),
        )


def fine_tune(
    stack: Stack,
    images: Images,
    epochs: int,
    options: FitOptions,
    *,
    targets: Images | None = None,
    validation_data: Images | tuple[Images, Images] | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
) -> keras.callbacks.History:
    """Trains all levels jointly; `Autoencoder.fine_tune` documents the arguments."""
    epochs = positive_int("epochs", epochs)
    callbacks = {ALL_LEVELS: joint_callbacks(options.callbacks)}
    check_callbacks(callbacks, options.optimizer, has_validation=validation_data is not None)
    unstarted = [index for index, level in enumerate(stack.levels) if not level.started]
    if unstarted:
        raise ValueError(
            f"`fine_tune` needs trained levels, and level {unstarted[0]} has never been trained. Call `train` first; "
            "`train(images, epochs=0)` only computes the closed-form initialisation."
        )
    if not any(model.trainable_weights for level in stack.levels for model in level.models().values()):
        raise ValueError(
            "All levels are frozen, so `fine_tune` has nothing to train. Set `sae.encoder.trainable = True` or "
            "`sae.decoder.trainable = True` first. Received: encoders and decoders without trainable weights"
        )
    pairs = as_pairs(images, targets, **stack.source_options)
    validation = None
    if validation_data is not None:
        given = _validation_pair(validation_data, targets)
        validation = as_pairs(*given, **stack.source_options, finite="validation_data", name="validation_data")
    steps_needed(pairs.inputs, options)
    if options.learning_rate is None:
        options = replace(options, learning_rate=PEAK_LEARNING_RATE / 5)
    data = {"images": pairs, "validation_data": validation}
    checkpoints = _checkpoints_of(stack, "fine_tune", checkpoint_dir, data, epochs, options, callbacks)
    checkpoint = None
    report = TrainingReport(stack, pairs, validation, {None: epochs}, options.verbose, batch_size=options.batch_size)
    report.begin()
    fit_report = report.all_levels()
    if checkpoints:
        if finished := checkpoints.finished(ALL, stack.levels):
            fit_report.was_finished(checkpoints.folder, finished[0])
            report.end()
            return finished[0]
        checkpoint = checkpoints.begin(ALL, stack.levels)
    history = fit(
        stack.levels,
        pairs,
        epochs,
        replace(options, callbacks=with_separate_paths(callbacks)[ALL_LEVELS]),
        validation=validation,
        report=fit_report,
        checkpoint=checkpoint,
    )
    change(stack.levels, partial(_measure, stack, pairs.inputs, options.batch_size))
    if checkpoints:
        checkpoints.finish(ALL, stack.levels, history, stack.value_range)
    report.end()
    return history


def _validation_data_of(
    stack: Stack, validation_data: Images | tuple[Images, Images] | None, targets: Images | None
) -> TrainingData | None:
    if validation_data is None:
        return None
    return training_data_of(stack, *_validation_pair(validation_data, targets), name="validation_data")


def _validation_pair(
    validation_data: Images | tuple[Images, Images], targets: Images | None
) -> tuple[Images, Images | None]:
    """Splits `validation_data` into images and targets, if both were given."""
    if isinstance(validation_data, tuple) and len(validation_data) == 2 and targets is not None:
        return validation_data
    if targets is not None and not isinstance(validation_data, (tf.data.Dataset, keras.utils.PyDataset)):
        raise ValueError(
            "With `targets`, `validation_data` must be a tuple (images, targets). "
            f"Received: {type(validation_data).__name__}"
        )
    return validation_data, None


def _check_trainable(stack: Stack, chosen: Sequence[int], given: Mapping[str, TrainingData | None]) -> None:
    """Raises `ValueError` if the chosen levels can't be trained on this data."""
    for name, data in given.items():
        if data is not None and data.level > min(chosen):
            raise ValueError(
                f"`{name}` is a store with encodings of level {data.level - 1}, so only higher levels can be trained. "
                f"Change `levels`, or pass images. Received: levels={list(chosen)}"
            )
    untrained = [index for index in range(max(chosen)) if index not in chosen and not stack.levels[index].started]
    if untrained:
        raise ValueError(
            f"Level {max(chosen)} is trained on the encodings of the levels below it, and level {untrained[0]} "
            f"hasn't been trained yet. Include {untrained[0]} in `levels`. Received: levels={list(chosen)}"
        )


def _check_not_frozen(stack: Stack, chosen: Sequence[int]) -> None:
    """Raises `ValueError` if an encoder or decoder that would be trained is frozen."""
    for index in chosen:
        for name, model in stack.levels[index].models().items():
            if not model.trainable_weights:
                raise ValueError(
                    f"Level {index} can't be trained, because its {name} is frozen. Set "
                    f"`sae.levels[{index}].{name}.trainable = True` first, or leave the level out of `levels`. "
                    "`fine_tune` trains only what isn't frozen. "
                    f"Received: levels={list(chosen)}, and a frozen {name} in level {index}"
                )


def _checkpoints_of(
    stack: Stack,
    method: str,
    directory: str | os.PathLike[str] | None,
    data: Mapping[str, Pairs | None],
    epochs: int | Mapping[int, int],
    options: FitOptions,
    callbacks: CallbacksOfLevels,
) -> Checkpoints | None:
    """Opens the checkpoints of a call with a `checkpoint_dir`; the other arguments identify the call."""
    if directory is None:
        return None
    _check_writable(directory, "checkpoint_dir")
    return Checkpoints(expanded(directory), method, described(stack, data, epochs, options, callbacks))


def _measure(stack: Stack, source: Source, batch_size: int) -> None:
    """Measures the mean and the standard deviation of each level's encodings."""
    sample = list(source.batches(batch_size, shuffle=True, most=SAMPLE))
    for level in stack.levels:
        sample = level.measure(sample)


def _check_writable(path: str | os.PathLike[str], argument: str) -> None:
    of_chief(lambda: check_writable(path, argument))  # only the chief writes
