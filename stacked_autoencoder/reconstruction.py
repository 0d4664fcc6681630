"""The model that `train` fits: levels there and back, each with what acts on it only in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import layers, ops, random

from stacked_autoencoder.exact_steps import ExactSteps
from stacked_autoencoder.muon import without_all_reduce
from stacked_autoencoder.patches import trained_by_patch
from stacked_autoencoder.tied import tied

if TYPE_CHECKING:
    from stacked_autoencoder.level import Level


class LevelInTraining(layers.Layer):
    """A level as it trains.

    ```
    inputs ─▶ corruption ─▶ encoder ─┬─▶ draw from N(mean, variance) ─▶ encodings ─▶ decoder
                                     └─▶ penalty, divergence                         (tied: with the encoder's kernels)
    ```

    Args:
        level: gives its weights. Corruption and draws act whenever this layer is called: what is validated is what is
            trained, and a level that learns to repair isn't judged by what needs no repair.

    Attributes:
        terms: of the loss of the last batch, beside that of the reconstruction, by their names.
    """

    def __init__(self, level: Level) -> None:
        super().__init__(dtype="float32")  # inputs aren't rounded on the way to layers that compute in another
        self.level = level
        self.objective = level.objective
        self.encoder = trained_by_patch(level.encoder if level.posterior is None else level.posterior)
        self.decoder = tied(level.decoder, level.ties())
        self.corruption = level.objective.corruption
        self.seed_generator = random.SeedGenerator(name="sampling")
        self.terms: dict[str, tf.Tensor] = {}
        self.built = True

    def encode(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        inputs = self.level.seen(inputs)
        if self.corruption is not None:
            inputs = self.corruption(inputs, training=True)
        code = self.encoder(inputs, training=training)
        terms = {}
        if isinstance(code, (list, tuple)):
            mean, log_variance = code
            values = ops.cast(ops.size(inputs) // ops.shape(inputs)[0], mean.dtype)
            terms["kl"] = self.objective.kl_weight * divergence(mean, log_variance) / values
            code = drawn(mean, log_variance, self.seed_generator)
        if self.objective.penalty is not None:
            terms["penalty"] = self.objective.of_code(code)
        self.terms = terms
        return code

    def decode(self, encodings: tf.Tensor, training: bool) -> tf.Tensor:
        return self.decoder(encodings, training=training)


class Reconstruction(ExactSteps):
    """What `train` fits: levels there and back, against what the first of them sees, or against targets.

    The loss is that of the first level's objective; penalties and divergences of all levels are added to it. Its parts
    are told apart in the history where there is more than the loss of the reconstruction.

    Args:
        levels: from the lowest to the highest.
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__(dtype="float32")
        self.first = levels[0]
        self.parts = [level.in_training() for level in levels]
        names = ["kl"] * any(level.posterior is not None for level in levels)
        names += ["penalty"] * any(level.objective.penalty is not None for level in levels)
        names += ["prediction"] * any("predictor" in level.models() for level in levels)
        self.trackers = [keras.metrics.Mean(name=name) for name in (["reconstruction", *names] if names else [])]

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        values = inputs
        for part in self.parts:
            values = part.encode(values, training)
        for part in reversed(self.parts):
            values = part.decode(values, training)
        return values

    @without_all_reduce
    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        return super().train_step(data)

    def terms_of(self, inputs: tf.Tensor, targets: tf.Tensor, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        of_reconstruction = self.first.objective.of_reconstruction
        terms = {"reconstruction": of_reconstruction(targets, outputs, self.first.counted(targets))}
        for part in self.parts:
            for name, value in part.terms.items():
                terms[name] = terms.get(name, 0.0) + value
        return terms

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor:
        terms = self.terms_of(x, x if y is None else y, y_pred)
        images = ops.shape(x)[0] if sample_weight is None else sample_weight
        for tracker in self.trackers:  # each batch by its images, as Keras weighs the loss
            tracker.update_state(terms[tracker.name], sample_weight=images)
        return sum(terms.values())


def drawn(mean: tf.Tensor, log_variance: tf.Tensor, seed: random.SeedGenerator) -> tf.Tensor:
    """A draw from each normal, through which gradients reach both (Kingma and Welling 2014, section 2.4)."""
    return mean + ops.exp(log_variance / 2) * random.normal(ops.shape(mean), seed=seed)


def divergence(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """Kullback-Leibler divergence of N(mean, variance) from N(0, 1), summed over a code, its mean over the batch.

    Reference:
        Kingma and Welling 2014, "Auto-encoding variational Bayes", appendix B.
    """
    each = ops.square(mean) + ops.exp(log_variance) - log_variance - 1.0
    return ops.mean(ops.sum(each, axis=tuple(range(1, len(mean.shape))))) / 2.0
