"""Measuring the loss of a model without training it, before the first step and after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from stacked_autoencoder.data.pairs import Pairs
from stacked_autoencoder.distribution import rows_of
from stacked_autoencoder.metrics import Mean
from stacked_autoencoder.utils.generators import releasing_frames
from stacked_autoencoder.utils.images import Shape
from stacked_autoencoder.utils.tracing import graph_function

if TYPE_CHECKING:
    from stacked_autoencoder.training.model import ReconstructionModel


Terms = dict[str, tf.Tensor]


class LossEvaluator:
    """Measures the loss of a model and its terms, as means over images. All devices share the work.

    The computation is traced once. Keras's `evaluate` would be traced in addition to it, which delays the first step,
    and it fails with several workers.

    Args:
        model: the model to measure.
        shape: shape of one input, which is also that of one target.
    """

    def __init__(self, model: ReconstructionModel, shape: Shape) -> None:
        self.model = model
        self.signature = tf.TensorSpec((None, *shape), tf.float32)

    def __call__(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        """Measures batches of `(inputs, targets)`; returns `loss`, the sum of the terms, and each term by its name."""
        return _with_loss(self._means_over(batches))

    def of_all(self, pairs: Pairs, batch_size: int) -> dict[str, float]:
        """Measures all images of a source; on one device, in one execution.

        Raises:
            ValueError: the source is empty.
        """
        if tf.distribute.has_strategy():
            means = self._means_over(pairs.batches(batch_size))
        else:
            with pairs.own_errors(), releasing_frames():
                sums, count = self._sums_of_all(iter(pairs.dataset(batch_size)))
            means = {name: float(total / count) for name, total in sums.items()} if count else {}
        if not means:
            raise ValueError(
                "`validation_data` must contain at least one image. "
                f"Received an empty source: {pairs.inputs.describe()}"
            )
        return _with_loss(means)

    def _means_over(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        sums_of = self._sums_of_devices if tf.distribute.has_strategy() else self._sums_of_batch
        means: dict[str, Mean] = {}
        for inputs, targets in batches:
            for name, total in sums_of(inputs, targets).items():
                means.setdefault(name, Mean()).add(total, len(inputs))
        return {name: mean.value for name, mean in means.items()}

    def _current_terms(self, inputs: tf.Tensor, targets: tf.Tensor) -> Terms:
        return self.model.terms_of(inputs, targets, self.model(inputs, training=False))

    def _sums_of_batch(self, inputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        return {name: float(mean) * len(inputs) for name, mean in self._means(inputs, targets).items()}

    @cached_property
    def _means(self) -> Callable[[np.ndarray, np.ndarray], Terms]:
        return tf.function(self._current_terms).get_concrete_function(self.signature, self.signature)

    def _sums_of_devices(self, *batch: np.ndarray) -> Terms:
        batch = [tf.constant(values) for values in batch]
        parts = tf.distribute.get_strategy().experimental_distribute_values_from_function(
            lambda context: rows_of(batch, context.replica_id_in_sync_group, context.num_replicas_in_sync)
        )
        return self._sums_of_parts(*parts)

    @cached_property
    def _sums_of_parts(self) -> Callable[..., Terms]:
        """A function from the rows of each device to the sums of the terms over all images."""
        strategy = tf.distribute.get_strategy()

        def sums_of_device(inputs: tf.Tensor, targets: tf.Tensor, rows: tf.Tensor, _: tf.Tensor) -> Terms:
            terms = self._current_terms(inputs, targets)
            return {name: mean * tf.cast(rows, mean.dtype) for name, mean in terms.items()}

        def of_parts(*parts: Any) -> Terms:
            sums = strategy.run(sums_of_device, args=parts)
            return {name: strategy.reduce("SUM", value, axis=None) for name, value in sums.items()}

        return graph_function(of_parts)

    @cached_property
    def _sums_of_all(self) -> Callable[[Any], tuple[Terms, tf.Tensor]]:
        """A function from an iterator over batches to the sums of the terms and the number of images."""
        names = [each.name for each in self.model.trackers] or ["reconstruction"]

        def of_all(iterator: Any) -> tuple[Terms, tf.Tensor]:
            def has_batch(batch: tf.experimental.Optional, *_: Any) -> tf.Tensor:
                return batch.has_value()

            def add(batch: tf.experimental.Optional, sums: Terms, count: tf.Tensor) -> tuple[Any, Terms, tf.Tensor]:
                values = batch.get_value()
                inputs, targets = values if isinstance(values, tuple) else (values, values)
                rows, means = tf.cast(tf.shape(inputs)[0], tf.float64), self._current_terms(inputs, targets)
                sums = {name: sums[name] + rows * tf.cast(means[name], tf.float64) for name in names}
                return iterator.get_next_as_optional(), sums, count + rows

            zero = tf.constant(0.0, tf.float64)
            _, sums, count = tf.while_loop(
                has_batch, add, (iterator.get_next_as_optional(), dict.fromkeys(names, zero), zero)
            )
            return sums, count

        return graph_function(of_all, autograph=False)


def _with_loss(terms: dict[str, float]) -> dict[str, float]:
    return {"loss": sum(terms.values()), **terms}
