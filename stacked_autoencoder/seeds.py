"""Where random numbers outside of Keras come from."""

from __future__ import annotations

import numpy as np


def rng_of(seed: int | None = None) -> np.random.Generator:
    """A generator of its own; without a seed numpy's global state decides, which `keras.utils.set_random_seed` sets."""
    return np.random.default_rng(np.random.randint(2**31) if seed is None else seed)
