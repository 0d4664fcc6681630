"""A folder of pictures, and how to take them."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from stacked_autoencoder.data.array_files import TIFF_SUFFIXES, count_pages
from stacked_autoencoder.data.decoding import FITS, MAX_PIXELS, SUFFIXES, Fit
from stacked_autoencoder.data.listing import (
    KINDS_OF_PICTURES,
    AnyPath,
    Listing,
    class_folders,
    counted,
    is_path,
    listed,
    of_path,
    of_paths,
    paths_in,
    shown_paths,
)
from stacked_autoencoder.data.tables import holds_paths, is_table, is_table_file, of_table
from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.labels import Labels, labels_at

SUBSETS = ("training", "validation")
PAGES = ("bands", "pictures")


class ImageFolder:
    """The pictures below a folder; pass it wherever images are asked for.

    A plain path does the same as `ImageFolder(path)`: pictures as they are, whose sizes may differ. Pictures are JPEG,
    PNG, WebP, BMP or GIF (its first frame), turned upright as their EXIF orientation says, and get the channels of the
    model: grey or colour, an alpha channel on white. Hidden files are left out, and symbolic links are followed. A
    picture that can't be read is skipped and named in a warning, as is a WebP animation; more than 5 % of them are an
    error. A file that is empty, has more than 1 GiB, or isn't a regular file (a named pipe, a device) can't be read
    either, and is never opened. Folders that can't be listed are left out, with a warning when the `ImageFolder` is
    made.

    Args:
        path: of a folder, which is searched with all folders below it; of one picture; of a CSV file, whose first
            column of existing files, relative to the CSV file, is taken. Or a list of paths of pictures and folders, or
            a DataFrame with a column of paths. `~` is the home folder.
        side: the same as `size=(side, side)`.
        crop: takes a square of so many pixels out of each picture at random: where `train` goes through the pictures
            again, another one each time; elsewhere one that `seed` decides, so that it can be encoded again.
        labels: whether the folders right below `path` are labels, as numbers in the order of `class_names`.
        seed: of the crops, and of the split.
        max_pixels: height times width that a picture may have at most, before it is resized or cropped; `None` for no
            limit. A picture with more counts as one that can't be read, and is never decoded: a small file can hold
            a picture that takes gigabytes. Above the default Pillow warns of a decompression bomb.
        size: `(height, width)` that every picture gets.
        fit: how a picture gets to `size`. `"crop"` takes the largest part in its middle with the proportions of
            `size`; `"pad"` keeps all of it, with black (0) bars on both sides; `"stretch"` changes its proportions.
        class_names: with `labels=True`, the folders to take and the order that numbers them. Pictures in other folders
            are left out and counted in `ignored`; a class without pictures keeps its number. For a test set take
            `class_names=train_folder.class_names`.
        validation_split: share of the pictures, between 0 and 1, that is the validation set: at least one, and not
            all. `seed` and the name of a picture decide where it belongs. A file with several names, by links, belongs
            to one subset.
        subset: `"training"` or `"validation"`, with `validation_split`.
        pages: what the pages of a TIFF file are: `"bands"` of one picture, one after the other, or `"pictures"`, with
            names such as `scan.tif#0`.
        augment: a Keras layer, such as `keras.layers.RandomFlip("horizontal")`, through which `train` and `fine_tune`
            see the pictures; `encode`, `evaluate` and validation see them as they are. It is called with
            `training=True` on float32 batches `(N, H, W, C)` of 0 to 255 (`value_range=(0, 255)` for layers that ask
            for it) and must keep their shape; the result is rounded, and clipped to this range. Levels above the first
            train on encodings of the pictures as they are. Random numbers of the layer aren't in checkpoints, so a
            training that is resumed sees other augmentations than one without a break.

    Attributes:
        path: the folder that all pictures are in.
        names: paths of the pictures below `path`, with `/` between folders: sorted, or in the order of a list or
            table. Pictures that turn out to be unreadable when they are read go from here, so that `names` are the
            rows of `encode(folder)`.
        labels: `(N,)`, one for each of `names`: int64, the index of its folder in `class_names`, or the column of a
            table; `{column: (N,)}` for several columns; `None` without labels.
        class_names: names of the classes by number; `None` without `labels=True`.
        skipped: name → reason, of pictures that can't be read, as far as is known yet.
        ignored: what isn't used → how often: suffixes of files that aren't pictures (`{".txt": 2}`), and folders that
            aren't in `class_names` (`{"birds/": 7}`).

    Raises:
        FileNotFoundError: the folder, or a file of a list or table, isn't there.
        OSError: the folder can't be listed.
        ValueError: there are no pictures, one isn't in a folder of its label, or arguments contradict each other.

    Example:
        >>> sae.train(ImageFolder("photos", side=64), epochs=10)
        >>> store = sae.encode_to("encodings", ImageFolder("pets", side=64, labels=True))
        >>> store.names[0], store.class_names[store.labels[0]]
        ('cats/0001.jpg', 'cats')
    """

    def __init__(
        self,
        path: AnyPath | Sequence[AnyPath] | Any,
        side: int | None = None,
        crop: int | None = None,
        labels: bool = False,
        seed: int = 0,
        max_pixels: int | None = MAX_PIXELS,
        *,
        size: tuple[int, int] | None = None,
        fit: Fit = "crop",
        class_names: Sequence[str] | None = None,
        validation_split: float | None = None,
        subset: str | None = None,
        augment: keras.Layer | None = None,
        pages: Literal["bands", "pictures"] = "bands",
    ) -> None:
        self.size = _checked_size(side, size)
        self.fit = _checked_fit(fit, self.size)
        self.crop = None if crop is None else positive_int("crop", crop)
        self.seed = positive_int("seed", seed, least=0)
        self.max_pixels = None if max_pixels is None else positive_int("max_pixels", max_pixels)
        self.augment = _checked_layer(augment)
        self.split = _checked_split(validation_split, subset)
        if self.size is not None and crop is not None:
            raise ValueError(
                f"`{'side' if size is None else 'size'}` resizes pictures and `crop` cuts a part out of them: give one "
                f"of the two. Received: {f'side={side}' if size is None else f'size={size}'}, crop={crop}"
            )
        class_names = _checked_classes(class_names, labels)
        listing = path if isinstance(path, Listing) else _listing_of(path)
        self.path = listing.root
        self.shown = listing.shown
        self.ignored = dict(listing.ignored)
        if listing.unlisted:
            warnings.warn(
                f"Left out, since these folders can't be listed: {listed(listing.unlisted)}. To use the pictures in "
                "them, make the folders readable.",
                stacklevel=2,
            )
        if not listing.names:
            others = f" Of other kinds there are {counted(listing.ignored)}: convert them." if listing.ignored else ""
            raise ValueError(
                f"No pictures ({', '.join(SUFFIXES)}) are below the folder.{others} Received: {listing.shown}"
            )
        unread = {suffix: count for suffix, count in self.ignored.items() if suffix in KINDS_OF_PICTURES}
        if unread:
            warnings.warn(
                f"Left out, since pictures of these kinds can't be read: {counted(unread)}. Convert them, for example "
                f"to PNG. Received: {listing.shown}",
                stacklevel=2,
            )
        rows = range(len(listing.names))
        self.class_names: list[str] | None = None
        self.renumbered = False  # whether labels aren't the places of the folders in alphabetical order
        taken = listing.labels
        if labels:
            rows, taken = self._by_folder(listing, class_names)
        if self.split is not None:
            rows = _part(listing, rows, self.split, self.seed)
        self.files = [listing.names[row] for row in rows]  # also the skipped ones
        self.skipped = {name: listing.problems[name] for name in self.files if name in listing.problems}
        if pages not in PAGES:
            raise ValueError(f"`pages` must be one of {', '.join(map(repr, PAGES))}. Received: pages={pages!r}")
        self.pages = pages
        if pages == "pictures":
            counts = [0 if name in self.skipped else _count_pages(listing.root / name) for name in self.files]
            rows = np.repeat(rows, np.maximum(counts, 1))
            self.files = [
                name if count < 2 else f"{name}#{page}"
                for name, count in zip(self.files, counts, strict=True)
                for page in range(max(count, 1))
            ]
        self._labels = labels_at(taken, list(rows))

    @classmethod
    def from_table(
        cls,
        table: Any,
        path: str | None = None,
        label: str | Sequence[str] | None = None,
        root: AnyPath | None = None,
        **options: Any,
    ) -> ImageFolder:
        """The pictures that a column of a table names, in the order of its rows.

        Args:
            table: path of a CSV file with column names in its first line; a DataFrame, or a dict of columns.
            path: name of the column of paths, by default the first one that holds existing files.
            label: name of the column of labels, numbers or texts; a list of names for several, which makes `labels` a
                dict.
            root: folder that relative paths begin at; by default that of the CSV file, else the current one.
            options: arguments of `ImageFolder`.

        Raises:
            ValueError: a column is missing, a row has no label, or a picture is named twice.
            FileNotFoundError: the CSV file or some of the pictures aren't there.
        """
        if label is not None and options.get("labels"):
            raise ValueError("`label` names a column of labels, and `labels=True` takes folders: give one of the two.")
        return cls(of_table(table, path, label, root), **options)

    @property
    def side(self) -> int | None:
        """Side of the squares that the middles of the pictures are resized to, if they are."""
        is_square = self.size is not None and self.size[0] == self.size[1] and self.fit == "crop"
        return self.size[0] if is_square else None

    @property
    def names(self) -> list[str]:
        return [name for name in self.files if name not in self.skipped] if self.skipped else self.files

    @property
    def labels(self) -> Labels | None:
        if not self.skipped:
            return self._labels
        return labels_at(self._labels, [row for row, name in enumerate(self.files) if name not in self.skipped])

    @property
    def all_labels(self) -> Labels | None:
        """The labels of `files`."""
        return self._labels

    def __len__(self) -> int:
        return len(self.files) - len(self.skipped)

    def __repr__(self) -> str:
        ignored = f", {counted(self.ignored)} ignored" if self.ignored else ""
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return f"{self.as_call()}: {len(self):,} pictures{skipped}{ignored}"

    def as_call(self) -> str:
        """How it was made, as far as this decides which pictures it holds, and how they are taken."""
        taken = ""
        if self.side is not None:
            taken = f", side={self.side}"
        elif self.size is not None:
            taken = f", size={self.size}, fit={self.fit!r}"
        if self.crop is not None:
            taken += f", crop={self.crop}"
        if self.pages != "bands":
            taken += f", pages={self.pages!r}"
        if self.split is not None:
            taken += f", validation_split={self.split[0]:g}, subset={self.split[1]!r}"
        return f"ImageFolder({self.shown}{taken})"

    def _by_folder(self, listing: Listing, class_names: list[str] | None) -> tuple[list[int], np.ndarray]:
        """The pictures in folders of the classes, and a label for every picture of the listing, -1 for others."""
        homes = list(class_folders(listing))
        if None in homes:
            stray = printable(listing.names[homes.index(None)])
            raise ValueError(
                "`labels=True` takes the folders right below `path` as labels, and this picture isn't in one: "
                f"{stray}. Move it, or leave `labels` out. Received: path={listing.shown}"
            )
        folders = sorted(set(homes))
        self.class_names = folders if class_names is None else class_names
        number = {name: index for index, name in enumerate(self.class_names)}
        labels = np.array([number.get(home, -1) for home in homes], np.int64)
        rows = np.flatnonzero(labels >= 0).tolist()
        if not rows:
            raise ValueError(
                f"No picture is in a folder of `class_names`. The folders are {shown_paths(folders)}. "
                f"Received: class_names={class_names!r}"
            )
        self.ignored |= Counter(f"{home}/" for home in homes if home not in number)
        present = [name for name in folders if name in number]
        self.renumbered = self.class_names[: len(present)] != present
        return rows, labels


def holds_pictures(images: Any) -> bool:
    """Whether an `ImageFolder` can be made of this: a path, a list of paths, or a table of paths."""
    return is_path(images) or paths_in(images) is not None or holds_paths(images)


def _listing_of(path: Any) -> Listing:
    if is_table_file(path) or is_table(path):
        return of_table(path)
    if is_path(path):
        return of_path(path)
    paths = paths_in(path)
    if paths is None:
        raise ValueError(
            "`path` must be the path of a folder, a picture or a CSV file, a list of such paths of pictures and "
            f"folders, or a DataFrame with a column of them. Received: path={printable(repr(path), 200)}"
        )
    return of_paths(paths)


def _part(listing: Listing, rows: Sequence[int], split: tuple[float, str], seed: int) -> list[int]:
    """The rows of one subset, in order. Where a file belongs depends on its first name, not on other files."""
    share, subset = split
    files: dict[Any, list[int]] = {}  # identity of a file → its rows
    unreadable = [row for row in rows if listing.names[row] in listing.problems]  # the training set reports them
    for row in sorted({*rows}.difference(unreadable)):
        files.setdefault(_identity(listing.root / listing.names[row]), []).append(row)
    if len(files) < 2:
        raise ValueError(
            "`validation_split` needs at least two pictures, one for each subset. Add pictures, or leave it out. "
            f"Received: validation_split={share:g} of {len(files)} in {listing.shown}"
        )

    def place(same: list[int]) -> bytes:
        return hashlib.sha256(os.fsencode(f"{seed}/{listing.names[same[0]]}")).digest()

    shuffled = sorted(files.values(), key=place)
    count = min(max(1, round(share * len(shuffled))), len(shuffled) - 1)
    return sorted(chain(*shuffled[:count]) if subset == "validation" else chain(unreadable, *shuffled[count:]))


def _count_pages(file: Path) -> int:
    """Number of pages of a TIFF file; 1 for other files, and 0 for those that can't be read, as is found out later."""
    if not file.name.lower().endswith(TIFF_SUFFIXES):
        return 1
    try:
        return count_pages(file)
    except Exception:  # whatever the library raises for a damaged file
        return 0


