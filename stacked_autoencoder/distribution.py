"""The processes that train together, one of which is the chief: it decides what is decided once, and alone writes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

T = TypeVar("T")


def is_chief(strategy: tf.distribute.Strategy | None = None) -> bool:
    """Whether this process writes, of those of a strategy, by default the one that is there now."""
    return (strategy or tf.distribute.get_strategy()).extended.should_checkpoint


def has_workers() -> bool:
    """Whether there are other processes."""
    strategy = tf.distribute.get_strategy()
    return tf.distribute.has_strategy() and strategy.num_replicas_in_sync > len(strategy.extended.worker_devices)


def place() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are."""
    if not has_workers():
        return 0, 1
    strategy, replicas = tf.distribute.get_strategy(), []

    def own(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
        replicas.append(context.replica_id_in_sync_group)
        return tf.constant(0)

    strategy.experimental_distribute_values_from_function(own)
    here = len(strategy.extended.worker_devices)
    return min(replicas) // here, strategy.num_replicas_in_sync // here


def together(make: Callable[[], T]) -> T:
    """What every worker makes for itself. An error on one is raised on all, so that none waits for the others.

    Within `make` only `together` and `sum_of_workers` may wait for others: an error in between then meets the next of
    those, whichever it is, and is told once.
    """
    if not has_workers():
        return make()
    made, error = None, None
    try:
        made = make()
    except Exception as caught:  # the others have to know of any
        error = caught
    if not getattr(error, "is_told", False):
        failed = int(_sum_of_all(np.array([error is not None], np.int32))[0])
        if failed and error is None:
            error = RuntimeError("Another worker failed: what it printed says why. None goes on without the others.")
    if error is not None:
        error.is_told = True
        raise error
    return made


def sum_of_workers(make: Callable[[], np.ndarray]) -> np.ndarray:
    """The sum of the numbers that each worker makes, the same on all."""
    own = together(make)
    return _sum_of_all(own) if has_workers() else own


def of_chief(make: Callable[[], T]) -> T:
    """What the chief makes, on every worker. An error there is raised on all, so that none waits for the others."""
    if not has_workers():
        return make()
    made = b""
    if is_chief():
        try:
            result = (make(), None)
        except Exception as error:  # the others have to know of any
            result = (None, error)
        made = pickle.dumps(result)
    size = int(_sum_of_all(np.array([len(made)], np.int32))[0])
    numbers = _sum_of_all(np.frombuffer(made.ljust(4 * -(-size // 4), b"\0"), np.int32))
    value, error = pickle.loads(numbers.tobytes()[:size])
    if error is not None:
        raise error
    return value


def _sum_of_all(numbers: np.ndarray) -> np.ndarray:
    """The sum over workers."""
    strategy = tf.distribute.get_strategy()

    def own(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
        is_first = context.replica_id_in_sync_group % len(strategy.extended.worker_devices) == 0
        return tf.constant(numbers if is_first else np.zeros_like(numbers))

    return strategy.reduce("SUM", strategy.experimental_distribute_values_from_function(own), axis=None).numpy()


# === Rows of a batch ===


def rows_of(batch: Sequence[tf.Tensor], index: int, parts: int) -> tuple[tf.Tensor, ...]:
    """The rows of a batch that are one device's, how many they are, and how many the batch has.

    A device for which there is none takes one that doesn't count.
    """
    count = tf.shape(batch[0])[0]
    begin, end = index * count // parts, (index + 1) * count // parts
    return (*(values[begin : tf.maximum(end, begin + 1)] for values in batch), end - begin, count)


def spread(dataset: tf.data.Dataset) -> tf.distribute.DistributedDataset:
    """Infinite batches, of inputs or of `(inputs, targets)`, as what each device takes of them."""

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


BatchFunction = Callable[[], Iterable[np.ndarray]]  # returns a fresh iterator over batches


Part = tuple[int, int]  # index, count: the batches index, index + count, …


class Stream:
    """Batches that one process reads, or all workers together, in one order. Called, it gives all of them.

    Args:
        read: returns a fresh iterator over a part of the batches.
        part: of this process; all of them by default.

    Attributes:
        readers: number of processes that read a part each.
    """

    def __init__(self, read: Callable[[Part], Iterable[np.ndarray]], part: Part = (0, 1)) -> None:
        self.read, self.part = read, part
        self.readers = part[1]

    @classmethod
    def shared(cls, read: Callable[[Part], Iterable[np.ndarray]]) -> Stream:
        """A stream that all workers read together; one process alone reads all of it."""
        return cls(read, place())

    def __call__(self) -> Iterable[np.ndarray]:
        return self.read((0, 1))

    def own(self) -> Iterable[np.ndarray]:
        """The batches that this process reads."""
        return self.read(self.part)

    def summed(self, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The sum over all readers of what each makes of its batches."""
        return make() if self.readers == 1 else sum_of_workers(make)


def without_all_reduce(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """A method that trains a model on one device, without a sum over devices, of which TensorFlow keeps every graph.

    Keras's optimizers sum gradients wherever there is a replica context. In the scope of a strategy nothing changes,
    and neither does it for a loss that is scaled, since that optimizer asks for a replica context.
    """

    @wraps(train_step)
    def step(model: keras.Model, data: Any) -> Any:
        context = tf.distribute.get_replica_context()
        is_scaled = any(isinstance(each, keras.optimizers.LossScaleOptimizer) for each in vars(model).values())
        if context is None or tf.distribute.has_strategy() or is_scaled:
            return train_step(model, data)
        return context.merge_call(lambda _, batch: train_step(model, batch), args=(data,))

    return step
