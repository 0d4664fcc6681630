"""Checks of arguments, images and plain values.

Each error names the rule, the value that was received, and a fix.

"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from stacked_autoencoder.utils.shape_advice import fits, other_axes, other_channels
from stacked_autoencoder.utils.value_range import SLACK, UNIT, ValueRange

Shape = Sequence[int | None]


AXES = {1: "(features)", 2: "(timesteps, features)", 3: "(H, W, C)"}
MISSING = ("error", "ignore")


def described(shape: Shape) -> str:
    """Returns a noun for data of this shape, such as `images (H, W, C)`."""
    return f"{('vectors', 'sequences', 'images')[len(shape) - 1]} {AXES[len(shape)]}"


def check_image_shape(received: Shape, expected: Shape, *, index: int | None = None, batched: bool = False) -> None:
    """Raises `ValueError` unless an image, sequence or vector has the expected shape.

    Args:
        received: shape without the batch axis.
        expected: shape that the model was made for, `None` for a side that may differ.
        index: position of the image in the data.
        batched: whether `received` is the shape of a whole array with the wrong number of axes.
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
            is_transposed = tuple(received) == tuple(reversed(expected))
            fix = "Swap the axes with `images.swapaxes(1, 2)`, or make" if is_transposed and index is None else "Make"
            raise ValueError(
                f"The model was made for {described(expected)} of shape {tuple(expected)}. {fix} the Autoencoder "
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
                f"with `shape=(None, None, {expected[-1]})`, which accepts any size. Received: {which}"
                f"shape={tuple(received)}"
            )


def check_size(size: Shape, factor: int) -> None:
    """Raises `ValueError` for images `(H, W, …)` with a side shorter than the factor of the stack."""
    if any(side is not None and side < factor for side in size[:2]):
        raise ValueError(
            f"Images must be at least {factor} pixels high and wide: the stack divides height and width by {factor}. "
            f"Use fewer levels, a smaller `n_scalings` or larger images. Received: height and width {tuple(size[:2])}"
        )


def check_numeric(dtype: np.dtype) -> None:
    """Raises `ValueError` unless the dtype is numeric or boolean."""
    if dtype.kind not in "biuf":
        raise ValueError(f"`images` must be numbers: integers, floats or booleans. Received: dtype={dtype}")


def check_takes_pixels(values: ValueRange) -> None:
    """Raises `ValueError` if `uint8` images cannot be scaled to the value range of the stack."""
    if not values.takes_pixels:
        low, high = values.ends
        raise ValueError(
            f"The images are uint8, with values from 0 to 255, and the value range of the stack is from {low:g} to "
            f"{high:g}. If the pixels already are values in that range, pass `images.astype('float32')`. Otherwise "
            f"scale them to it: `images / 255 * {high - low:g} + {low:g}`. Received: dtype=uint8"
        )


def check_values(images: np.ndarray, first_index: int, values: ValueRange) -> tuple[float, float]:
    """Checks that images are finite and in the value range, and returns their lowest and highest value.

    Args:
        images: a batch, of any numeric dtype except `uint8`.
        first_index: position of `images[0]` in the data, so that the message can name the image.
        values: value range of the stack. With `is_checked`, images must lie in it. With `missing="ignore"`, NaN marks
            a missing value and is left out of the extremes. If all values are missing, the extremes are infinity and
            minus infinity.

    Raises:
        ValueError: an image is not finite, lies outside of the range, or has integers of unknown range.
    """
    check_numeric(images.dtype)
    low, high = float(images.min()), float(images.max())
    if images.dtype.kind in "iu" and values.is_checked and values.origin != "user":
        raise _integers_without_range(images, low, high)
    axes = tuple(range(1, images.ndim))
    if values.missing == "ignore" and np.isnan(low):
        low, high = (float(each.reduce(images, axis=None)) for each in (np.fmin, np.fmax))
        if np.isnan(low):
            return np.inf, -np.inf
    if not (np.isfinite(low) and np.isfinite(high)):
        is_bad = np.isinf(images) if values.missing == "ignore" else ~np.isfinite(images)
        bad = int(np.argmax(is_bad.any(axis=axes)))
        raise ValueError(_not_finite(images[bad], first_index + bad, values.missing))
    if not values.is_checked:
        return low, high
    lowest, highest = values.ends if values.origin == "user" or values.ends == UNIT else (-1.0, 1.0)
    slack = SLACK * (highest - lowest) / 2
    if low < lowest - slack or high > highest + slack:
        outside = (images < lowest - slack) | (images > highest + slack)
        bad = first_index + int(np.argmax(outside.any(axis=axes)))
        received = f"Received: values from {low:g} to {high:g}, first in image {bad}"
        raise ValueError(f"{_out_of_range(values, low, high)} {received}")
    return low, high


def _integers_without_range(images: np.ndarray, low: float, high: float) -> ValueError:
    dtype = images.dtype
    highest = np.iinfo(dtype).max if dtype.kind == "u" else f"{high:g}"
    fix = "make the Autoencoder with the lowest and the highest value that such images can have, for example "
    fix += f"`value_range=({0 if low >= 0 else f'{low:g}'}, {highest})`"
    if low >= 0 and high <= 255:
        fix = f"convert pixels from 0 to 255 with `images.astype('uint8')`, or {fix}"
    return ValueError(
        f"`images` are {dtype}, and the range of such values is not known: {fix}. Received: dtype={dtype}, values "
        f"from {low:g} to {high:g}"
    )


