"""A folder of pictures, and how to take them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from stacked_autoencoder.arguments import positive_int
from stacked_autoencoder.sources.pictures import SUFFIXES


class ImageFolder:
    """The pictures below a folder; pass it wherever images are asked for.

    A plain path does the same as `ImageFolder(path)`: pictures as they are, whose sizes may differ. Pictures are JPEG,
    PNG, WebP, BMP or GIF (its first frame), turned upright as their EXIF orientation says, and get the channels of the
    model: grey or colour, an alpha channel on white. Hidden files are left out. One that can't be read is
    skipped and told in a warning, as is a WebP animation; more than 5 % of them are an error.

    Args:
        path: of the folder, which is searched with all folders below it.
        side: takes the largest square in the middle of each picture, resized to so many pixels a side.
        crop: takes a square of so many pixels out of each picture at random: where `train` goes through the pictures
            again, another one each time; elsewhere one that `seed` decides, so that it can be encoded again.
        labels: whether the folders right below `path` are labels, as numbers in the order of `class_names`.
        seed: of the crops.

    Attributes:
        names: paths of the pictures below `path`, sorted, with `/` between folders.
        class_names: names of the folders right below `path`, sorted; `None` without `labels`.
        labels: `(N,)` int64, for each picture the index of its folder in `class_names`; `None` without `labels`.

    Raises:
        FileNotFoundError: the folder isn't there.
        ValueError: no pictures are below it, or one isn't in a folder of its label.

    Example:
        >>> sae.train(ImageFolder("photos", side=64), epochs=10)
        >>> store = sae.encode_to("encodings", ImageFolder("pets", side=64, labels=True))
        >>> store.names[0], store.labels[0]
        ('cats/0001.jpg', 0)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        side: int | None = None,
        crop: int | None = None,
        labels: bool = False,
        seed: int = 0,
    ) -> None:
        self.path = Path(path)
        self.side = None if side is None else positive_int("side", side)
        self.crop = None if crop is None else positive_int("crop", crop)
        self.seed = positive_int("seed", seed, least=0)
        if side is not None and crop is not None:
            raise ValueError(
                "`side` resizes pictures and `crop` cuts a part out of them: give one of the two. "
                f"Received: side={side}, crop={crop}"
            )
        if not self.path.is_dir():
            raise FileNotFoundError(f"This folder of pictures isn't there. Received: {str(path)!r}")
        self.names = sorted(_pictures_below(self.path))
        if not self.names:
            raise ValueError(f"No pictures ({', '.join(SUFFIXES)}) are below the folder. Received: {str(path)!r}")
        self.class_names: list[str] | None = None
        self.labels: np.ndarray | None = None
        if labels:
            homes = [name.split("/")[0] if "/" in name else None for name in self.names]
            if None in homes:
                raise ValueError(
                    "`labels=True` takes the folders right below `path` as labels, and this picture isn't in one: "
                    f"{self.names[homes.index(None)]}. Move it, or leave `labels` out. Received: path={str(path)!r}"
                )
            classes, self.labels = np.unique(homes, return_inverse=True)
            self.class_names = classes.tolist()

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        taken = "".join(f", {name}={getattr(self, name)}" for name in ("side", "crop") if getattr(self, name))
        return f"ImageFolder({str(self.path)!r}{taken})"


def _pictures_below(folder: Path) -> list[str]:
    """Of each picture, its path below the folder: plain strings, since there may be millions."""
    names = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        pictures = (name for name in files if name.lower().endswith(SUFFIXES) and not name.startswith("."))
        below = Path(where).relative_to(folder).as_posix()
        names += pictures if below == "." else [f"{below}/{name}" for name in pictures]
    return names
