"""The value range of images, and its scale inside the levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import tensorflow as tf

Range = tuple[float, float]

Values = TypeVar("Values", np.ndarray, tf.Tensor)
SIGNED: Range = (-1.0, 1.0)
UNIT: Range = (0.0, 1.0)
PIXELS: Range = (0.0, 255.0)
SLACK = 1e-3  # tolerance for rounding, as a share of half the range
DEEPEST = 32  # bits of an unsigned integer
# A float32 holds integers up to 2**24 exactly; these types hold larger ones, so they are scaled in float64.
WIDE = (tf.float64, tf.int32, tf.int64, tf.uint32, tf.uint64)


@dataclass(frozen=True)
class ValueRange:
    """The value range of the images of a stack.

    Users pass and receive images with values from `low` to `high`. Level 0 receives them in the range `level_ends`:

    | origin of the range | images of the user | images of level 0 |
    |---|---|---|
    | `"user"`: the argument `value_range` | `low` to `high` | [-1, 1], or [0, 1] for `value_range=(0, 1)` |
    | `"data"`: level 0 was trained; `"default"`: it was not | `low` to `high` | the same, unscaled |

    `uint8` images hold 0 to 255, which is scaled to the same range.

    Attributes:
        low, high: lowest and highest value.
        origin: where the range comes from.
        is_checked: whether images must lie in the range.
        missing: `"error"` if NaN is an error, `"ignore"` if it marks missing values.
    """

    low: float = -1.0
    high: float = 1.0
    origin: Literal["default", "data", "user"] = "default"
    is_checked: bool = True
    missing: Literal["error", "ignore"] = "error"

    @classmethod
    def given(
        cls, value_range: Any, is_checked: bool = True, missing: Literal["error", "ignore"] = "error"
    ) -> ValueRange:
        """Makes the range from the argument `value_range` of the user.

        Raises:
            ValueError: it is not two finite numbers, the lower one first.
        """
        is_pair = isinstance(value_range, Sequence) and not isinstance(value_range, str) and len(value_range) == 2
        ends = tuple(value_range) if is_pair or isinstance(value_range, np.ndarray) else ()
        numbers = (int, float, np.integer, np.floating)
        if (
            len(ends) != 2
            or not all(isinstance(end, numbers) and not isinstance(end, bool) and math.isfinite(end) for end in ends)
            or not ends[0] < ends[1]
        ):
            raise ValueError(
                "`value_range` must be two finite numbers (low, high), low < high: the lowest and the highest value "
                f"that images can have, such as (0, 65535). Received: value_range={value_range!r}"
            )
        return cls(float(ends[0]), float(ends[1]), "user", is_checked, missing)

    @property
    def ends(self) -> Range:
        return self.low, self.high

    @property
    def level_ends(self) -> Range:
        """The range of the images that level 0 receives."""
        if self.origin != "user":
            return self.ends
        return UNIT if self.ends == UNIT else SIGNED

    @property
    def is_scaled(self) -> bool:
        """Whether float images are scaled on the way to level 0."""
        return self.ends != self.level_ends

    @property
    def pixel_ends(self) -> Range:
        """The values of level 0 for 0 and 255 of `uint8` images."""
        return UNIT if self.level_ends == UNIT else SIGNED

    @property
    def takes_pixels(self) -> bool:
        """Whether `uint8` images are accepted: 0 to 255 then stand for `low` to `high`."""
        if self.origin != "user" or not self.is_scaled:
            return True
        return self.low == 0 and self.high in {2.0**bits - 1 for bits in range(1, DEEPEST + 1)}

    @property
    def reads_deep(self) -> bool:
        """Whether picture files are read as float32, since 8 bits cannot hold the range."""
        return self.origin == "user" and self.ends != PIXELS

    @property
    def key(self) -> str:
        """Text that is part of the fingerprint of encodings, since they depend on the scale; empty without scaling."""
        return f"{self.low!r} to {self.high!r}" if self.is_scaled else ""

    def found(self, ends: Range) -> ValueRange:
        """Returns the range after level 0 was trained on images with these extremes.

        A range that images are checked against stays. Otherwise the extremes replace it.
        """
        if self.origin == "user" or (self.origin == "data" and self.is_checked):
            return self
        return replace(self, low=ends[0], high=ends[1], origin="data")

    def stated(self, value_range: Any) -> ValueRange:
        """Returns the range that a user assigns afterwards. It must not change how float images are scaled for level 0.

        Raises:
            ValueError: it would change the scaling.
        """
        stated = ValueRange.given(value_range, self.is_checked, self.missing)
        if stated != self and (self.is_scaled or stated.is_scaled):
            raise ValueError(
                "`value_range` would change the scale of the images that the levels were made for. Make another "
                "Autoencoder with this `value_range`; only (-1, 1) and (0, 1) can be assigned. "
                f"Received: value_range={value_range!r}"
            )
        return stated

    def to_level(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Converts images of the user to float32 on the scale of level 0."""
        dtype = tf.as_dtype(images.dtype)
        if dtype == tf.uint8:
            low, high = self.pixel_ends
            return tf.cast(images, tf.float32) / (255.0 / (high - low)) + low
        if not self.is_scaled:
            return tf.cast(images, tf.float32)
        return tf.cast(self._scaled(tf.cast(images, tf.float64 if dtype in WIDE else tf.float32)), tf.float32)

    def from_level(self, values: Values) -> Values:
        """Converts decoded values of level 0 to float32 from `low` to `high`, without clipping."""
        if not self.is_scaled:
            return values
        start, stop = self.level_ends
        scaled = (values - np.float32(start)) * np.float32((self.high - self.low) / (stop - start))
        return scaled + np.float32(self.low)

    def to_user(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Converts images of the user to float32 from `low` to `high`, like the images that `decode` returns."""
        if tf.as_dtype(images.dtype) == tf.uint8:
            return self.from_level(self.to_level(images))
        return tf.cast(images, tf.float32)

    def to_level_extremes(self, low: float, high: float) -> Range:
        """Converts the lowest and highest value of float images to the scale of level 0."""
        return (self._scaled(low), self._scaled(high)) if self.is_scaled else (low, high)

    def _scaled(self, values: Any) -> Any:
        """Scales numbers or a tensor from the range of the user to the range of level 0."""
        start, stop = self.level_ends
        return (values - self.low) * ((stop - start) / (self.high - self.low)) + start


UNKNOWN = ValueRange()  # of a stack that was not trained
UNLIMITED = ValueRange(is_checked=False)  # any finite values, unscaled
