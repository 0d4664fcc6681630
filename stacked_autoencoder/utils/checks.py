"""Checks of arguments, images and plain values.

The errors say what was expected, what was received, and how to fix it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from stacked_autoencoder.utils.shape_advice import other_axes, other_channels

Shape = Sequence[int | None]


SLACK = 1e-3  # what rounding may add to [-1, 1]
AXES = {1: "(features)", 2: "(timesteps, features)", 3: "(H, W, C)"}
MISSING = ("error", "ignore")


def described(shape: Shape) -> str:
    """What has such a shape, in words."""
    return f"{('vectors', 'sequences', 'images')[len(shape) - 1]} {AXES[len(shape)]}"


def check_image_shape(received: Shape, expected: Shape, *, index: int | None = None, batched: bool = False) -> None:
    """Raises `ValueError` unless an image, or whatever the model was made for, has that shape.

    Args:
        received: without the batch axis.
        expected: what the model was made for, `None` for a side that may differ.
        index: of the image in the data.
        batched: whether `received` is the shape of a whole array, whose number of axes is wrong.
    """
    which = "" if index is None else f"image {index} of "
    axes = f"(N, {AXES[len(expected)][1:]}"
    if batched or len(received) != len(expected):
        advice = other_axes(received, expected) if batched else ""
        raise ValueError(
            f"`images` must have the shape {axes}.{' ' if advice else ''}{advice} Received: shape={tuple(received)}"
        )
    if len(expected) < 3:
        if any(wanted not in (None, side) for side, wanted in zip(received, expected, strict=True) if side is not None):
            is_turned = tuple(received) == tuple(reversed(expected))
            turn = "Swap the axes with `images.swapaxes(1, 2)`, or make" if is_turned and index is None else "Make"
            raise ValueError(
                f"The model was made for {described(expected)} of the shape {tuple(expected)}. {turn} the Autoencoder "
                f"with `shape={tuple(received)}`. Received: {which}shape={tuple(received)}"
            )
        return
    if received[-1] != expected[-1]:
        advice = other_channels(received, expected[-1], "images" if index is None else "image")
        advice = f"{advice} Or make" if advice else "Make"
        raise ValueError(
            f"The images have {received[-1]} channels, the model was made for {expected[-1]}. {advice} the Autoencoder "
            f"with `shape=(None, None, {received[-1]})`. Received: {which}shape={tuple(received)}"
        )
    for side, wanted in zip(received[:2], expected[:2], strict=True):
        if wanted is not None and side is not None and side != wanted:
            raise ValueError(
                f"The model was made for images of shape {tuple(expected)}. Resize the images, or make the Autoencoder "
                f"with `shape=(None, None, {expected[-1]})`, which takes any size. Received: {which}"
                f"shape={tuple(received)}"
            )


def check_size(size: Shape, factor: int) -> None:
    """Raises `ValueError` for an image `(H, W, …)` smaller than the stack's factor."""
    if any(side is not None and side < factor for side in size[:2]):
        raise ValueError(
            f"Images must be at least {factor} pixels high and wide, one factor of the whole stack. Use fewer levels "
            f"or fewer `n_scalings`, or larger images. Received: height and width {tuple(size[:2])}"
        )


def check_values(
    images: np.ndarray, first_index: int, check_range: bool, missing: str = "error"
) -> tuple[float, float]:
    """Raises `ValueError` for floats that aren't finite or not in [-1, 1]; returns their extremes.

    Args:
        images: a batch.
        first_index: of `images[0]` in the data, so that the message can name the image.
        check_range: whether values must lie in [-1, 1], or only be finite.
        missing: `"ignore"` where NaN stands for a missing value, which has no part in the extremes. If all are missing,
            the extremes are an empty range from infinity to minus infinity.
    """
    low, high = float(images.min()), float(images.max())
    axes = tuple(range(1, images.ndim))
    if missing == "ignore" and np.isnan(low):
        low, high = (float(each.reduce(images, axis=None)) for each in (np.fmin, np.fmax))
        if np.isnan(low):
            return np.inf, -np.inf
    if not (np.isfinite(low) and np.isfinite(high)):
        is_bad = np.isinf(images) if missing == "ignore" else ~np.isfinite(images)
        bad = int(np.argmax(is_bad.any(axis=axes)))
        raise ValueError(_not_finite(images[bad], first_index + bad, missing))
    if check_range and (low < -1 - SLACK or high > 1 + SLACK):
        bad = first_index + int(np.argmax((np.abs(images) > 1 + SLACK).any(axis=axes)))
        looks = " They look like pixels of 0 to 255." if low >= 0 and 1 + SLACK < high <= 255 else ""
        raise ValueError(
            f"Float images must lie in [-1, 1].{looks} Scale them with `images / 127.5 - 1`, or pass them as uint8 "
            "(`images.astype('uint8')`); for data that isn't pixels make the Autoencoder with `check_range=False`. "
            f"Received: values from {low:g} to {high:g}, first in image {bad}"
        )
    return low, high


