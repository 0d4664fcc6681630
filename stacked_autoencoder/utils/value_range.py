"""The values that images may have, and their scale inside the levels."""

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
SLACK = 1e-3  # share of half a range that rounding may exceed it by
DEEPEST = 32  # bits of an unsigned integer
# A float32 holds integers up to 2**24 exactly; these types hold larger ones, so they are scaled in float64.
WIDE = (tf.float64, tf.int32, tf.int64, tf.uint32, tf.uint64)


@dataclass(frozen=True)
class ValueRange:
    """The values of the images of a stack.

    Users pass and get images with values from `low` to `high`. Level 0 sees them on the scale of `level_ends`:

    | origin of the range | images with values | level 0 sees |
    |---|---|---|
    | `"user"`: the argument `value_range` | from `low` to `high` | [-1, 1], or [0, 1] for `value_range=(0, 1)` |
    | `"data"`: level 0 was trained, `"default"`: it was not | `low` to `high`, as they are | the same |

    `uint8` images hold 0 to 255, which is scaled to the same.

    Attributes:
        low, high: lowest and highest value.
        origin: where the range comes from.
        is_checked: whether images must lie in the range.
        missing: what NaN is: `"error"`, or `"ignore"` for missing values.
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
        """The range that a user gives as an argument.

        Raises:
            ValueError: it isn't two finite numbers, the lower one first.
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
                f"that images may have, such as (0, 65535). Received: value_range={value_range!r}"
            )
        return cls(float(ends[0]), float(ends[1]), "user", is_checked, missing)

    @property
    def ends(self) -> Range:
        return self.low, self.high

    @property
    def level_ends(self) -> Range:
        """The range that level 0 sees."""
        if self.origin != "user":
            return self.ends
        return UNIT if self.ends == UNIT else SIGNED

    @property
    def is_scaled(self) -> bool:
        """Whether float images are scaled on the way to level 0."""
        return self.ends != self.level_ends

    @property
    def pixel_ends(self) -> Range:
        """What 0 and 255 of `uint8` images become for level 0."""
        return UNIT if self.level_ends == UNIT else SIGNED

    @property
    def takes_pixels(self) -> bool:
        """Whether 0 to 255 of `uint8` images stand for `low` to `high`."""
        if self.origin != "user" or not self.is_scaled:
            return True
        return self.low == 0 and self.high in {2.0**bits - 1 for bits in range(1, DEEPEST + 1)}

    @property
    def reads_deep(self) -> bool:
        """Whether pictures in files are read as float32, since 8 bits don't hold the range."""
        return self.origin == "user" and self.ends != PIXELS

    @property
    def key(self) -> str:
        """Text that differs where the same images become different encodings; empty for the default."""
        return f"{self.low!r} to {self.high!r}" if self.is_scaled else ""

    def found(self, ends: Range) -> ValueRange:
        """The range after level 0 was trained on images with such values.

        It stays where it was known before, since images are held to it; extremes that nothing is held to are replaced.
        """
        if self.origin == "user" or (self.origin == "data" and self.is_checked):
            return self
        return replace(self, low=ends[0], high=ends[1], origin="data")

    def stated(self, value_range: Any) -> ValueRange:
        """The range as a user states it afterwards, which must not change what level 0 sees of float images.

        Raises:
            ValueError: it would.
        """
        stated = ValueRange.given(value_range, self.is_checked, self.missing)
        if stated != self and (self.is_scaled or stated.is_scaled):
            raise ValueError(
                "The levels were made for images on the scale that they see now. Make another Autoencoder with this "
                f"`value_range`; only (-1, 1) and (0, 1) can be assigned. Received: value_range={value_range!r}"
            )
        return stated

    def to_level(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Images as users pass them → float32 on the scale of level 0."""
        dtype = tf.as_dtype(images.dtype)
        if dtype == tf.uint8:
            low, high = self.pixel_ends
            return tf.cast(images, tf.float32) / (255.0 / (high - low)) + low
        if not self.is_scaled:
            return tf.cast(images, tf.float32)
        return tf.cast(self._scaled(tf.cast(images, tf.float64 if dtype in WIDE else tf.float32)), tf.float32)

    def from_level(self, values: Values) -> Values:
        """The way back: what level 0 decodes → float32 from `low` to `high`, not clipped."""
        if not self.is_scaled:
            return values
        start, stop = self.level_ends
        scaled = (values - np.float32(start)) * np.float32((self.high - self.low) / (stop - start))
        return scaled + np.float32(self.low)

    def to_user(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Images as users pass them → float32 from `low` to `high`, as `decode` returns them."""
        if tf.as_dtype(images.dtype) == tf.uint8:
            return self.from_level(self.to_level(images))
        return tf.cast(images, tf.float32)

    def to_level_extremes(self, low: float, high: float) -> Range:
        """Lowest and highest value of float images → the same on the scale of level 0."""
        return (self._scaled(low), self._scaled(high)) if self.is_scaled else (low, high)

    def _scaled(self, values: Any) -> Any:
        """Numbers, or a tensor, from `low` to `high` → the same from end to end of the range of the levels."""
        start, stop = self.level_ends
        return (values - self.low) * ((stop - start) / (self.high - self.low)) + start


UNKNOWN = ValueRange()  # of pixels, until a stack is trained
UNLIMITED = ValueRange(is_checked=False)  # any finite values, as they are
