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