def _out_of_range(values: ValueRange, low: float, high: float) -> str:
    if values.origin == "user":
        return (
            f"The images must lie in the `value_range` of the Autoencoder, from {values.low:g} to {values.high:g}. "
            "Make it with the lowest and the highest value that images can have, or clip them with "
            f"`images.clip({values.low:g}, {values.high:g})`."
        )
    if values.ends == UNIT and low >= -1 - SLACK and high <= 1 + SLACK:
        return (
            "The stack was trained on images in [0, 1], and these have negative values. Scale them with "
            "`(images + 1) / 2` if they lie in [-1, 1]."
        )
    guess = " They look like pixels of 0 to 255." if low >= 0 and 1 + SLACK < high <= 255 else ""
    scaling = "images / 255" if values.ends == UNIT else "images / 127.5 - 1"
    expected = "[0, 1], like the images that the stack was trained on" if values.ends == UNIT else "[-1, 1]"
    return (
        f"Float images must lie in {expected}.{guess} Scale pixels from 0 to 255 with `{scaling}`, or pass them as "
        "uint8 (`images.astype('uint8')`). For other values, make the Autoencoder with `value_range=(low, high)`, the "
        "lowest and highest possible value, or with `check_range=False`, which accepts any finite values."
    )


def _not_finite(image: np.ndarray, index: int, missing: str) -> str:
    """The message for an image, a sequence or a vector with NaN or infinite values, with the possible fixes."""
    axes = "axis=1" if image.ndim == 1 else f"axis={tuple(range(1, image.ndim + 1))}"
    drop = f"`images[np.isfinite(images).all({axes})]` keeps only finite ones"
    if np.isinf(image).any():
        advice = f"{drop}."
        if missing == "ignore":
            advice += " `np.where(np.isinf(images), np.nan, images)` marks infinite values as missing."
    else:
        advice = f'{drop}, `np.nan_to_num(images)` replaces NaN by 0, and an Autoencoder made with `missing="ignore"` '
        advice += "leaves NaN out of the loss."
        if image.ndim == 2:
            advice += (
                " If whole steps are missing, mark them with a number that does not occur in the data: "
                "`np.nan_to_num(images, nan=-9.0)` and `SequenceLevel(…, mask_value=-9.0)`."
            )
    return (
        f"{('Vector', 'Sequence', 'Image')[image.ndim - 1]} {index} holds NaN or infinite values, which would make "
        f"every weight of the model NaN. Drop or repair it: {advice}"
    )


def check_encodings(received: Shape, expected: Sequence[Shape], level: int) -> None:
    """Raises `ValueError` unless a batch of encodings has the shape that a level outputs.

    Args:
        received: shape with the batch axis.
        expected: the encoding shape of every level.
        level: index of the level that they should come from.
    """

    if fits(received[1:], expected[level]):
        return
    shape = tuple(expected[level])
    others = [index for index in range(len(expected)) if fits(received[1:], expected[index])]
    hint = f" They fit level {others[0]}: `decode(encodings, level={others[0]})`." if others else ""
    if len(received) == len(shape):
        hint = " This looks like one encoding: add the batch axis with `encoding[None]`."
    sides = ", ".join("any" if side is None else str(side) for side in shape)
    raise ValueError(f"Encodings of level {level} have the shape (N, {sides}).{hint} Received: shape={tuple(received)}")


def is_real(value: Any) -> bool:
    """Whether this is a real number of Python or NumPy. Booleans are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def whole(value: Any) -> int | None:
    """Returns a whole number (`2`, `2.0`, `np.int64(2)`) as an `int`, `None` for anything else."""
    if not is_real(value) or not (isinstance(value, numbers.Integral) or float(value).is_integer()):
        return None
    return int(value)


def positive_int(name: str, value: Any, *, least: int = 1) -> int:
    """Returns `value` as an `int`. Raises `ValueError` unless it is a whole number of at least `least`."""
    number = whole(value)
    if number is None or number < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}. Received: {name}={value!r}")
    return number


def features_to_keep(n_out: Any, features: int) -> int:
    """Returns the number of leading features to keep of encodings; `None` stands for all.

    Raises:
        ValueError: `n_out` is not a whole number from 1 to `features`.
    """
    number = features if n_out is None else whole(n_out)
    if number is None or not 1 <= number <= features:
        raise ValueError(
            f"`n_out` must be a whole number from 1 to {features}, the number of features of the encodings. "
            f"Received: n_out={n_out!r}"
        )
    return number


def positive_ints(name: str, values: int | Sequence[int], *, least: int = 1) -> list[int]:
    """Returns one or several whole numbers as a list. Raises `ValueError` unless each is at least `least`."""
    is_array = isinstance(values, np.ndarray) and values.ndim > 0
    several = list(values) if is_array or isinstance(values, (list, tuple, range)) else [values]
    if not several:
        raise ValueError(f"`{name}` must be at least one whole number. Received: {name}={values!r}")
    return [positive_int(name, value, least=least) for value in several]


def non_negative(name: str, value: Any) -> float:
    """Returns `value` as a `float`. Raises `ValueError` unless it is a finite number of at least 0."""
    if not is_real(value) or not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be a number of at least 0. Received: {name}={value!r}")
    return float(value)


def positive_number(name: str, value: Any) -> float:
    """Returns `value` as a `float`. Raises `ValueError` unless it is a finite number above 0."""
    if not is_real(value) or not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be a finite number above 0. Received: {name}={value!r}")
    return float(value)


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Returns `"did you mean 'relu'? "` for a message, or an empty string if no known name is similar."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? " if near else ""


# Lower bound of a variance before a division. Far below the variance of data in any unit, which may be 1e-12.
SMALLEST = 1e-30


# === Checks of values in files ===


def require(condition: object, why: str) -> None:
    if not condition:
        raise ValueError(why)


def is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