def _identity(file: Path) -> tuple[int, int] | Path:
    """What the names of one file, by links, have in common."""
    try:
        status = file.stat()
    except OSError:  # it is gone
        return file
    return status.st_dev, status.st_ino


# === Checks of arguments ===


def _checked_size(side: int | None, size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None if side is None else (positive_int("side", side),) * 2
    if side is not None:
        raise ValueError(f"`side=64` stands for `size=(64, 64)`: give one. Received: side={side}, size={size}")
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"`size` must be `(height, width)`. Received: size={size!r}")
    return positive_int("size", size[0]), positive_int("size", size[1])


def _checked_fit(fit: str, size: tuple[int, int] | None) -> Fit:
    if fit not in FITS:
        raise ValueError(f"`fit` must be one of {', '.join(FITS)}. Received: fit={fit!r}")
    if fit != "crop" and size is None:
        raise ValueError(
            f"`fit` says how pictures get to a `size`: give `size=(height, width)` as well. Received: fit={fit!r}"
        )
    return fit


def _checked_layer(augment: Any) -> keras.Layer | None:
    if augment is not None and not isinstance(augment, keras.Layer):
        raise ValueError(
            "`augment` must be a Keras layer, such as `keras.layers.RandomFlip('horizontal')`; "
            f"`keras.Sequential([…])` joins several. Received: a {type(augment).__name__}"
        )
    return augment


def _checked_split(share: float | None, subset: str | None) -> tuple[float, str] | None:
    if share is None and subset is None:
        return None
    if share is None or subset not in SUBSETS:
        raise ValueError(
            "`validation_split` and `subset` belong together: `validation_split=0.2` with `subset='training'` or "
            f"`subset='validation'`. Received: validation_split={share!r}, subset={subset!r}"
        )
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ValueError(f"`validation_split` must lie between 0 and 1. Received: validation_split={share!r}")
    return float(share), subset


def _checked_classes(class_names: Sequence[str] | None, labels: bool) -> list[str] | None:
    if class_names is None:
        return None
    if not labels:
        raise ValueError(
            "`class_names` chooses folders and numbers them as labels: give `labels=True` as well. "
            f"Received: class_names={class_names!r}"
        )
    names = [] if isinstance(class_names, str) else list(class_names)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(
            f"`class_names` must be a list of names of folders, each once. Received: class_names={class_names!r}"
        )
    return names
