"""Random numbers outside of Keras: generators, the order of each epoch, and their state in checkpoints."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from stacked_autoencoder.utils.checks import is_number, is_whole, require


def rng_of(seed: int | None = None) -> np.random.Generator:
    """Returns a generator. Without a seed, the global state of NumPy (`keras.utils.set_random_seed`) decides."""
    return np.random.default_rng(np.random.randint(2**31) if seed is None else seed)


class EpochShuffler:
    """Makes the generator that shuffles each pass over the data, from a seed and the number of the pass.

    Args:
        seed: `None` keeps the order of the data.
        first: number of the first pass, for training that is resumed.
    """

    def __init__(self, seed: int | None, first: int = 0) -> None:
        self.seed = seed
        self.number = first

    @classmethod
    def drawn(cls, shuffle: bool, first: int) -> EpochShuffler:
        """Draws the seed now, not when the data are read, so that `keras.utils.set_random_seed` fixes all orders."""
        return cls(int(rng_of().integers(2**31)) if shuffle else None, first)

    def next(self) -> np.random.Generator | None:
        number, self.number = self.number, self.number + 1
        return None if self.seed is None else np.random.default_rng([self.seed, number])


# === State of the random numbers ===


def random_state() -> dict[str, Any]:
    """Returns the state of the random numbers of Python and NumPy, which seed all others in this package."""
    name, keys, *rest = np.random.get_state()
    return {"python": random.getstate(), "numpy": [name, keys.tolist(), *rest]}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Sets the state that `random_state` returned, also after a conversion to JSON and back.

    Raises:
        ValueError: it is not such a state. Nothing is changed.
    """
    check_random_state(state)
    version, inner, gauss = state["python"]
    random.setstate((version, tuple(inner), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the random numbers of Python and NumPy, and restores their state on exit."""
    state = random_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        set_random_state(state)


def check_random_state(state: Any) -> None:
    """Raises `ValueError` unless this is the state of a Mersenne Twister of Python and one of NumPy."""
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
        raise ValueError("the state of the random numbers isn't complete") from error
    require(all(fits), "the state of the random numbers isn't valid")
