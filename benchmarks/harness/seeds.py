"""Repeats a measurement with several seeds."""

from collections.abc import Callable

import keras


def of_seeds(measure: Callable[[], float], seeds: int) -> list[float]:
    """The results of a measurement that starts with each of the seeds from 0."""
    results = []
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        results.append(measure())
    return results
