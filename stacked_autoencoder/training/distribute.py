"""Training on several devices and machines with TensorFlow's distribution strategies.

    with tf.distribute.MirroredStrategy().scope():        # or MultiWorkerMirroredStrategy()
        sae = Autoencoder(…)
    sae.train(images, batch_size=256)                     # images per step of all devices, as in Keras

    batch of 7 ─┬─▶ device 0: images 0 to 2 ─▶ gradients ─┐
                └─▶ device 1: images 3 to 6 ─▶ gradients ─┴─▶ sum = gradients of the batch ─▶ the same step on all

The steps are the same as on one device with the same `batch_size`, except for rounding and for random numbers: all
devices draw the same numbers, each for its rows.

Every worker of a `MultiWorkerMirroredStrategy` makes the same calls with the same arguments. All workers read the same
batches in the same order, and each uses its rows. For the closed-form initialisation, each worker reads a part of the
batches, and the moments are summed. The chief decides the random numbers, the initial weights and whether there is a
checkpoint, and sends them to the others. Only the chief writes files.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import tensorflow as tf

from stacked_autoencoder.distribution import has_workers, of_chief, together
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.saving.state import State, state_of, take_over
from stacked_autoencoder.utils.seeds import random_state, set_random_state

T = TypeVar("T")


def scope_of(levels: Sequence[Level]) -> AbstractContextManager[Any]:
    """Returns the scope of the strategy in which levels were created, or an empty context without a strategy.

    Raises:
        ValueError: the levels were created in different scopes.
    """
    models = [model for level in levels for model in level.models().values()]
    strategy = models[0].distribute_strategy
    made_in = strategy.extended.variable_created_in_scope
    if not all(made_in(weight.value) for model in models for weight in model.weights):
        raise ValueError(
            "All levels must be created in the scope of the strategy that trains them: call `Autoencoder(…)`, "
            f"`Autoencoder.load` and `add` within `with strategy.scope():`. Received: {strategy!r}, and weights that "
            "were created outside of its scope"
        )
    with strategy.scope():
        if not tf.distribute.has_strategy():
            return nullcontext()
    return strategy.scope()


def in_scope(train: Callable[..., T]) -> Callable[..., T]:
    """Decorates a method that trains a stack, so that it runs in the scope in which the levels were created.

    Raises:
        NotImplementedError: the steps on several devices would differ from those on one.
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
            "Training needs a `MirroredStrategy` or a `MultiWorkerMirroredStrategy`, which take the same step on all "
            "devices. "
            f"Received: {strategy!r}"
        )
    for level in levels:
        if strategy.num_replicas_in_sync > 1 and not level.is_judged_by_image:
            raise NotImplementedError(
                "On several devices, the loss must be a mean over images. With `KLSparsity` it depends on the mean of "
                'the whole batch, and with `mask_value` or `missing="ignore"`, devices have unequal numbers of values. '
                "Train this level on one device. "
                f"Received: {level!r}"
            )


def change(levels: Sequence[Level], apply: Callable[[], Any], *, on_all_workers: bool = False) -> None:
    """Changes levels. With several workers, the chief changes its levels and the others copy the result.

    Args:
        levels: the levels.
        apply: changes the levels.
        on_all_workers: whether all workers call `apply`, because they share the work.
    """
    if not has_workers():
        apply()
        return

    def changed() -> State:
        if not on_all_workers:
            apply()
        return state_of(levels)

    if on_all_workers:
        together(apply)
    take_over(levels, *of_chief(changed))
