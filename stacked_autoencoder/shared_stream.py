"""Batches that several workers read together, each its part, and what they find in them, summed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from stacked_autoencoder.principal import Stream
from stacked_autoencoder.workers import has_workers, place, sum_of_workers

Part = tuple[int, int]  # index, count: the batches index, index + count, …


class Alone:
    """A stream that one process reads.

    Attributes:
        own: gives the batches that this process reads, all of them.
        readers: number of processes.
    """

    readers = 1

    def __init__(self, stream: Stream) -> None:
        self.own = stream

    def summed(self, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The sum over all readers of what each makes of its batches."""
        return make()


class SharedStream(Alone):
    """A stream that all workers have, in one order, and read together. Called, it gives all of its batches.

    Args:
        stream: gives a part of the batches.
    """

    def __init__(self, stream: Callable[[Part], Iterable[np.ndarray]]) -> None:
        part = place()
        super().__init__(lambda: stream(part))
        self.whole = lambda: stream((0, 1))
        self.readers = part[1]

    def __call__(self) -> Iterable[np.ndarray]:
        return self.whole()

    def summed(self, make: Callable[[], np.ndarray]) -> np.ndarray:
        return sum_of_workers(make)


def shared(stream: Callable[[Part], Iterable[np.ndarray]]) -> Stream:
    """All of a stream, which workers read together where there are several."""
    return SharedStream(stream) if has_workers() else lambda: stream((0, 1))
