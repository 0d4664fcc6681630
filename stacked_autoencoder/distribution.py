"""Functions for several workers that train together. One of them, the chief, makes decisions and writes files."""

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
    """Returns whether this process is the chief of a strategy; by default, of the current one."""
    return (strategy or tf.distribute.get_strategy()).extended.should_checkpoint


def has_workers() -> bool:
    """Returns whether several processes train together."""
    strategy = tf.distribute.get_strategy()
    return tf.distribute.has_strategy() and strategy.num_replicas_in_sync > len(strategy.extended.worker_devices)


def place() -> tuple[int, int]:
    """Returns the index of this process and the number of processes."""
    if not has_workers():
        return 0, 1
    strategy, replicas = tf.distribute.get_strategy(), []

    def register(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
        replicas.append(context.replica_id_in_sync_group)
        return tf.constant(0)

    strategy.experimental_distribute_values_from_function(register)
    here = len(strategy.extended.worker_devices)
    return min(replicas) // here, strategy.num_replicas_in_sync // here


def together(make: Callable[[], T]) -> T:
    """Calls a function on every worker. An error on one worker is raised on all, so that no worker waits for it.

    Within `make`, only `together` and `sum_of_workers` may wait for other workers. An error then reaches the others in
    their next call of one of these, and is reported once.

    Args:
        make: the function.

    Returns:
        The result of this worker.

    Raises:
        RuntimeError: another worker failed.
    """
    if not has_workers():
        return make()
    result, error = None, None
    try:
        result = make()
    except Exception as caught:  # any error has to reach the other workers
        error = caught
    if not getattr(error, "is_reported", False):
        failed = int(_sum_of_all(np.array([error is not None], np.int32))[0])
        if failed and error is None:
            error = RuntimeError("Another worker failed, so this one stops. Its output contains the error.")
    if error is not None:
        error.is_reported = True
        raise error
    return result


def sum_of_workers(make: Callable[[], np.ndarray]) -> np.ndarray:
    """Returns the sum of the arrays that `make` returns on each worker, on all workers."""
    value = together(make)
    return _sum_of_all(value) if has_workers() else value


def of_chief(make: Callable[[], T]) -> T:
    """Calls a function on the chief and returns its result on all workers. An error is raised on all workers, too."""
    if not has_workers():
        return make()
    message = b""
    if is_chief():
        try:
            result = (make(), None)
        except Exception as error:  # any error has to reach the other workers
            result = (None, error)
        message = pickle.dumps(result)
    size = int(_sum_of_all(np.array([len(message)], np.int32))[0])
    numbers = _sum_of_all(np.frombuffer(message.ljust(4 * -(-size // 4), b"\0"), np.int32))
    value, error = pickle.loads(numbers.tobytes()[:size])
    if error is not None:
        raise error
    return value


def _sum_of_all(numbers: np.ndarray) -> np.ndarray:
    """Returns the sum of an array over all workers."""
    strategy = tf.distribute.get_strategy()

    def value_of(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
        is_first = context.replica_id_in_sync_group % len(strategy.extended.worker_devices) == 0
        return tf.constant(numbers if is_first else np.zeros_like(numbers))

    values = strategy.experimental_distribute_values_from_function(value_of)
    return strategy.reduce("SUM", values, axis=None).numpy()


# === Rows of a batch ===


def rows_of(batch: Sequence[tf.Tensor], index: int, parts: int) -> tuple[tf.Tensor, ...]:
    """Returns the rows of a batch that belong to one device, their number, and the number of rows in the batch.

    A device without rows gets one row, with 0 as the number.

    Args:
        batch: tensors whose first axis counts rows.
        index: index of the device.
        parts: number of devices.
    """
    count = tf.shape(batch[0])[0]
    begin, end = index * count // parts, (index + 1) * count // parts
    return (*(values[begin : tf.maximum(end, begin + 1)] for values in batch), end - begin, count)


def spread(dataset: tf.data.Dataset) -> tf.distribute.DistributedDataset:
    """Distributes infinite batches, of inputs or of `(inputs, targets)`, over the devices by `rows_of`."""

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
    """Batches that one process reads, or that several workers share. A call returns an iterator over all of them.

    Args:
        read: returns a fresh iterator over a part of the batches.
        part: `(index, count)`, the part that this process reads; by default all batches.

    Attributes:
        readers: number of processes, each of which reads a part.
    """

    def __init__(self, read: Callable[[Part], Iterable[np.ndarray]], part: Part = (0, 1)) -> None:
        self.read, self.part = read, part
        self.readers = part[1]

    @classmethod
    def shared(cls, read: Callable[[Part], Iterable[np.ndarray]]) -> Stream:
        """Returns a stream that all workers share."""
        return cls(read, place())

    def __call__(self) -> Iterable[np.ndarray]:
        return self.read((0, 1))

    def own(self) -> Iterable[np.ndarray]:
        """Returns an iterator over the batches of this process."""
        return self.read(self.part)

    def summed(self, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns the sum of the arrays that `make` returns in each process."""
        return make() if self.readers == 1 else sum_of_workers(make)


def without_all_reduce(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a `train_step` so that on one device, no graph is built for a sum over devices.

    Keras's optimizers sum gradients in every replica context, and TensorFlow never frees those graphs. In the scope of
    a strategy, and with a `LossScaleOptimizer`, which needs a replica context, the step doesn't change.
    """

    @wraps(train_step)
    def step(model: keras.Model, data: Any) -> Any:
        context = tf.distribute.get_replica_context()
        is_scaled = any(isinstance(each, keras.optimizers.LossScaleOptimizer) for each in vars(model).values())
        if context is None or tf.distribute.has_strategy() or is_scaled:
            return train_step(model, data)
        return context.merge_call(lambda _, batch: train_step(model, batch), args=(data,))

    return step
