"""The model that `train` fits: levels there and back, each with what acts on it only in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

from stacked_autoencoder.distribution import without_all_reduce
from stacked_autoencoder.levels.trainable import trainable

if TYPE_CHECKING:
    from stacked_autoencoder.levels.base import Level


# === The model ===


class OnDevices(keras.Model):
    """A model that one device or several train, by the loss of the whole batch."""

    def terms_of(self, inputs: tf.Tensor, targets: tf.Tensor, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The terms of the loss, each a mean over a batch."""
        raise NotImplementedError

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        if not tf.distribute.has_strategy():
            return super().train_step(data)
        inputs, *targets, rows, count = data
        with tf.GradientTape() as tape:
            outputs = self(inputs, training=True)
            loss = self.compute_loss(inputs, targets[0] if targets else None, outputs, sample_weight=rows)
            share = tf.cast(rows, loss.dtype) / tf.cast(count, loss.dtype)
            scaled = self.optimizer.scale_loss(loss * share)
        self._loss_tracker.update_state(loss, sample_weight=rows)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, weights), weights, strict=True))
        return {}  # to sum them over devices once per execution is enough

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Nothing: weights, and the optimizer's, are there before `fit`.

        Keras 3.15's takes the mean of the devices' batches, which fails for several workers, and costs a batch.
        """


class ExactSteps(OnDevices):
    """A model for data without end, whose training can go on within an epoch.

    Keras runs `steps_per_execution` steps each time, beyond the end of an epoch where data go on: of 20 steps, 32.

    Attributes:
        steps: in an epoch, as `fit` is told.
        begin: steps of the present epoch that are done.
        passed: steps of the first epoch that an earlier run has done, a whole number of executions. They are passed
            over: callbacks see them, with the metrics as they are, and no data are taken.
    """

    steps: int
    begin: int
    passed = 0

    def fit(self, *arguments: Any, steps_per_epoch: int, **named: Any) -> keras.callbacks.History:
        self.steps, self.begin = steps_per_epoch, 0
        return super().fit(*arguments, steps_per_epoch=steps_per_epoch, **named)

    def make_train_function(self, force: bool = False) -> Any:
        if self.train_function is not None and not force:
            return
        strategy = self.distribute_strategy

        def one_step(data: Any) -> None:
            strategy.run(self.train_step, args=(data,))  # what it returns is told by the metrics that it has updated

        if self.jit_compile:  # else a function within the loop's would only take time to be made
            one_step = tf.function(one_step, autograph=False, reduce_retracing=True, jit_compile=True)

        def several_steps(iterator: Any, count: tf.Tensor) -> None:
            """In a loop from the first on: TensorFlow optimises the whole step at every place that has it."""

            def one_more(done: tf.Tensor) -> tf.Tensor:
                one_step(next(iterator))
                return done + 1

            tf.while_loop(lambda done: done < count, one_more, (tf.constant(0),))

        several_steps = tf.function(several_steps, autograph=False, reduce_retracing=True)

        def execute(iterator: Any) -> dict[str, Any]:
            count = min(self.steps_per_execution, self.steps - self.begin)
            is_done, self.begin = self.begin < self.passed, (self.begin + count) % self.steps
            if not is_done:
                self.passed = 0
                several_steps(iterator, tf.constant(count))
            return self.get_metrics_result()

        self.train_function = execute


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
        self.parts = [trainable(level) for level in levels]
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
