"""Training on several devices and machines, by TensorFlow's own means.

    with tf.distribute.MirroredStrategy().scope():        # or MultiWorkerMirroredStrategy()
        sae = Autoencoder(…)
    sae.train(images, batch_size=256)                     # of all devices together, as Keras has it

    batch of 7 ─┬─▶ device 0: images 0 to 2 ─▶ gradients ─┐
                └─▶ device 1: images 3 to 6 ─▶ gradients ─┴─▶ their sum: that of the batch ─▶ the same step on all

The steps are those that one device would take with the same `batch_size`, but for how sums are rounded, and for what is
drawn in training: all devices draw alike, each for its own rows.

Every worker of a `MultiWorkerMirroredStrategy` makes the same calls with the same arguments. All read the same batches
in the same order, and each keeps its rows. The closed-form start sums what each finds in its part of the batches. What
is decided once is decided by the chief and told to the others: random numbers, the weights that a level starts with,
whether there is something to go on from. The chief alone writes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import tensorflow as tf

from stacked_autoencoder.checkpoint_files import random_state, set_random_state
from stacked_autoencoder.workers import has_workers, of_chief

if TYPE_CHECKING:
    from stacked_autoencoder.level import Level

T = TypeVar("T")


def scope_of(levels: Sequence[Level]) -> AbstractContextManager[Any]:
    """The scope of the strategy that levels were made in; nothing for those made in none.

    Raises:
        ValueError: not all of them were made in it.
    """
    models = [model for level in levels for model in level.models().values()]
    strategy = models[0].distribute_strategy
    made_in = strategy.extended.variable_created_in_scope
    if not all(made_in(weight.value) for model in models for weight in model.weights):
        raise ValueError(
            "All levels must be made in the scope of the strategy that trains them, by `Autoencoder(…)`, "
            f"`Autoencoder.load` and `add` within `with strategy.scope():`. Received: {strategy!r}, and weights that "
            "were made outside of its scope"
        )
    with strategy.scope():
        if not tf.distribute.has_strategy():
            return nullcontext()
    return strategy.scope()


def in_scope(train: Callable[..., T]) -> Callable[..., T]:
    """A method of a stack that trains it, within the scope that its levels were made in, wherever it is called.

    Raises:
        NotImplementedError: several devices can't take the steps that one would.
    """

    @functools.wraps(train)
    def within(stack: Any, *arguments: Any, **named: Any) -> T:
        with scope_of(stack.levels):
            _check(tf.distribute.get_strategy(), stack.levels)
            if has_workers():
                set_random_state(of_chief(random_state))
            return train(stack, *arguments, **named)

    return within


def _check(strategy: tf.distribute.Strategy, levels: Sequence[Level]) -> None:
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        raise NotImplementedError(
            "Training takes the same step on all devices: use a `MirroredStrategy` or `MultiWorkerMirroredStrategy`. "
            f"Received: {strategy!r}"
        )
    for level in levels:
        if strategy.num_replicas_in_sync > 1 and not level.is_judged_by_image:
            raise NotImplementedError(
                "On several devices the loss must be a mean over images, whose gradient is the sum of what each device "
                "finds for its own. `KLSparsity` compares the mean of the whole batch, and `mask_value` leaves other "
                f"numbers of steps to each device: train this level on one. Received: {level!r}"
            )


# === Rows of a batch ===


def rows_of(batch: Sequence[tf.Tensor], index: int, parts: int) -> tuple[tf.Tensor, ...]:
    """The rows of a batch that are one device's, how many they are, and how many the batch has.

    A device for which there is none takes one that doesn't count.
    """
    count = tf.shape(batch[0])[0]
    begin, end = index * count // parts, (index + 1) * count // parts
    return (*(values[begin : tf.maximum(end, begin + 1)] for values in batch), end - begin, count)


def spread(dataset: tf.data.Dataset) -> tf.distribute.DistributedDataset:
    """Batches without end, of inputs or of `(inputs, targets)`, as what each device takes of them."""

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        parts = context.num_replicas_in_sync
        here = parts // context.num_input_pipelines
        first = here * context.input_pipeline_id

        def divided(*batch: tf.Tensor) -> tf.data.Dataset:
            return tf.data.Dataset.range(first, first + here, output_type=tf.int32).map(
                lambda index: rows_of(batch, index, parts)
            )

        return dataset.flat_map(divided).prefetch(2 * here)

    return tf.distribute.get_strategy().distribute_datasets_from_function(of_worker)


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
