"""Greedy training: every level on the encodings of the one below, which are computed once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from stacked_autoencoder.utils.console import show
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
) -> list[keras.callbacks.History]:
    """Trains some levels of a stack, from the lowest to the highest.

    Args:
        stack: its levels below a trained one must have been trained, now or before.
        epochs: index of a level to train → its epochs.
        images: what is trained on.
        validation: decides which weights are kept.
        options: of each `fit`. `steps_per_epoch` is that of level 0; infinite datasets need it, and so many batches
            of them are encoded for level 1.
        callbacks: index of a level to train → its Keras callbacks, instead of those of `options`.
        cache: keeps the encodings between the levels.
        checkpoints: of this call, if it is to go on after a kill.

    Returns:
        One Keras `History` per trained level.
    """

    def encoded(index: int, pairs: Pairs, shape: Shape, name: str) -> Pairs:
        """What the next level sees and restores."""
        both = [
            cache.encoded(stack, index, source, shape, name, options.verbose == 1)
            for source, name in zip(pairs.sources, (name, f"{name}-targets"), strict=False)
        ]
        return Pairs(*both) if pairs.joined is None else Pairs.of(*both)

    top, batch_size = max(epochs), options.batch_size
    most = steps_needed(images.pairs.inputs, options)
    seen, valid, histories = images.pairs, None if validation is None else validation.pairs, []
    for index, level in enumerate(stack.levels[: top + 1]):
        finished = checkpoints.finished(index, [level]) if checkpoints and index in epochs else None
        if finished:
            histories.append(finished[0])
            if index == 0:
                stack.values = stack.values.found(finished[1])
        elif index in epochs:
            check_targets(level, seen)  # before the level is changed
            start = partial(_start, stack, index, images, seen.inputs, batch_size, most)
            begin = partial(change, [level], start, on_all_workers=True)
            checkpoint = None
            if checkpoints:
                checkpoint = checkpoints.begin(index, [level], begin)
            else:
                begin()
            if index == 0:
                _share_range(stack, seen, valid)
            steps = options.steps_per_epoch if index == 0 else None
            history = fit(
                [level],
                seen,
                epochs[index],
                replace(options, steps_per_epoch=steps, callbacks=callbacks[index]),
                validation=valid,
                title=f"Level {index} ({show(level.input_shape)} -> {show(level.encoding_shape)})",
                checkpoint=checkpoint,
            )
            histories.append(history)
            sample = partial(seen.inputs.batches, batch_size, shuffle=True, most=SAMPLE)
            change([level], lambda level=level, sample=sample: level.measure(sample()))
            if index == 0:
                _share_range(stack, seen, valid)
            if checkpoints:
                checkpoints.finish(index, [level], history, stack.value_range)
        if images.level <= index < top:
            some = seen if most is None else seen.first(most, batch_size)
            seen = encoded(index, some, images.shape, "training")
        if validation is not None and validation.level <= index < top:
            valid = encoded(index, valid, validation.shape, "validation")
    return histories


def _share_range(stack: Stack, seen: Pairs, valid: Pairs | None) -> None:
    """Gives the stack the range of its training images, and scales other images to it."""
    restored = seen.targets or seen.inputs
    if np.isfinite(restored.low):  # something has been read
        stack.values = stack.values.found(restored.value_range)
    for pairs in (seen, valid):
        for source in () if pairs is None else (pairs.inputs, pairs.targets):
            if source is not None:
                source.scale_by(stack.values)


def steps_needed(source: Source, options: FitOptions) -> int | None:
    """Number of batches that stand for an infinite dataset; `None` for finite data."""
    if source.n_batches(options.batch_size) is not None:
        return None
    if options.steps_per_epoch is None:
        raise ValueError(
            "`images` is an infinite dataset: set the number of batches of an epoch with `steps_per_epoch=…`. "
            "Received: steps_per_epoch=None"
        )
    return options.steps_per_epoch


def _start(stack: Stack, index: int, images: TrainingData, seen: Source, batch_size: int, most: int | None) -> None:
    """Sets the closed-form start of a level that hasn't had one, and the code that it will be held against."""
    level = stack.levels[index]
    if not level.started:
        if level.fill_values is not None:
            level.measure_fill_values(islice(seen.in_order(batch_size), most))  # without what pads images
        level.linear_code = _linear_start(stack, index, images, seen, batch_size, most)


def _linear_start(
    stack: Stack, index: int, images: TrainingData, seen: Source, batch_size: int, most: int | None
) -> LinearCode | None:
    """Sets the start; returns the linear code of the *image*, if the images are there."""

    def stream_of(source: Source, level: Level) -> Stream:
        """What a level sees of a source."""
        return Stream.shared(
            lambda part: map(level.filled, source.batches(batch_size, shuffle=True, most=most, part=part))
        )

    level = stack.levels[index]
    code = level.adapt(stream_of(seen, level))
    if index == 0:  # it starts as that very code
        return code
    if images.level > 0:
        return None
    factor = stack.factor_at(index) if level.is_image else None
    values = level.encoding_shape[-1] if level.is_image else math.prod(level.encoding_shape)
    return fit_linear_code(stream_of(images.pairs.inputs, stack.levels[0]), factor, values)
