"""The exception for folders that cannot be loaded, and text from untrusted files that is safe to print."""

from __future__ import annotations

LONGEST_MESSAGE = 2000  # characters


def printable(text: object, longest: int = LONGEST_MESSAGE) -> str:
    """Returns text as one printable line of at most `longest` characters.

    Names and values in files from other people can contain terminal escape sequences, and can be of any length.
    """
    line = " ".join(str(text)[: 2 * longest].split())[: longest + 1]
    line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


class LoadError(ValueError):
    """Raised when a folder was not written by `save`, is damaged, or contains something that this package cannot open.

    No code from the folder was executed, and no file in it was changed.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))
