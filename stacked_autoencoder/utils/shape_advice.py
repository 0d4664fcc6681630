"""Advice for an array whose shape does not fit the model, as code that can be pasted.

In this code, `images` is the array, whatever it holds, and `image` is one item of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Shape = Sequence[int | None]

WINDOWS = "np.lib.stride_tricks.sliding_window_view"


def other_axes(received: Shape, expected: Shape) -> str:
    """Returns advice for an array with too few or too many axes, or an empty text.

    Args:
        received: shape of the whole array.
        expected: shape of one image, sequence or vector; `None` for a side that may differ.
    """
    rank, channels = len(expected), expected[-1]
    if fits(received, expected):
        return "This looks like a single one: add the batch axis with `image[None]`, or pass a list."
    if channels == 1 and received and fits(received[1:], expected[:-1]):
        return "The last axis, for one channel or feature, is missing: add it with `images[..., None]`."
    if rank == 3 and channels == 3 and fits(received[1:], expected[:-1]):
        return (
            "These look like grey images without a channel axis: convert them to colour with "
            "`np.repeat(images[..., None], 3, axis=-1)`, or make the Autoencoder with `shape=(None, None, 1)` and pass "
            "`images[..., None]`."
        )
    if channels == 1 and rank > 1 and fits(received, expected[:-1]):
        return "This looks like a single item without its last axis: add both axes with `image[None, ..., None]`."
    if len(received) > rank + 1 and fits(received[-rank:], expected):
        return f"There is more than one batch axis: join them with `images.reshape(-1, *images.shape[-{rank}:])`."
    if None not in expected and len(received) > 1 and math.prod(received[1:]) == math.prod(expected):
        return f"The number of values fits: `images.reshape({', '.join(map(str, ('len(images)', *expected)))})`."
    if rank == 2 and expected[0] is not None and 1 <= len(received) <= 2 and received[0] >= expected[0]:
        if len(received) == 2 and received[1] == channels:
            windows = f"{WINDOWS}(images, {expected[0]}, axis=0).swapaxes(1, 2)"
        elif len(received) == 1 and channels == 1:
            windows = f"{WINDOWS}(images, {expected[0]})[..., None]"
        else:
            return ""
        return f"This looks like one long sequence: cut it into windows with `{windows}`."
    return ""


def other_channels(received: Shape, channels: int, which: str) -> str:
    """Returns advice for images with a wrong number of channels, or an empty text.

    Args:
        received: shape `(H, W, C)` of one image.
        channels: expected number.
        which: `"images"` for a whole array, `"image"` for one of several.
    """
    each = "" if which == "images" else ", each of them"
    if received[0] == channels:
        first = 1 if which == "images" else 0
        return f"The channels seem to come first: `np.moveaxis({which}, {first}, -1)` moves them to the end{each}."
    code = {
        (1, 3): f"np.repeat({which}, 3, axis=-1)",
        (4, 3): f"{which}[..., :3]",
        (3, 1): f"tf.image.rgb_to_grayscale({which})",
    }.get((received[-1], channels))
    return "" if code is None else f"Convert them with `{code}`{each}."


def fits(shape: Shape, expected: Shape) -> bool:
    """Whether a shape is the expected one, in which `None` stands for any length."""
    return len(shape) == len(expected) and all(
        wanted in (None, side) for side, wanted in zip(shape, expected, strict=True)
    )
