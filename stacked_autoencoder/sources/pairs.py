"""Inputs and what should be restored from them, in step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from stacked_autoencoder.sources.base import Source
from stacked_autoencoder.sources.released import iterated


class Pairs(NamedTuple):
    """What a level trains on.

    Attributes:
        inputs: what the level sees.
        targets: what it should restore, one for each input, from a source of the same kind; `None` for the inputs.
    """

    inputs: Source
    targets: Source | None = None

    def dataset(self, batch_size: int, *, shuffle: bool = False) -> tf.data.Dataset:
        """Batches of inputs, or of `(inputs, targets)`."""
        return self._in_step(lambda source: source.dataset(batch_size, shuffle=shuffle))

    def from_step(self, batch_size: int, step: int) -> tf.data.Dataset:
        """Shuffled batches of `dataset` without end, as they come after so many."""
        return self._in_step(lambda source: source.from_step(batch_size, step))

    def batches(
        self, batch_size: int, *, shuffle: bool = False, most: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`(inputs, targets)` as numpy arrays, at most `most` of them."""
        if self.targets is None:
            yield from ((batch, batch) for batch in self.inputs.batches(batch_size, shuffle=shuffle, most=most))
            return
        dataset = self.dataset(batch_size, shuffle=shuffle)
        yield from iterated(dataset if most is None else dataset.take(most))

    def _in_step(self, make: Callable[[Source], tf.data.Dataset]) -> tf.data.Dataset:
        if self.targets is None:
            return make(self.inputs)
        state = np.random.get_state()  # that decides the order, the same for both
        inputs = make(self.inputs)
        np.random.set_state(state)
        return tf.data.Dataset.zip((inputs, make(self.targets)))
