"""The processes that train together, one of which is the chief: it decides what is decided once, and alone writes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TypeVar

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
    size = int(_sum_of_all(np.array([len(made)]))[0])
    numbers = _sum_of_all(np.frombuffer(made.ljust(4 * -(-size // 4), b"\0"), np.int32))
    value, error = pickle.loads(numbers.tobytes()[:size])
    if error is not None:
        raise error
    return value


def _sum_of_all(numbers: np.ndarray) -> np.ndarray:
    """The sum over workers of int32 numbers."""
    strategy = tf.distribute.get_strategy()

    def own(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
        is_first = context.replica_id_in_sync_group % len(strategy.extended.worker_devices) == 0
        return tf.constant(numbers if is_first else np.zeros_like(numbers), tf.int32)

    return strategy.reduce("SUM", strategy.experimental_distribute_values_from_function(own), axis=None).numpy()
