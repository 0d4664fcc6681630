"""Greedy training: each level is trained on the encodings of the level below, which are computed once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

import keras
import numpy as np

from stacked_autoencoder.data.pairs import Pairs
from stacked_autoencoder.data.source import Source
from stacked_autoencoder.distribution import Stream
from stacked_autoencoder.inference.cache import EncodingCache
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.pca import LinearCode, fit_linear_code
from stacked_autoencoder.training.checkpoints import Checkpoints
from stacked_autoencoder.training.distribute import change
from stacked_autoencoder.training.fit import SAMPLE, FitOptions, check_targets, fit
from stacked_autoencoder.training.inputs import TrainingData
from stacked_autoencoder.training.report import FitReport, TrainingReport
from stacked_autoencoder.utils.images import Shape


def train_greedily(
    stack: Stack,
    epochs: Mapping[int, int],
    images: TrainingData,
    validation: TrainingData | None,
    options: FitOptions,
    *,
    callbacks: Mapping[int, Sequence[keras.callbacks.Callback]],
    cache: EncodingCache,
    checkpoints: Checkpoints | None,
    report: TrainingReport,
) -> list[keras.callbacks.History]:
    """Trains some levels of a stack, the lowest first.

    Args:
        stack: the stack. All levels below a trained one must be trained, in this call or before.
        epochs: index of a level to train → its epochs.
        images: the training data.
        validation: selects the weights.
        options: options of each `fit`. `steps_per_epoch` counts for level 0. Infinite datasets need it; higher levels
            then train on the encodings of this number of batches.
        callbacks: index of a level to train → its Keras callbacks, which replace those of `options`.
        cache: keeps the encodings that the next level trains on.
        checkpoints: the checkpoints of this call, if it has any.
        report: prints progress.

    Returns:
        One Keras `History` per trained level.
    """

    def encoded(index: int, pairs: Pairs, shape: Shape, name: str) -> Pairs:
        """Encodes inputs and targets for the next level."""
        report.encoding(index, name)
        both = [
            cache.encoded(stack, index, source, shape, name, options.verbose == 1)
            for source, name in zip(pairs.sources, (name, f"{name}-targets"), strict=False)
        ]
        return Pairs(*both) if pairs.joined is None else Pairs.of(*both)

    top, batch_size = max(epochs), options.batch_size
    most = steps_needed(images.pairs.inputs, options)
    data, valid, histories = images.pairs, None if validation is None else validation.pairs, []
    report.begin()
    for index, level in enumerate(stack.levels[: top + 1]):
        level_report = report.level(index) if index in epochs else None
        finished = checkpoints.finished(index, [level]) if checkpoints and index in epochs else None
        if finished:
            level_report.was_finished(checkpoints.folder, finished[0])
            histories.append(finished[0])
            if index == 0:
                stack.values = stack.values.found(finished[1])
        elif index in epochs:
            check_targets(level, data)  # before the level is changed
            is_new = not level.started
            begin = partial(_initialise, stack, index, images, data.inputs, batch_size, most, level_report)
            checkpoint = None
            if checkpoints:
                checkpoint = checkpoints.begin(index, [level], begin)
            else:
                begin()
            if index == 0:
                _share_range(stack, data, valid)
            steps = options.steps_per_epoch if index == 0 else None
            history = fit(
                [level],
                data,
                epochs[index],
                replace(options, steps_per_epoch=steps, callbacks=callbacks[index]),
                validation=valid,
                report=level_report,
                checkpoint=checkpoint,
                is_new=is_new,
            )
            histories.append(history)
            sample = partial(data.inputs.batches, batch_size, shuffle=True, most=SAMPLE)
            change([level], lambda level=level, sample=sample: level.measure(sample()))
            if index == 0:
                _share_range(stack, data, valid)
            if checkpoints:
                checkpoints.finish(index, [level], history, stack.value_range)
        if images.level <= index < top:
            some = data if most is None else data.first(most, batch_size)
            data = encoded(index, some, images.shape, "training")
        if validation is not None and validation.level <= index < top:
            valid = encoded(index, valid, validation.shape, "validation")
    report.end()
    return histories


def _share_range(stack: Stack, data: Pairs, valid: Pairs | None) -> None:
    """Sets the value range of the stack to that of its training images, by which all images are scaled."""
    outputs = data.targets or data.inputs
    if np.isfinite(outputs.low):  # something has been read
        stack.values = stack.values.found(outputs.value_range)
    for pairs in (data, valid):
        for source in () if pairs is None else (pairs.inputs, pairs.targets):
            if source is not None:
                source.scale_by(stack.values)


def steps_needed(source: Source, options: FitOptions) -> int | None:
    """Returns the number of batches to use of an infinite dataset; `None` for finite data."""
    if source.n_batches(options.batch_size) is not None:
        return None
    if options.steps_per_epoch is None:
        raise ValueError(
            "`images` is an infinite dataset, so `steps_per_epoch=…` must give the number of batches per epoch. "
            "Received: steps_per_epoch=None"
        )
    return options.steps_per_epoch


def _initialise(
    stack: Stack,
    index: int,
    images: TrainingData,
    inputs: Source,
    batch_size: int,
    most: int | None,
    report: FitReport,
) -> None:
    """Initialises a new level in closed form, and fits the PCA that the error budget compares it with."""
    level = stack.levels[index]
    if level.started:
        return
    report.initialising(level)

    def stream_of(source: Source, receiver: Level) -> Stream:
        """Returns the batches that a level receives from a source."""
        return Stream.shared(
            lambda part: map(receiver.filled, source.batches(batch_size, shuffle=True, most=most, part=part))
        )

    def adapt() -> None:
        if level.fill_values is not None:
            level.measure_fill_values(islice(inputs.in_order(batch_size), most))  # without padding
        code = level.adapt(stream_of(inputs, level))
        # Only the input of level 0 is the image.
        level.linear_code = code if index == 0 else _linear_code_of_images(stack, index, images, stream_of)

    change([level], adapt, on_all_workers=True)
    if level.neighbour_layer is not None and images.pairs.targets is None:
        # After the workers have taken over the weights of the chief, since their encodings are combined.
        initialise = partial(level.initialise_neighbour_decoder, stream_of(inputs, level))
        change([level], initialise, on_all_workers=True)


def _linear_code_of_images(
    stack: Stack, index: int, images: TrainingData, stream_of: Callable[[Source, Level], Stream]
) -> LinearCode | None:
    """Fits PCA to the images. It keeps the same number of values per image as the encodings of a level.

    Returns:
        The PCA. `None` if the training data are encodings, so that the images are not known.
    """
    if images.level > 0:
        return None
    level = stack.levels[index]
    factor = stack.factor_at(index) if level.is_image else None
    values = level.encoding_shape[-1] if level.is_image else math.prod(level.encoding_shape)
    return fit_linear_code(stream_of(images.pairs.inputs, stack.levels[0]), factor, values)
