"""The model that training fits: levels there and back, each with what acts on it in training only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

from stacked_autoencoder.distribution import is_chief, without_all_reduce
from stacked_autoencoder.layers.tied import copy_out
from stacked_autoencoder.levels.stack import chain
from stacked_autoencoder.levels.trainable import trainable

if TYPE_CHECKING:
    from stacked_autoencoder.levels.base import Level


class ReconstructionModel(keras.Model):
    """What `train` fits: levels there and back, against what the first of them sees, or against targets.

    The loss is that of the first level's objective; penalties and divergences of all levels are added to it. Its parts
    are reported one by one in the history where there is more than the loss of the reconstruction.

    One device or several take a step, by the loss of the whole batch.

    Args:
        levels: from the lowest to the highest.

    Attributes:
        trackers: means of the parts of the loss, named after them.
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__(dtype="float32")
        self.first = levels[0]
        self.parts = [trainable(level) for level in levels]
        names = ["kl"] * any(level.posterior is not None for level in levels)
        names += ["penalty"] * any(level.objective.penalty is not None for level in levels)
        names += ["prediction"] * any("predictor" in level.models() for level in levels)
        self.trackers = [keras.metrics.Mean(name=name) for name in (["reconstruction", *names] if names else [])]
        # In a namespace, which Keras doesn't search for variables: checkpoints have those of the trackers alone.
        self.held = SimpleNamespace(loss=keras.metrics.Mean(name="loss"))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The loss, and its parts."""
        return [self.held.loss, *self.trackers]

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        values = inputs
        for part in self.parts:
            values = part.encode(values, training)
        for part in reversed(self.parts):
            values = part.decode(values, training)
        return values

    @without_all_reduce
    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one step.

        Args:
            data: a batch of inputs, or `(inputs, targets)`; in the scope of a strategy this device's rows of it, with
                their number and that of the whole batch.
        """
        if tf.distribute.has_strategy():
            inputs, *targets, rows, count = data
            share = tf.cast(rows, tf.float32) / tf.cast(count, tf.float32)
        else:
            inputs, *targets = data if isinstance(data, tuple) else (data,)
            rows, share = tf.shape(inputs)[0], None
        with tf.GradientTape() as tape:
            outputs = self(inputs, training=True)
            loss = self.compute_loss(inputs, targets[0] if targets else None, outputs, sample_weight=rows)
            scaled = self.optimizer.scale_loss(loss if share is None else loss * tf.cast(share, loss.dtype))
        self.held.loss.update_state(loss, sample_weight=rows)
        weights = self.trainable_weights
        self.optimizer.apply(tape.gradient(scaled, weights), weights)
        return {} if tf.distribute.has_strategy() else self.get_metrics_result()  # else one sum over devices per step

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Measures the loss of a batch of inputs, or of `(inputs, targets)`."""
        inputs, *targets = data if isinstance(data, tuple) else (data,)
        loss = self.compute_loss(inputs, targets[0] if targets else None, self(inputs, training=False))
        self.held.loss.update_state(loss, sample_weight=tf.shape(inputs)[0])
        return self.get_metrics_result()

    # === Files, as callbacks write them ===

    def save(self, filepath: str | os.PathLike[str], overwrite: bool = True, **options: Any) -> None:
        """Saves `plain` as Keras saves models; of several workers, the chief alone does."""
        if is_chief(self.distribute_strategy):
            self.plain().save(filepath, overwrite=overwrite, **options)

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True, **options: Any) -> None:
        """Saves the weights of `plain`, likewise."""
        if is_chief(self.distribute_strategy):
            self.plain().save_weights(filepath, overwrite=overwrite, **options)

    def load_weights(self, filepath: str | os.PathLike[str], **options: Any) -> None:
        """Sets the weights that `save_weights` wrote."""
        self.plain().load_weights(filepath, **options)

    def plain(self) -> keras.Model:
        """The encoders and decoders of the levels, one after the other, as one Functional model of Keras's own layers.

        It shares their weights, and has nothing of what acts in training only.
        """
        levels = [part.level for part in self.parts]
        for level in levels:
            copy_out(level.decoder, level.tied_layers())  # a tied decoder's own kernels rest while it trains
        return chain([*(level.encoder for level in levels), *(level.decoder for level in reversed(levels))])

    def terms_of(self, inputs: tf.Tensor, targets: tf.Tensor, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The terms of the loss, each a mean over a batch."""
        of_reconstruction = self.first.objective.of_reconstruction
        terms = {"reconstruction": of_reconstruction(targets, outputs, self.first.loss_mask(targets))}
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
