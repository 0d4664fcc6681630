"""Console output: a progress line, aligned tables, and shapes as text."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # TensorFlow comes with it, and the command reports errors before it is imported
    from stacked_autoencoder.utils.images import Shape

WIDTH = 24  # of the bar, in characters
SECONDS = 0.2  # between two looks at a terminal
SECONDS_IN_A_LOG = 30.0


class OpenLine:
    """The line of a progress bar on the terminal, which the cursor hasn't left yet.

    Whoever prints something else calls `end` first, so that it starts a line of its own.
    """

    def __init__(self) -> None:
        self.is_open = False

    def begin(self) -> None:
        """A bar was drawn, without a line feed behind it. Files have whole lines only."""
        self.is_open = sys.stdout.isatty()

    def close(self) -> None:
        """The bar's own line feed was printed."""
        self.is_open = False

    def end(self) -> None:
        """Prints the line feed if it is missing."""
        if self.is_open:
            self.close()
            print(flush=True)


open_line = OpenLine()  # there is one terminal


class Progress:
    """Prints while it is entered, if `verbose`; to a terminal in one line, to a file once in a while.

    Args:
        total: images in all, `None` if that isn't known. The last line, after all work was done, has the number of
            those that were there: some of a folder may have turned out to be unreadable.
        verbose: 0 for silence.
    """

    def __init__(self, total: int | None, verbose: int) -> None:
        self.total = total
        self.verbose = verbose
        self.done = self.skipped = 0
        self.width = 0  # of the line on the terminal

    def __enter__(self) -> Progress:
        self.began = self.shown = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        there = self.done + self.skipped
        if kind is None and self.total is not None:
            self.total = there
        if kind is None or there:
            self._show("\n", is_over=kind is None)

    def add(self, images: int) -> None:
        """So many have been encoded."""
        self.done += images
        every = SECONDS if sys.stdout.isatty() else SECONDS_IN_A_LOG
        if time.monotonic() - self.shown > every:
            self._show("" if sys.stdout.isatty() else "\n")

    def skip(self, images: int) -> None:
        """So many were there already: they say nothing about the speed."""
        self.skipped += images

    def _show(self, end: str, is_over: bool = False) -> None:
        self.shown = time.monotonic()
        if not self.verbose:
            return
        there = self.done + self.skipped
        parts = [f"{there:,} images"]
        if self.total:
            filled = WIDTH * there // self.total
            parts[0] = f"[{'=' * filled}{'.' * (WIDTH - filled)}] {there:,}/{self.total:,} images"
        if self.done:
            speed = self.done / max(self.shown - self.began, 1e-9)
            parts.append(f"{speed:,.0f} images/s" if speed >= 10 else f"{speed:.2g} images/s")
            if self.total and not is_over:
                minutes, seconds = divmod(round((self.total - there) / speed), 60)
                parts.append(f"{minutes}:{seconds:02d} left")
        elif self.skipped and is_over:
            parts.append("already finished")
        line = ", ".join(parts)
        if sys.stdout.isatty():
            line = line[: shutil.get_terminal_size().columns - 1]  # a wrapped one could not be overwritten
            line, self.width = f"\r{line.ljust(self.width)}", len(line)  # blanks over what a longer line leaves
        print(line, end=end, flush=True)
        if end:
            open_line.close()
        else:
            open_line.begin()


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
