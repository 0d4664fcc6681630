"""Encodings as whole numbers of one byte, with a scale for each channel of a shard.

The numbers have quadratic steps, which are small near the mean, where most values lie. Encodings have a few values far
from the mean; with equal steps up to these, rounding would add three times as much to the loss of reconstructions.

Reference:
    Panter and Dite 1951, "Quantization distortion in pulse-count modulation with nonuniform spacing of levels".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LARGEST = 127  # number of the value that is farthest from the mean


class Scale(NamedTuple):
    """The scale of a shard: `value = center + sign(number) * (number / 127)**2 * reach`.

    Attributes:
        center: float64 array `(channels,)`, mean of each channel in the shard.
        reach: float64 array `(channels,)`, largest distance of a value from it, 0 for a channel that is constant.
    """

    center: np.ndarray
    reach: np.ndarray

    @classmethod
    def of(cls, pieces: Sequence[np.ndarray]) -> Scale:
        """Returns the scale that covers all values of a shard, so that none is clipped.

        Args:
            pieces: float arrays `(rows, …, channels)`.
        """
        values = [piece.reshape(-1, piece.shape[-1]) for piece in pieces]
        center = sum(each.sum(axis=0, dtype=np.float64) for each in values) / sum(map(len, values))
        return cls(center, np.max([np.abs(each - center).max(axis=0) for each in values], axis=0))

    def quantised(self, values: np.ndarray) -> np.ndarray:
        """Returns float values `(…, channels)` as int8. The error is at most 1/127 of `reach`."""
        offsets = (values - self.center.astype(np.float32)) / np.where(self.reach > 0, self.reach, 1).astype(np.float32)
        numbers = np.copysign(np.rint(LARGEST * np.sqrt(np.minimum(np.abs(offsets), 1))), offsets)
        return numbers.astype(np.int8)


def restored(numbers: np.ndarray, center: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Returns int8 numbers `(…, channels)` as float32 values; `center` and `reach` are broadcast to their shape."""
    values = numbers.astype(np.float32)
    values *= np.abs(values)
    values *= (reach / LARGEST**2).astype(np.float32)
    values += center.astype(np.float32)
    return values
