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
from typing import Any, TypeVar

import tensorflow as tf

from stacked_autoencoder.distribution import has_workers, of_chief, together
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.saving.state import State, state_of, take_over
from stacked_autoencoder.utils.seeds import random_state, set_random_state

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
                "finds for its own. `KLSparsity` compares the mean of the whole batch, and `mask_value` and "
                '`missing="ignore"` leave other numbers of values to each device: train this level on one. '
                f"Received: {level!r}"
            )


def change(levels: Sequence[Level], apply: Callable[[], Any], *, on_all_workers: bool = False) -> None:
    """Changes levels; with several workers, only the chief's, and the others copy the result.

    Args:
        apply: changes the levels.
        on_all_workers: whether all workers call `apply`, since they share the work.
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
