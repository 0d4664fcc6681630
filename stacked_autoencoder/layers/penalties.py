"""Penalties on codes: how often units are active, and the divergence of a distribution from the standard normal."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops

from stacked_autoencoder.utils.checks import is_real, non_negative

EDGE = 1e-6  # how near to 0 and 1 a mean activity may come, where the divergence has no end


@keras.saving.register_keras_serializable("stacked_autoencoder")
class KLSparsity(keras.regularizers.Regularizer):
    """Kullback-Leibler divergence between how active each unit should be on average and how active it is.

    `weight * Σ_units target·log(target / mean) + (1 - target)·log((1 - target) / (1 - mean))`, the mean taken over the
    batch (and over all places of an image-shaped code). Codes must lie in [0, 1], as after a sigmoid.

    Args:
        target: the mean activity that a unit should have, between 0 and 1.
        weight: of the sum over all units.

    Reference:
        Ng 2011, "Sparse autoencoder", CS294A lecture notes, section 3.

    Example:
        >>> DenseLevel(300, activation="sigmoid", penalty=KLSparsity(target=0.1, weight=0.05))
    """

    def __init__(self, target: float = 0.1, weight: float = 0.05) -> None:
        if not is_real(target) or not 0 < target < 1:
            raise ValueError(f"`target` is a mean activity between 0 and 1. Received: target={target!r}")
        self.target = float(target)
        self.weight = non_negative("weight", weight)

    def __call__(self, code: tf.Tensor) -> tf.Tensor:
        means = ops.clip(ops.mean(code, axis=tuple(range(len(code.shape) - 1))), EDGE, 1 - EDGE)
        active = self.target * ops.log(self.target / means)
        idle = (1 - self.target) * ops.log((1 - self.target) / (1 - means))
        return self.weight * ops.sum(active + idle)

    def get_config(self) -> dict[str, float]:
        return {"target": self.target, "weight": self.weight}


def divergence(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """Kullback-Leibler divergence of N(mean, variance) from N(0, 1), summed over a code, its mean over the batch.

    Reference:
        Kingma and Welling 2014, "Auto-encoding variational Bayes", appendix B.
    """
    each = ops.square(mean) + ops.exp(log_variance) - log_variance - 1.0
    return ops.mean(ops.sum(each, axis=tuple(range(1, len(mean.shape))))) / 2.0
