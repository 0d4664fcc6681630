"""Random prefixes of encodings, with which nested levels are trained."""

from __future__ import annotations

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
    features = encodings.shape[-1]
    draw = random.uniform((ops.shape(encodings)[0],), dtype="float32", seed=seed_generator)
    some = 1 + ops.floor((draw - COMPLETE) / (1 - COMPLETE) * features)
    kept = ops.cast(ops.where(draw < COMPLETE, float(features), some), "int32")
    return prefixes(encodings, kept), kept


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
    kept = ops.reshape(ops.convert_to_tensor(kept), (-1,) + (1,) * (len(encodings.shape) - 1))
    return ops.where(ops.arange(encodings.shape[-1], dtype="int32") < kept, encodings, others)
