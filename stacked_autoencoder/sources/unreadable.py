"""Pictures of a folder that can't be read."""

from __future__ import annotations

import warnings

from stacked_autoencoder.image_folder import ImageFolder

MOST = 0.05  # of all pictures
MOST_NAMED = 20  # in one message


class Unreadable:
    """Remembers them, tells of each once, and makes it an error when they are too many.

    Attributes:
        reasons: index in the folder → path and reason, in the order they were found.
    """

    def __init__(self, folder: ImageFolder) -> None:
        self.folder = folder
        self.reasons: dict[int, str] = {}
        self.told = 0

    def add(self, row: int, reason: str) -> None:
        self.reasons[row] = f"{self.folder.path / self.folder.names[row]} ({reason})"
        self._refuse_too_many()

    def tell(self) -> None:
        """Warns of those that it hasn't warned of yet."""
        self._refuse_too_many()  # an error in a batch that was read ahead stays there when no one takes that batch
        fresh = list(self.reasons.values())[self.told :]
        if fresh:
            self.told += len(fresh)  # more may have been found meanwhile
            warnings.warn(
                f"Skipped, since they can't be read ({self.told} of {len(self.folder)} pictures up to now): "
                f"{_listed(fresh)}",
                stacklevel=2,
            )

    def _refuse_too_many(self) -> None:
        if len(self.reasons) > MOST * len(self.folder):
            raise ValueError(
                f"More than {MOST:.0%} of {len(self.folder)} pictures can't be read: "
                f"{_listed(list(self.reasons.values()))}. Mend or remove them. Received: {self.folder!r}"
            )


def _listed(reasons: list[str]) -> str:
    named = "; ".join(reasons[:MOST_NAMED])
    return named if len(reasons) <= MOST_NAMED else f"{named}; and {len(reasons) - MOST_NAMED} more"
