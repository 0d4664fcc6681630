"""Penalties on encodings: KL sparsity, and the divergence from the standard normal distribution."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops

from stacked_autoencoder.utils.checks import is_real, non_negative

EDGE = 1e-6  # smallest distance of a mean activity from 0 and 1, where the divergence is infinite


@keras.saving.register_keras_serializable("stacked_autoencoder")
class KLSparsity(keras.regularizers.Regularizer):
    """Keras regularizer that keeps the mean activity of each unit near a small target, for sparse autoencoders.

    The penalty is the Kullback-Leibler divergence between the target and the mean activity of each unit:

    ```
    weight * Σ_units target·log(target / mean) + (1 - target)·log((1 - target) / (1 - mean))
    ```

    The mean is taken over the batch, and over all pixels of image-shaped encodings. Encodings must lie in [0, 1], as
    they do after a sigmoid.

    Args:
        target: target of the mean activity of each unit, between 0 and 1.
        weight: weight of the sum over all units.

    Raises:
        ValueError: `target` is not between 0 and 1, or `weight` is negative.

    Example:
        >>> DenseLevel(300, activation="sigmoid", penalty=KLSparsity(target=0.1, weight=0.05))

    Reference:
        Ng 2011, "Sparse autoencoder", CS294A lecture notes, section 3.
    """

    def __init__(self, target: float = 0.1, weight: float = 0.05) -> None:
        if not is_real(target) or not 0 < target < 1:
            raise ValueError(
                "`target` must be a number between 0 and 1, the mean activity of each unit. Received: "
                f"target={target!r}"
            )
        self.target = float(target)
        self.weight = non_negative("weight", weight)

    def __call__(self, code: tf.Tensor) -> tf.Tensor:
        """Returns the penalty of a batch of encodings `(N, …, units)`, a scalar."""
        means = ops.clip(ops.mean(code, axis=tuple(range(len(code.shape) - 1))), EDGE, 1 - EDGE)
        active = self.target * ops.log(self.target / means)
        idle = (1 - self.target) * ops.log((1 - self.target) / (1 - means))
        return self.weight * ops.sum(active + idle)

    def get_config(self) -> dict[str, float]:
        """Returns the arguments of the constructor."""
        return {"target": self.target, "weight": self.weight}


def divergence(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """Returns the Kullback-Leibler divergence of N(mean, variance) from N(0, 1).

    It is summed over the values of an encoding and averaged over the batch.

    Reference:
        Kingma and Welling 2014, "Auto-encoding variational Bayes" (arXiv:1312.6114), appendix B.
    """
    each = ops.square(mean) + ops.exp(log_variance) - log_variance - 1.0
    return ops.mean(ops.sum(each, axis=tuple(range(1, len(mean.shape))))) / 2.0
