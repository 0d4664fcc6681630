"""Console output: a progress line, aligned tables, and shapes as text."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from stacked_autoencoder.utils.images import Shape

WIDTH = 24  # of the bar, in characters
SECONDS = 0.2  # between two looks at a terminal
SECONDS_IN_A_LOG = 30.0


class Progress:
    """Prints while it is entered, if `verbose`; to a terminal in one line, to a file once in a while.

    Args:
        total: images in all, `None` if that isn't known.
        verbose: 0 for silence.
    """

    def __init__(self, total: int | None, verbose: int) -> None:
        self.total = total
        self.verbose = verbose
        self.done = self.skipped = 0

    def __enter__(self) -> Progress:
        self.began = self.shown = time.monotonic()
        return self

    def __exit__(self, *_: Any) -> None:
        self._show("\n")

    def add(self, images: int) -> None:
        """So many have been encoded."""
        self.done += images
        every = SECONDS if sys.stdout.isatty() else SECONDS_IN_A_LOG
        if time.monotonic() - self.shown > every:
            self._show("" if sys.stdout.isatty() else "\n")

    def skip(self, images: int) -> None:
        """So many were there already: they say nothing about the speed."""
        self.skipped += images

    def _show(self, end: str) -> None:
        self.shown = time.monotonic()
        if not self.verbose:
            return
        there = self.done + self.skipped
        speed = self.done / max(self.shown - self.began, 1e-9)
        parts = [f"{there:,} images", f"{speed:,.0f} images/s"]
        if self.total:
            filled = WIDTH * there // self.total
            parts[0] = f"[{'=' * filled}{'.' * (WIDTH - filled)}] {there:,}/{self.total:,} images"
        if self.total and speed:
            minutes, seconds = divmod(round((self.total - there) / speed), 60)
            parts.append(f"{minutes}:{seconds:02d} left")
        start = "\r" if sys.stdout.isatty() else ""
        print(start + ", ".join(parts), end=end, flush=True)


def show(shape: Shape) -> str:
    """A shape as people write it: 64x64x3, `?` for an open side."""
    return "x".join("?" if side is None else str(side) for side in shape)


def aligned(rows: Sequence[Sequence[str]], justify: Callable[[str, int], str]) -> list[str]:
    """Rows of cells as lines of text with aligned columns.

    Args:
        justify: `str.ljust` or `str.rjust`.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(justify, row, widths)).rstrip() for row in rows]
