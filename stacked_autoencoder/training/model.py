"""The model that training fits: the encoders and decoders of levels, with corruption, noise and penalties."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.distribution import is_chief, without_all_reduce
from stacked_autoencoder.layers.prefixes import prefixes
from stacked_autoencoder.layers.tied import copy_out
from stacked_autoencoder.levels.stack import chain
from stacked_autoencoder.levels.trainable import trainable
from stacked_autoencoder.utils.checks import SMALLEST

if TYPE_CHECKING:
    from stacked_autoencoder.levels.base import Level


PREFIXES = 12  # numbers of features that are measured before nested training
SMALLEST_WEIGHT = 1e-3


class ReconstructionModel(keras.Model):
    """The encoders of levels followed by their decoders, trained to reconstruct the first input or given targets.

    The loss of the reconstruction is that of the first level. The penalties and divergences of all levels are added to
    it. If there are any, the history also has each term of the loss.

    On several devices, a step minimises the loss of the whole batch.

    Args:
        levels: neighbouring levels, the lowest first.

    Attributes:
        trackers: Keras metrics with the mean of each term of the loss, named after it. Empty if there is one term.
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__(dtype="float32")
        self.first = levels[0]
        self.parts = [trainable(level) for level in levels]
        names = ["kl"] * any(level.posterior is not None for level in levels)
        names += ["penalty"] * any(level.objective.penalty is not None for level in levels)
        names += ["prediction"] * any("predictor" in level.models() for level in levels)
        self.trackers = [keras.metrics.Mean(name=name) for name in (["reconstruction", *names] if names else [])]
        # In a namespace, where Keras doesn't find its variables. Checkpoints contain only those of the trackers.
        self.hidden = SimpleNamespace(loss=keras.metrics.Mean(name="loss"))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The metrics of the loss and of its terms."""
        return [self.hidden.loss, *self.trackers]

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self._decoded(self.parts[-1].cut(self._encoded(inputs, training), training), training)

    def _encoded(self, values: tf.Tensor, training: bool) -> tf.Tensor:
        for part in self.parts:
            values = part.encode(values, training)
        return values

    def _decoded(self, values: tf.Tensor, training: bool) -> tf.Tensor:
        for part in reversed(self.parts):
            values = part.decode(values, training)
        return values

    def weigh_prefixes(self, inputs: tf.Tensor, targets: tf.Tensor) -> None:
        """Sets `prefix_weights` of a nested last level so that all numbers of features contribute equally at first.

        The loss with few features can be hundreds of times that with all features. Without weights, it would determine
        the training steps almost alone.

        Args:
            inputs: a batch of inputs.
            targets: their targets.
        """
        encodings, mask = self._encoded(inputs, training=False), self.first.loss_mask(targets)
        counts = np.unique(np.geomspace(1, encodings.shape[-1], PREFIXES).round().astype(int))
        losses = []
        for count in counts:
            outputs = self._decoded(prefixes(encodings, int(count)), training=False)
            losses.append(max(float(self.first.objective.of_reconstruction(targets, outputs, mask)), SMALLEST))
        logs = np.interp(np.log(np.arange(1, counts[-1] + 1)), np.log(counts), np.log(losses))
        self.parts[-1].prefix_weights = np.clip(np.exp(logs[-1] - logs), SMALLEST_WEIGHT, 1.0).astype(np.float32)

    @without_all_reduce
    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one step.

        Args:
            data: a batch of inputs, or `(inputs, targets)`. In the scope of a strategy, the rows of this device, their
                number and that of the whole batch.
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
        self.hidden.loss.update_state(loss, sample_weight=rows)
        weights = self.trainable_weights
        self.optimizer.apply(tape.gradient(scaled, weights), weights)
        # With a strategy, the result would need a sum over devices in each step.
        return {} if tf.distribute.has_strategy() else self.get_metrics_result()

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Measures the loss on a batch of inputs, or of `(inputs, targets)`."""
        inputs, *targets = data if isinstance(data, tuple) else (data,)
        loss = self.compute_loss(inputs, targets[0] if targets else None, self(inputs, training=False))
        self.hidden.loss.update_state(loss, sample_weight=tf.shape(inputs)[0])
        return self.get_metrics_result()

    # === Files that callbacks write ===

    def save(self, filepath: str | os.PathLike[str], overwrite: bool = True, **options: Any) -> None:
        """Saves the model that `plain` returns. With several workers, only the chief writes."""
        if is_chief(self.distribute_strategy):
            self.plain().save(filepath, overwrite=overwrite, **options)

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True, **options: Any) -> None:
        """Saves the weights of the model that `plain` returns. With several workers, only the chief writes."""
        if is_chief(self.distribute_strategy):
            self.plain().save_weights(filepath, overwrite=overwrite, **options)

    def load_weights(self, filepath: str | os.PathLike[str], **options: Any) -> None:
        """Loads weights that `save_weights` wrote."""
        self.plain().load_weights(filepath, **options)

    def plain(self) -> keras.Model:
        """Returns the encoders and decoders as one Functional model, without corruption, noise and penalties.

        The model shares its weights with the levels.
        """
        levels = [part.level for part in self.parts]
        for level in levels:
            copy_out(level.decoder, level.tied_layers())  # a tied decoder's copy isn't updated in training
        return chain([*(level.encoder for level in levels), *(level.decoder for level in reversed(levels))])

    def terms_of(self, inputs: tf.Tensor, targets: tf.Tensor, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the terms of the loss, each a mean over a batch."""
        weights = self.parts[-1].loss_weights
        of_reconstruction = self.first.objective.of_reconstruction
        terms = {"reconstruction": of_reconstruction(targets, outputs, self.first.loss_mask(targets), weights)}
        for part in self.parts:
            for name, value in part.terms.items():
                terms[name] = terms.get(name, 0.0) + value
        return terms

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor:
        terms = self.terms_of(x, x if y is None else y, y_pred)
        images = ops.shape(x)[0] if sample_weight is None else sample_weight
        for tracker in self.trackers:  # batches are weighted by their number of images, as Keras does
            tracker.update_state(terms[tracker.name], sample_weight=images)
        return sum(terms.values())
