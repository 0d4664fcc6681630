"""What commands share."""

from __future__ import annotations

import copy
import hashlib
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from stacked_autoencoder.autoencoder import Autoencoder
from stacked_autoencoder.data.image_folder import ImageFolder
from stacked_autoencoder.utils.checks import described
from stacked_autoencoder.utils.console import show

SHEET = "sheet.png"  # beside the pictures


Result = dict[str, Any]


Say = Callable[[str], None]  # prints, unless JSON or silence is asked for


def shows_progress(arguments: Namespace) -> bool:
    return not (arguments.json or arguments.quiet)


def pictures_of(folder: Path, arguments: Namespace, sae: Autoencoder) -> ImageFolder:
    """A folder as the arguments ask, or else resized to what the stack takes where that is one square."""
    if len(sae.shape) != 3:
        raise ValueError(f"Commands take folders of pictures, and this stack takes {described(sae.shape)}.")
    side, crop, (height, width, _) = arguments.side, arguments.crop, sae.shape
    _check_square(arguments, sae)
    if side is None and crop is None and height == width:
        side = height
    options = {"labels": getattr(arguments, "labels", False)}
    if arguments.max_pixels is not None:
        options["max_pixels"] = arguments.max_pixels
    return ImageFolder(folder, side=side, crop=crop, **options)


def _check_square(arguments: Namespace, sae: Autoencoder) -> None:
    """Refuses a `--side` or `--crop` that the stack doesn't take; warns of one that it pads."""
    name, square = ("--side", arguments.side) if arguments.crop is None else ("--crop", arguments.crop)
    if square is None:
        return
    height, width, _ = sae.shape
    if any(expected not in (None, square) for expected in (height, width)):
        ways_out = f"Leave out {name}, or use {name} {height}." if height == width else f"Leave out {name}."
        raise ValueError(
            f"{name} {square} does not fit this stack, which takes pictures of {show((height, width))} pixels. "
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


def split(images: ImageFolder, fraction: float, seed: int) -> tuple[ImageFolder, ImageFolder]:
    """A folder's pictures for training, and those for validation.

    A file that has several names, by links, is in one of the two. Its place depends on its name and the seed alone, so
    that few files change sides when a folder grows.

    Args:
        fraction: of the files that are for validation, at least one.

    Raises:
        ValueError: there are fewer than two files.
    """
    files: dict[tuple[int, int], list[int]] = {}  # those of a folder by identity, with their indices in `names`
    for index, name in enumerate(images.names):
        if index not in images.unreadable:
            status = (images.path / name).stat()
            files.setdefault((status.st_dev, status.st_ino), []).append(index)
    if len(files) < 2:
        raise ValueError(
            f"--valid-split needs at least two pictures, and {str(images.path)!r} has {len(files)}. Add pictures, or "
            "leave out --valid-split."
        )

    def place(indices: list[int]) -> bytes:
        return hashlib.sha256(f"{seed}/{images.names[indices[0]]}".encode(errors="surrogateescape")).digest()

    order = sorted(files.values(), key=place)
    count = min(max(1, round(fraction * len(order))), len(order) - 1)
    training = chain(images.unreadable, *order[count:])  # which reports those that can't be read
    return _part(images, training), _part(images, chain(*order[:count]))


def _part(images: ImageFolder, indices: Iterable[int]) -> ImageFolder:
    """Some pictures of a folder, in its order."""
    indices, part = sorted(indices), copy.copy(images)
    part.names = [images.names[index] for index in indices]
    part.unreadable = {
        place: images.unreadable[index] for place, index in enumerate(indices) if index in images.unreadable
    }
    if images.labels is not None:
        part.labels = images.labels[np.array(indices)]
    return part


def written(folder: Path, count: int, say: Say, on_sheet: str | None = None) -> Result:
    say(f"Wrote {count:,} pictures to {folder}" + (f". {on_sheet}: {folder / SHEET}" if on_sheet else ""))
    return {"pictures": count, "out": str(folder)}
