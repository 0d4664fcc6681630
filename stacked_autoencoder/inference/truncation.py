"""Encodings that are cut to their leading features; the decoder gets the mean in place of the others."""

from __future__ import annotations

import numpy as np

from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.utils.checks import fits


def is_cut(stack: Stack, encodings: np.ndarray, level: int) -> bool:
    """Returns whether encodings fit a level except that they have fewer features, and don't fit another level."""
    shapes = [each.encoding_shape for each in stack.levels]
    shape = shapes[level]
    has_fewer = encodings.ndim == len(shape) + 1 and 1 <= encodings.shape[-1] < shape[-1]
    is_of_another = any(fits(encodings.shape[1:], other) for other in shapes)
    return has_fewer and not is_of_another and fits((*encodings.shape[1:-1], shape[-1]), shape)


def completed(stack: Stack, encodings: np.ndarray, level: int) -> np.ndarray:
    """Appends missing features to encodings that were cut to their leading features.

    They are zeros for image-shaped encodings of a nested level, which is trained with zeros, and otherwise the mean of
    each feature.

    Args:
        stack: the stack.
        encodings: `(N, …, n_out)`.
        level: index of the level.

    Raises:
        ValueError: features are missing, and the level has not been trained.
    """
    given, features = encodings.shape[-1], stack.levels[level].encoding_shape[-1]
    if given == features:
        return encodings
    mean = stack.levels[level].mean
    if mean is None:
        raise ValueError(
            f"Encodings with {given} of {features} features can't be decoded, because the mean of the other features "
            f"is not known before level {level} is trained. Call `train` first. Received: shape={encodings.shape}"
        )
    if stack.levels[level].objective.nested and stack.levels[level].is_image:
        mean = np.zeros(features)
    others = np.broadcast_to(mean[given:].astype(encodings.dtype), (*encodings.shape[:-1], features - given))
    return np.concatenate([encodings, others], axis=-1)
