"""Inputs and what should be restored from them, in step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from stacked_autoencoder.sources.base import Source


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
        if self.targets is None:
            return self.inputs.dataset(batch_size, shuffle=shuffle)
        state = np.random.get_state()  # that decides the order, the same for both
        inputs = self.inputs.dataset(batch_size, shuffle=shuffle)
        np.random.set_state(state)
        return tf.data.Dataset.zip((inputs, self.targets.dataset(batch_size, shuffle=shuffle)))

    def from_step(self, batch_size: int, step: int) -> tf.data.Dataset:
        """Shuffled batches of `dataset` without end, as they come after so many."""
        if self.targets is None:
            return self.inputs.from_step(batch_size, step)
        state = np.random.get_state()
        inputs = self.inputs.from_step(batch_size, step)
        np.random.set_state(state)
        return tf.data.Dataset.zip((inputs, self.targets.from_step(batch_size, step)))

    def batches(
        self, batch_size: int, *, shuffle: bool = False, most: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`(inputs, targets)` as numpy arrays, at most `most` of them."""
        if self.targets is None:
            yield from ((batch, batch) for batch in self.inputs.batches(batch_size, shuffle=shuffle, most=most))
            return
        dataset = self.dataset(batch_size, shuffle=shuffle)
        yield from (dataset if most is None else dataset.take(most)).as_numpy_iterator()
