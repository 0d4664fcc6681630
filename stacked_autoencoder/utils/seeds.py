"""Random numbers outside of Keras: generators, the order of each epoch, and their state for checkpoints."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from stacked_autoencoder.utils.checks import is_number, is_whole, require


def rng_of(seed: int | None = None) -> np.random.Generator:
    """A generator of its own; without a seed numpy's global state decides, which `keras.utils.set_random_seed` sets."""
    return np.random.default_rng(np.random.randint(2**31) if seed is None else seed)


class EpochShuffler:
    """What shuffles each pass over the data: a generator that only a seed and the number of the pass decide.

    Args:
        seed: `None` for data that keep their order.
        first: number of the first pass, for training that goes on.
    """

    def __init__(self, seed: int | None, first: int = 0) -> None:
        self.seed = seed
        self.number = first

    @classmethod
    def drawn(cls, shuffle: bool, first: int) -> EpochShuffler:
        """With a seed drawn now, not when the data are read, so that `keras.utils.set_random_seed` fixes all orders."""
        return cls(int(rng_of().integers(2**31)) if shuffle else None, first)

    def next(self) -> np.random.Generator | None:
        number, self.number = self.number, self.number + 1
        return None if self.seed is None else np.random.default_rng([self.seed, number])


# === Random numbers ===


def random_state() -> dict[str, Any]:
    """Of Python's and of numpy's random numbers, from which all others here are drawn."""
    name, keys, *rest = np.random.get_state()
    return {"python": random.getstate(), "numpy": [name, keys.tolist(), *rest]}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Sets what `random_state` has returned, or what JSON has made of it.

    Raises:
        ValueError: it isn't that; nothing is set.
    """
    check_random_state(state)
    version, inner, gauss = state["python"]
    random.setstate((version, tuple(inner), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))


def check_random_state(state: Any) -> None:
    """Raises `ValueError` if this isn't the state of a Mersenne twister of Python's and one of numpy's."""
    words = 624
    try:
        (version, (*inner, position), gauss), (name, keys, *rest) = state["python"], state["numpy"]
        place, has_gauss, cached = rest
        fits = [
            version == random.getstate()[0],
            len(inner) == len(keys) == words,
            all(is_whole(key) and key < 1 << 32 for key in (*inner, *keys)),
            all(is_whole(each) and each <= words for each in (position, place)),
            gauss is None or is_number(gauss),
            name == "MT19937",
            has_gauss in (0, 1),
            is_number(cached),
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("the state of the random numbers isn't whole") from error
    require(all(fits), "the state of the random numbers isn't one")
