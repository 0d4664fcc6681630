"""Random prefixes of encodings, with which nested levels are trained."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops, random

# Share of the images whose encodings keep all features. It decides between the loss of all features and that of few.
COMPLETE = 0.5


def random_prefixes(encodings: tf.Tensor, seed_generator: keras.random.SeedGenerator) -> tuple[tf.Tensor, tf.Tensor]:
    """Keeps a random number of leading features of each encoding, and replaces the others.

    `COMPLETE` of the encodings keep all features. The others keep at least one, and each number is equally likely.

    Args:
        encodings: float tensor `(N, …, features)`.
        seed_generator: source of the random numbers.

    Returns:
        The encodings, and the number of features that are kept, `(N,)` int32.

    Reference:
        Rippel et al. 2014, "Learning ordered representations with nested dropout" (arXiv:1402.0915), section 2.
    """
    kept = random_lengths(ops.shape(encodings)[0], encodings.shape[-1], seed_generator)
    return prefixes(encodings, kept), kept


def random_lengths(count: tf.Tensor | int, features: int, seed_generator: keras.random.SeedGenerator) -> tf.Tensor:
    """Draws how many leading features to keep of each encoding, `(count,)` int32; see `random_prefixes`."""
    draw = random.uniform((count,), dtype="float32", seed=seed_generator)
    some = 1 + ops.floor((draw - COMPLETE) / (1 - COMPLETE) * features)
    return ops.cast(ops.where(draw < COMPLETE, float(features), some), "int32")


def is_leading(kept: tf.Tensor | int, shape: Sequence[int | None]) -> tf.Tensor:
    """Returns which features are among the `kept` leading ones, bool `(N, 1, …, features)`.

    Args:
        kept: number of features to keep, one for all encodings or `(N,)`.
        shape: shape of the encodings, `(N, …, features)`.
    """
    kept = ops.reshape(ops.convert_to_tensor(kept), (-1,) + (1,) * (len(shape) - 1))
    return ops.arange(shape[-1], dtype="int32") < kept


def prefixes(encodings: tf.Tensor, kept: tf.Tensor | int) -> tf.Tensor:
    """Replaces all but the leading features of encodings.

    They become zero in image-shaped encodings, whose initial mean is about zero. A smaller decoder without these
    features then gives the same result. In vectors they become the mean over the batch, so that activations such as
    `relu`, whose mean is not zero, can be used.

    Args:
        encodings: float tensor `(N, …, features)`.
        kept: number of features to keep, one for all encodings or `(N,)`.
    """
    others = ops.zeros_like(encodings)
    if len(encodings.shape) == 2:
        others = ops.stop_gradient(ops.mean(encodings, axis=0, keepdims=True))
    return ops.where(is_leading(kept, encodings.shape), encodings, others)
