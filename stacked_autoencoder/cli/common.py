"""Functions that several commands share."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stacked_autoencoder.autoencoder import Autoencoder
from stacked_autoencoder.data.image_folder import ImageFolder
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.utils.checks import described
from stacked_autoencoder.utils.console import shape_text

SHEET = "sheet.png"  # an overview of the pictures, in the same folder


Result = dict[str, Any]


Say = Callable[[str], None]  # prints, unless `--json` or `--quiet` is given


def shows_progress(arguments: Namespace) -> bool:
    return not (arguments.json or arguments.quiet)


def pictures_of(folder: Path, arguments: Namespace, sae: Autoencoder | Stack, subset: str | None = None) -> ImageFolder:
    """Opens a folder of pictures. Without `--side` and `--crop`, pictures are resized if the stack takes one size only.

    Args:
        subset: `"training"` or `"validation"`, with `--valid-split`.
    """
    if len(sae.shape) != 3:
        raise ValueError(f"Commands take folders of pictures, and this stack takes {described(sae.shape)}.")
    side, crop, size = arguments.side, arguments.crop, tuple(sae.shape[:2])
    _check_square(arguments, sae)
    options = {"labels": getattr(arguments, "labels", False)}
    if side is None and crop is None and None not in size:
        options["size"] = size
    if arguments.max_pixels is not None:
        options["max_pixels"] = arguments.max_pixels
    if subset is not None:
        options |= {"validation_split": arguments.valid_split, "subset": subset, "seed": arguments.seed}
    return ImageFolder(folder, side=side, crop=crop, **options)


def _check_square(arguments: Namespace, sae: Autoencoder | Stack) -> None:
    """Refuses a `--side` or `--crop` that the stack doesn't accept. Warns if the stack pads pictures of that size."""
    name, square = ("--side", arguments.side) if arguments.crop is None else ("--crop", arguments.crop)
    if square is None:
        return
    height, width, _ = sae.shape
    if any(expected not in (None, square) for expected in (height, width)):
        ways_out = f"Leave out {name}, or use {name} {height}." if height == width else f"Leave out {name}."
        raise ValueError(
            f"{name} {square} does not fit this stack, which takes pictures of {shape_text((height, width))} pixels. "
            f"{ways_out}"
        )
    below = square - square % sae.factor
    above = below + sae.factor
    if not below:
        raise ValueError(
            f"{name} {square} is too small for this stack, which divides height and width by {sae.factor}. Use {name} "
            f"{sae.factor} or more."
        )
    if square != below:
        warnings.warn(
            f"{name} {square}: this stack pads pictures of {square}x{square} pixels to {above}x{above}, since it needs "
            f"multiples of {sae.factor}. Use {name} {below} or {name} {above} to avoid padding.",
            stacklevel=2,
        )


def written(folder: Path, count: int, say: Say, on_sheet: str | None = None) -> Result:
    say(f"Wrote {count:,} pictures to {folder}" + (f". {on_sheet}: {folder / SHEET}" if on_sheet else ""))
    return {"pictures": count, "out": str(folder)}
