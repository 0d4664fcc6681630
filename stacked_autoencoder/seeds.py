"""Where random numbers outside of Keras come from."""

from __future__ import annotations

import numpy as np


def rng_of(seed: int | None = None) -> np.random.Generator:
    """A generator of its own; without a seed numpy's global state decides, which `keras.utils.set_random_seed` sets."""
    return np.random.default_rng(np.random.randint(2**31) if seed is None else seed)


class Passes:
    """What shuffles each pass over the data: a generator that only a seed and the number of the pass decide.

    Args:
        seed: `None` for data that keep their order.
        first: number of the first pass, for training that goes on.
    """

    def __init__(self, seed: int | None, first: int = 0) -> None:
        self.seed = seed
        self.number = first

    @classmethod
    def drawn(cls, shuffle: bool, first: int) -> Passes:
        """With a seed drawn now, not when the data are read, so that `keras.utils.set_random_seed` fixes all orders."""
        return cls(int(rng_of().integers(2**31)) if shuffle else None, first)

    def next(self) -> np.random.Generator | None:
        number, self.number = self.number, self.number + 1
        return None if self.seed is None else np.random.default_rng([self.seed, number])