def _not_finite(image: np.ndarray, index: int, missing: str) -> str:
    """The message for an image, a sequence or a vector with NaN or infinite values, and what can be done."""
    axes = "axis=1" if image.ndim == 1 else f"axis={tuple(range(1, image.ndim + 1))}"
    drop = f"`images[np.isfinite(images).all({axes})]` keeps the good ones"
    if np.isinf(image).any():
        advice = f"{drop}."
        if missing == "ignore":
            advice += " `np.where(np.isinf(images), np.nan, images)` takes infinite values for missing ones."
    else:
        advice = (
            f'{drop}, `np.nan_to_num(images)` puts 0 in place of NaN, and an Autoencoder made with `missing="ignore"` '
        )
        advice += "leaves NaN out of the loss."
        if image.ndim == 2:
            advice += (
                " For steps that are missing as a whole, mark them with a number that the data don't have: "
                "`np.nan_to_num(images, nan=-9.0)` and `SequenceLevel(…, mask_value=-9.0)`."
            )
    return (
        f"{('Vector', 'Sequence', 'Image')[image.ndim - 1]} {index} holds NaN or infinite values, which would spoil "
        f"every weight of the model. Drop or repair it: {advice}"
    )


def check_encodings(received: Shape, expected: Sequence[Shape], level: int) -> None:
    """Raises `ValueError` unless a batch of encodings of shape `received` is of a level.

    Args:
        received: shape with the batch axis.
        expected: the encoding shape of every level.
        level: the level they are said to come from.
    """

    def fits(shape: Shape) -> bool:
        return len(received) == len(shape) + 1 and all(
            wanted in (None, side) for side, wanted in zip(received[1:], shape, strict=True)
        )

    if fits(expected[level]):
        return
    shape = tuple(expected[level])
    others = [index for index in range(len(expected)) if fits(expected[index])]
    hint = f" They fit level {others[0]}: `decode(encodings, level={others[0]})`." if others else ""
    if len(received) == len(shape):
        hint = " This looks like one encoding: add the batch axis with `encoding[None]`."
    sides = ", ".join("any" if side is None else str(side) for side in shape)
    raise ValueError(f"Encodings of level {level} have the shape (N, {sides}).{hint} Received: shape={tuple(received)}")


def positive_int(name: str, value: Any, *, least: int = 1) -> int:
    """Returns `value` as an `int`, or says which argument should have been one."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}. Received: {name}={value!r}")
    return int(value)


def positive_ints(name: str, values: int | Sequence[int]) -> list[int]:
    """Returns one or several positive whole numbers as a list, or says which argument should have been that."""
    several = list(values) if isinstance(values, (list, tuple)) else [values]
    if not several:
        raise ValueError(f"`{name}` must be at least one whole number. Received: {name}={values!r}")
    return [positive_int(name, value) for value in several]


def non_negative(name: str, value: Any) -> float:
    """Returns `value` as a `float`, or says which argument should have been a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be a number of at least 0. Received: {name}={value!r}")
    return float(value)


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """`"did you mean 'relu'? "`, for a message; nothing if no known name is near."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? " if near else ""


SMALLEST = 1e-12  # a variance of zero still has to be divided by


# === Checks ===


def require(condition: object, why: str) -> None:
    if not condition:
        raise ValueError(why)


def is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
