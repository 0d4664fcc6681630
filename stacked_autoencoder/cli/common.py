"""What commands share."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stacked_autoencoder.autoencoder import Autoencoder
from stacked_autoencoder.data.image_folder import ImageFolder
from stacked_autoencoder.utils.checks import described

SHEET = "sheet.png"  # beside the pictures


Result = dict[str, Any]


Say = Callable[[str], None]  # prints, unless JSON is asked for


def pictures_of(folder: Path, arguments: Namespace, sae: Autoencoder) -> ImageFolder:
    """A folder as the arguments ask, or else resized to what the stack takes where that is one size."""
    if len(sae.shape) != 3:
        raise ValueError(f"Commands take folders of pictures, and this stack takes {described(sae.shape)}.")
    side, crop, size = arguments.side, arguments.crop, tuple(sae.shape[:2])
    options = {"labels": getattr(arguments, "labels", False)}
    if side is None and crop is None and None not in size:
        options["size"] = size
    if arguments.max_pixels is not None:
        options["max_pixels"] = arguments.max_pixels
    return ImageFolder(folder, side=side, crop=crop, **options)


def new_folder(path: Path) -> Path:
    """A folder to write to, in which nothing can be lost.

    Raises:
        ValueError: something is in it.
    """
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(f"This folder isn't empty, and nothing in it is to be lost: name another. Received: {path}")
    return path


def written(folder: Path, count: int, say: Say, on_sheet: str | None = None) -> Result:
    say(f"{count:,} pictures in {folder}" + (f"; {on_sheet}: {folder / SHEET}" if on_sheet else ""))
    return {"pictures": count, "out": str(folder)}
