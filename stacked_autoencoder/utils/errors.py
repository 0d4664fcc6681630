"""Errors that callers may want to tell from others, and text from files that is safe to show."""

from __future__ import annotations

LONGEST_MESSAGE = 2000  # characters


def printable(text: object, longest: int = LONGEST_MESSAGE) -> str:
    """Text in one line, in which every character can be printed, cut to at most `longest` characters.

    Names and values in files from others can hold terminal escape sequences, and can be of any length.
    """
    shown = " ".join(str(text)[: 2 * longest].split())[: longest + 1]
    shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in shown)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


class LoadError(ValueError):
    """The folder was not written by `save`, is damaged, or holds something that this package does not open.

    No code from the folder has been run, and no file in it has been changed.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))
