"""Encodings as whole numbers of one byte, with a scale for each channel of a shard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVELS = 255  # steps between the lowest and the highest value of a channel
LOWEST = -128  # the number of the lowest value


class Scale(NamedTuple):
    """The scale of a shard: `value = low + (number + 128) * step`.

    Attributes:
        low: float64 array `(channels,)`, lowest value of each channel in the shard.
        step: float64 array `(channels,)`, distance of neighbouring numbers, 0 for a channel that is constant.
    """

    low: np.ndarray
    step: np.ndarray

    @classmethod
    def of(cls, pieces: Sequence[np.ndarray]) -> Scale:
        """Returns the scale that covers all values of a shard, so that none is clipped.

        Args:
            pieces: float arrays `(rows, …, channels)`.
        """
        ends = [(piece.min(axes), piece.max(axes)) for piece in pieces for axes in [tuple(range(piece.ndim - 1))]]
        low, high = (np.asarray(each, np.float64) for each in zip(*ends, strict=True))
        return cls(low.min(axis=0), (high.max(axis=0) - low.min(axis=0)) / LEVELS)

    def quantised(self, values: np.ndarray) -> np.ndarray:
        """Returns float values `(…, channels)` as int8. The error is at most half a step."""
        steps = (values - self.low.astype(np.float32)) / np.where(self.step > 0, self.step, 1.0).astype(np.float32)
        return (np.clip(np.rint(steps), 0, LEVELS) + LOWEST).astype(np.int8)


def restored(numbers: np.ndarray, low: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Returns int8 numbers `(…, channels)` as float32 values; `low` and `step` are broadcast to their shape."""
    values = numbers.astype(np.float32)
    values *= step.astype(np.float32)
    values += (low - LOWEST * step).astype(np.float32)
    return values
