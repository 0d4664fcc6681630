"""Batches that several workers read together, each its part, and what they find in them, summed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from stacked_autoencoder.principal import Stream
from stacked_autoencoder.workers import place, sum_of_workers

Part = tuple[int, int]  # index, count: the batches index, index + count, …


class Alone:
    """A stream that one process reads.

    Attributes:
        readers: number of processes.
    """

    readers = 1

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def own(self) -> Iterable[np.ndarray]:
        """The batches that this process reads."""
        return self.stream()

    def summed(self, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The sum over all readers of what each makes of its batches."""
        return make()


class SharedStream(Alone):
    """A stream that all workers have, in one order, and read together. Called, it gives all of its batches.

    Args:
        stream: gives a part of the batches.
    """

    def __init__(self, stream: Callable[[Part], Iterable[np.ndarray]]) -> None:
        self.stream, self.part = stream, place()
        self.readers = self.part[1]

    def __call__(self) -> Iterable[np.ndarray]:
        return self.stream((0, 1))

    def own(self) -> Iterable[np.ndarray]:
        return self.stream(self.part)

    def summed(self, make: Callable[[], np.ndarray]) -> np.ndarray:
        return sum_of_workers(make)
