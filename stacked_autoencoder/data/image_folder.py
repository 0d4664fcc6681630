"""A folder of pictures, and how to take them."""

from __future__ import annotations

import os
import warnings
from bisect import bisect_left
from pathlib import Path

import numpy as np

from stacked_autoencoder.data.decoding import MAX_PIXELS, SUFFIXES
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import LARGEST_FILE, problem_with


class ImageFolder:
    """The pictures below a folder; pass it wherever images are asked for.

    A plain path does the same as `ImageFolder(path)`: pictures as they are, whose sizes may differ. Pictures are JPEG,
    PNG, WebP, BMP or GIF (its first frame), turned upright as their EXIF orientation says, and get the channels of the
    model: grey or colour, an alpha channel on white. Hidden files are left out. One that can't be read is
    skipped and told in a warning, as is a WebP animation; more than 5 % of them are an error. A file that is empty, has
    more than 1 GiB, or isn't a regular file (a named pipe, a device) can't be read either, and is never opened.
    Folders that can't be listed are left out, with a warning when the `ImageFolder` is made.

    Args:
        path: of the folder, which is searched with all folders below it.
        side: takes the largest square in the middle of each picture, resized to so many pixels a side.
        crop: takes a square of so many pixels out of each picture at random: where `train` goes through the pictures
            again, another one each time; elsewhere one that `seed` decides, so that it can be encoded again.
        labels: whether the folders right below `path` are labels, as numbers in the order of `class_names`.
        seed: of the crops.
        max_pixels: height times width that a picture may have at most, before it is resized or cropped; `None` for no
            limit. A picture with more counts as one that can't be read, and is never decoded: a small file can hold
            a picture that takes gigabytes. Above the default Pillow warns of a decompression bomb.

    Attributes:
        names: paths of the pictures below `path`, sorted, with `/` between folders.
        unreadable: index in `names` → reason, of files that are never opened.
        class_names: names of the folders right below `path`, sorted; `None` without `labels`.
        labels: `(N,)` int64, for each picture the index of its folder in `class_names`; `None` without `labels`.

    Raises:
        FileNotFoundError: the folder isn't there.
        OSError: the folder can't be listed.
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
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        self.path = Path(path)
        self.side = None if side is None else positive_int("side", side)
        self.crop = None if crop is None else positive_int("crop", crop)
        self.seed = positive_int("seed", seed, least=0)
        self.max_pixels = None if max_pixels is None else positive_int("max_pixels", max_pixels)
        if side is not None and crop is not None:
            raise ValueError(
                "`side` resizes pictures and `crop` cuts a part out of them: give one of the two. "
                f"Received: side={side}, crop={crop}"
            )
        if not self.path.is_dir():
            raise FileNotFoundError(f"This folder of pictures isn't there. Received: {str(path)!r}")
        self.names, self.unreadable, unlisted = _pictures_below(self.path)
        if unlisted:
            warnings.warn(
                f"Left out, since these folders can't be listed: {listed(unlisted)}. To use the pictures in them, make "
                "the folders readable.",
                stacklevel=2,
            )
        if not self.names:
            raise ValueError(f"No pictures ({', '.join(SUFFIXES)}) are below the folder. Received: {str(path)!r}")
        self.class_names: list[str] | None = None
        self.labels: np.ndarray | None = None
        if labels:
            homes = [name.split("/")[0] if "/" in name else None for name in self.names]
            if None in homes:
                stray = printable(self.names[homes.index(None)])
                raise ValueError(
                    "`labels=True` takes the folders right below `path` as labels, and this picture isn't in one: "
                    f"{stray}. Move it, or leave `labels` out. Received: path={str(path)!r}"
                )
            classes, self.labels = np.unique(homes, return_inverse=True)
            self.class_names = classes.tolist()

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        taken = "".join(f", {name}={getattr(self, name)}" for name in ("side", "crop") if getattr(self, name))
        return f"ImageFolder({str(self.path)!r}{taken})"


def _pictures_below(folder: Path) -> tuple[list[str], dict[int, str], list[str]]:
    """Looks for pictures in a folder and all folders below it; links to folders aren't followed.

    Returns:
        names: of each picture, its path below the folder, sorted: plain strings, since there may be millions.
        unreadable: index in `names` → why that file must not be opened.
        unlisted: folders that can't be listed, each with the reason.
    """
    names: list[str] = []
    problems: dict[str, str] = {}
    unlisted: list[str] = []
    named_as_pictures: list[str] = []  # folders
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(folder / below) as listing:
                entries = [entry for entry in listing if not entry.name.startswith(".")]
        except OSError as error:
            if not below:
                raise OSError(
                    error.errno, f"The folder of pictures can't be listed ({error.strerror})", str(folder)
                ) from None
            unlisted.append(f"{printable(folder / below)} ({error.strerror})")
            continue
        if below.lower().endswith(SUFFIXES):
            named_as_pictures.append(below)
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if _is_folder(entry):
                waiting.append(name)
            elif name.lower().endswith(SUFFIXES):
                names.append(name)
                problem = _problem_with(entry)
                if problem is not None:
                    problems[name] = problem
    names.sort()
    for name in [name for name in named_as_pictures if not _any_below(name, names)]:
        names.append(name)
        problems[name] = "it is a directory, not a regular file"
    names.sort()
    unreadable = {bisect_left(names, name): problems[name] for name in sorted(problems)}
    return names, unreadable, sorted(unlisted)


def _any_below(folder: str, names: list[str]) -> bool:
    """Whether any of the sorted names is in a folder."""
    first = bisect_left(names, f"{folder}/")
    return first < len(names) and names[first].startswith(f"{folder}/")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:  # its kind can't be told without reading the disk, which fails
        return False


def _problem_with(entry: os.DirEntry[str]) -> str | None:
    try:
        status = entry.stat()
    except OSError as error:  # such as a link to nothing
        return error.strerror
    # Files that the kernel makes up while they are read have no size, and some of them never end.
    return problem_with(status, LARGEST_FILE) or (None if status.st_size else "it is empty")


def listed(reasons: list[str]) -> str:
    """Reasons in one line, the first of them where there are many."""
    named = "; ".join(reasons[:MOST_NAMED])
    return named if len(reasons) <= MOST_NAMED else f"{named}; and {len(reasons) - MOST_NAMED} more"


MOST_NAMED = 20  # in one message
