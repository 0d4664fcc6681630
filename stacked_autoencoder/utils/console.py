"""Console output: a progress line, aligned tables, and shapes, durations and quotients as text."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `utils.images` imports TensorFlow, and the command reports errors before that
    from stacked_autoencoder.utils.images import Shape

BAR_WIDTH = 24  # characters
SECONDS = 0.2  # between two updates on a terminal
SECONDS_IN_A_LOG = 30.0  # between two lines in a file


class OpenLine:
    """Whether the cursor is still on the line of a progress bar.

    Code that prints something else calls `end` first, so that its output starts on a new line.
    """

    def __init__(self) -> None:
        self.is_open = False

    def begin(self) -> None:
        """Records that a bar was drawn without a line feed. In files, every line is complete."""
        self.is_open = sys.stdout.isatty()

    def close(self) -> None:
        """Records that the line feed of the bar was printed."""
        self.is_open = False

    def end(self) -> None:
        """Prints the line feed if it is missing."""
        if self.is_open:
            self.close()
            print(flush=True)


open_line = OpenLine()  # there is one terminal


class Progress:
    """A context manager that prints how many images are done, how fast, and the time left.

    A terminal gets one line that is updated; a file gets a line every 30 seconds.

    Args:
        total: number of images, `None` if it isn't known. Images that turn out to be unreadable aren't counted in the
            last line.
        verbose: 0 prints nothing.
    """

    def __init__(self, total: int | None, verbose: int) -> None:
        self.total = total
        self.verbose = verbose
        self.done = self.skipped = 0
        self.width = 0  # length of the line on the terminal

    def __enter__(self) -> Progress:
        self.start_time = self.last_update = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        finished = self.done + self.skipped
        if kind is None and self.total is not None:
            self.total = finished
        if kind is None or finished:
            self._update("\n", is_over=kind is None)

    def add(self, images: int) -> None:
        """Counts images that were processed now."""
        self.done += images
        every = SECONDS if sys.stdout.isatty() else SECONDS_IN_A_LOG
        if time.monotonic() - self.last_update > every:
            self._update("" if sys.stdout.isatty() else "\n")

    def skip(self, images: int) -> None:
        """Counts images that an earlier run finished, which don't count for the speed."""
        self.skipped += images

    def _update(self, end: str, is_over: bool = False) -> None:
        self.last_update = time.monotonic()
        if not self.verbose:
            return
        finished = self.done + self.skipped
        parts = [f"{finished:,} images"]
        if self.total:
            filled = BAR_WIDTH * finished // self.total
            parts[0] = f"[{'=' * filled}{'.' * (BAR_WIDTH - filled)}] {finished:,}/{self.total:,} images"
        if self.done:
            speed = self.done / max(self.last_update - self.start_time, 1e-9)
            parts.append(f"{speed:,.0f} images/s" if speed >= 10 else f"{speed:.2g} images/s")
            if self.total and not is_over:
                parts.append(f"{clock((self.total - finished) / speed)} left")
        elif self.skipped and is_over:
            parts.append("already finished")
        line = ", ".join(parts)
        if sys.stdout.isatty():
            line = line[: shutil.get_terminal_size().columns - 1]  # a wrapped line could not be overwritten
            line, self.width = f"\r{line.ljust(self.width)}", len(line)  # blanks overwrite a longer line
        print(line, end=end, flush=True)
        if end:
            open_line.close()
        else:
            open_line.begin()


def shape_text(shape: Shape) -> str:
    """Formats a shape as text, such as 64x64x3, with `?` for `None`."""
    return "x".join("?" if side is None else str(side) for side in shape)


def clock(seconds: float) -> str:
    """Formats a duration as minutes and seconds, 4:07, or from an hour on as hours, minutes and seconds, 1:04:07."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def quotient(loss: float, reference: float) -> str:
    """Formats loss / reference as text. PCA restores some images exactly, such as black ones, so it may be 0."""
    if reference == 0:
        return "0 / 0" if loss == 0 else "inf"
    return f"{loss / reference:.2f}"


def aligned(rows: Sequence[Sequence[str]], justify: Callable[[str, int], str]) -> list[str]:
    """Formats a table as lines of text with aligned columns.

    Args:
        rows: the cells of each row; all rows have the same number.
        justify: `str.ljust` or `str.rjust`.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(justify, row, widths)).rstrip() for row in rows]
