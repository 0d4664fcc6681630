"""Pictures of a folder that can't be read."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

import tensorflow as tf

from stacked_autoencoder.errors import printable

if TYPE_CHECKING:
    from stacked_autoencoder.image_folder import ImageFolder

MOST = 0.05  # of all pictures
MOST_NAMED = 20  # in one message


class Unreadable:
    """Remembers them, tells of each once, and makes it an error when they are too many.

    It begins with those that were found when the folder was listed.

    Attributes:
        reasons: index in the folder → path and reason, in the order they were found.
    """

    def __init__(self, folder: ImageFolder) -> None:
        self.folder = folder
        self.reasons = {row: self._described(row, reason) for row, reason in folder.unreadable.items()}
        self.told = 0
        self._refuse_too_many()

    def add(self, row: int, reason: str) -> None:
        self.reasons[row] = self._described(row, reason)
        self._refuse_too_many()

    def tell(self) -> None:
        """Warns of those that it hasn't warned of yet."""
        self._refuse_too_many()  # an error in a batch that was read ahead stays there when no one takes that batch
        fresh = list(self.reasons.values())[self.told :]
        if fresh:
            self.told += len(fresh)  # more may have been found meanwhile
            warnings.warn(
                f"Skipped, since they can't be read ({self.told} of {len(self.folder)} pictures up to now): "
                f"{listed(fresh)}",
                stacklevel=2,
            )

    def _described(self, row: int, reason: str) -> str:
        return f"{printable(self.folder.path / self.folder.names[row])} ({printable(reason)})"

    def _refuse_too_many(self) -> None:
        if len(self.reasons) > MOST * len(self.folder):
            raise ValueError(
                f"More than {MOST:.0%} of {len(self.folder)} pictures can't be read: "
                f"{listed(list(self.reasons.values()))}. Mend or remove them. Received: {self.folder!r}"
            )


def reason_of(error: tf.errors.OpError) -> str:
    """The message of an error that a graph raised, without the names of operations."""
    message = error.message.split("\n\t [[")[0].split("\n")[-1]
    asserted = re.search(r"assertion failed: (\[.*\])", message)
    if asserted is None:
        return message
    values = asserted[1][1:-1].split("] [")  # each a text, a number or the numbers of a vector
    return " ".join(re.sub(r"(?<=\d) (?=-?\d)", " x ", value) for value in values)


def listed(reasons: list[str]) -> str:
    """Reasons in one line, the first of them where there are many."""
    named = "; ".join(reasons[:MOST_NAMED])
    return named if len(reasons) <= MOST_NAMED else f"{named}; and {len(reasons) - MOST_NAMED} more"
