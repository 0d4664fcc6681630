"""`ImageFolder`: the pictures of a folder, a list of files or a table, and how to read them."""

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
    """A folder of pictures. Pass it to any method that accepts images.

    You can pass a path instead of `ImageFolder(path)`: in both cases pictures keep their sizes, which may differ.
    Supported formats are JPEG, PNG, WebP, BMP, GIF (first frame), TIFF and NumPy files. Pictures are turned upright
    according to their EXIF orientation and converted to the channels of the model: grey or colour, with an alpha
    channel blended onto white.

    Pictures are read when they are needed, as uint8 (0 to 255), and scaled to the value range of the stack, by default
    [-1, 1]. A stack with a `value_range` of more than 8 bits, such as `(0, 65535)`, reads them as float32 and keeps
    16 bits.

    Hidden files are ignored, and symbolic links are followed. Pictures that cannot be read are skipped with a warning
    that names them: damaged files, WebP animations, empty files, files of more than 1 GiB, and anything that is not a
    regular file (named pipes and devices, which are never opened). If more than 5 % of the pictures cannot be read, a
    `ValueError` is raised. Subfolders that cannot be listed are skipped with a warning.

    Args:
        path: path of a folder, which is searched with all subfolders; of one picture; or of a CSV file, whose first
            column with paths of existing files (relative to the CSV file) is used. Or a list of paths of pictures and
            folders, or a DataFrame with a column of paths. `~` is the home folder.
        side: short for `size=(side, side)`.
        crop: side of a square that is cut out of each picture at a random position. Each epoch of `train` uses other
            positions. Elsewhere, `seed` determines the position, so that encodings are reproducible.
        labels: whether the name of the first folder below `path` is the label of a picture, stored as an index into
            `class_names`.
        seed: seed of the crops and of `validation_split`.
        max_pixels: maximum height times width of a picture before it is resized or cropped, `None` for no limit.
            Larger pictures count as unreadable and are never decoded, since a small file can contain a picture that
            takes gigabytes of memory. The default is the size above which Pillow warns of a decompression bomb.
        size: `(height, width)` to which every picture is resized.
        fit: how pictures are resized to `size`. `"crop"` uses the largest central part with the proportions of `size`;
            `"pad"` keeps the whole picture and adds black bars (0) on both sides; `"stretch"` changes its proportions.
        class_names: with `labels=True`, names of the folders to use, in the order of their labels. Pictures in other
            folders are left out and counted in `ignored`. A class without pictures keeps its number. For a test set,
            pass `class_names=train_folder.class_names`.
        validation_split: share of the pictures in the validation set, between 0 and 1. Each subset has at least one
            picture. `seed` and the name of a picture determine its subset. If links give a file several names, all of
            them are in the same subset.
        subset: `"training"` or `"validation"`, required with `validation_split`.
        augment: Keras layer for augmentation, such as `keras.layers.RandomFlip("horizontal")`. `train` and `fine_tune`
            apply it to the pictures; `encode`, `evaluate` and validation do not. It is called with `training=True` on
            float32 batches `(N, H, W, C)` with values from 0 to 255 (pass `value_range=(0, 255)` to layers with such an
            argument) and must keep their shape. The result is rounded and clipped to 0 to 255. Levels above the
            first train on encodings of pictures without augmentation. Checkpoints do not contain the random state of
            the layer, so resumed training uses other augmentations than uninterrupted training.
        pages: `"bands"` if the pages of a TIFF file are bands of one picture, `"pictures"` if each page is a picture,
            with a name such as `scan.tif#0`.

    Attributes:
        path: folder that contains all pictures.
        names: list of paths relative to `path`, with `/` between folders: sorted, or in the order of the list or table.
            Pictures that turn out to be unreadable are removed, so that `names` are the rows of `encode(folder)`.
        labels: array `(N,)`, one label for each of `names`: the index of its folder in `class_names` (int64), or the
            value in a column of the table; a dict `{column: (N,)}` for several columns; `None` without labels.
        class_names: names of the classes in the order of their labels; `None` without `labels=True`.
        skipped: dict from the name of each picture that is known to be unreadable to the reason.
        ignored: dict with the numbers of files that are not used: by suffix for files that are not pictures
            (`{".txt": 2}`), and by folder for folders that are not in `class_names` (`{"birds/": 7}`).

    Raises:
        FileNotFoundError: the folder, or a file of a list or table, does not exist.
        OSError: the folder cannot be listed.
        ValueError: there are no pictures, a picture is not in a folder of a class, or arguments contradict each other.

    Example:
        >>> sae.train(ImageFolder("photos", side=64), epochs=10)
        >>> z = sae.encode(ImageFolder("photos", side=64))     # (N, 8, 8, 64) float32
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
                f"`{'side' if size is None else 'size'}` resizes pictures and `crop` cuts out a part: pass only "
                f"one of the two. Received: {f'side={side}' if size is None else f'size={size}'}, crop={crop}"
            )
        class_names = _checked_classes(class_names, labels)
        listing = path if isinstance(path, Listing) else _listing_of(path)
        self.path = listing.root
        self.shown = listing.shown
        self.ignored = dict(listing.ignored)
        if listing.unlisted:
            warnings.warn(
                f"Skipped folders that cannot be listed: {listed(listing.unlisted)}. To use the pictures in them, make "
                "the folders readable.",
                stacklevel=2,
            )
        if not listing.names:
            others = f" There are other files, {counted(listing.ignored)}: convert them." if listing.ignored else ""
            raise ValueError(
                f"No pictures ({', '.join(SUFFIXES)}) are in the folder.{others} Received: {listing.shown}"
            )
        unsupported = {suffix: count for suffix, count in self.ignored.items() if suffix in KINDS_OF_PICTURES}
        if unsupported:
            warnings.warn(
                f"Skipped pictures of formats that can't be read: {counted(unsupported)}. Convert them, for example to "
                f"PNG. Received: {listing.shown}",
                stacklevel=2,
            )
        rows = range(len(listing.names))
        self.class_names: list[str] | None = None
        self.renumbered = False  # whether labels are not in the alphabetical order of the folders
        all_labels = listing.labels
        if labels:
            rows, all_labels = self._by_folder(listing, class_names)
        if self.split is not None:
            rows = _part(listing, rows, self.split, self.seed)
        self.files = [listing.names[row] for row in rows]  # including skipped pictures
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
        self._labels = labels_at(all_labels, list(rows))

    @classmethod
    def from_table(
        cls,
        table: Any,
        path: str | None = None,
        label: str | Sequence[str] | None = None,
        root: AnyPath | None = None,
        **options: Any,
    ) -> ImageFolder:
        """Creates an `ImageFolder` of the pictures in a column of a table, in the order of its rows.

        Args:
            table: path of a CSV file with column names in its first line; a DataFrame, or a dict of columns.
            path: name of the column of paths, by default the first one that holds paths of existing files.
            label: name of the column of labels, numbers or strings; or a list of names, so that `labels` is a dict.
            root: folder that relative paths start from; by default the folder of the CSV file, or the current folder
                for other tables.
            options: other arguments of `ImageFolder`.

        Returns:
            An `ImageFolder`.

        Raises:
            ValueError: a column is missing, a row has no label, or a picture is listed twice.
            FileNotFoundError: the CSV file or some of the pictures do not exist.

        Example:
            >>> folder = ImageFolder.from_table("photos.csv", path="file", label="kind", side=64)
            >>> folder.labels[:3]
            array(['cat', 'dog', 'cat'], dtype='<U3')
        """
        if label is not None and options.get("labels"):
            raise ValueError(
                "`label` is the name of a column, and `labels=True` uses folders as labels: pass only one of the two. "
                f"Received: label={label!r}, labels=True"
            )
        return cls(of_table(table, path, label, root), **options)

    @property
    def side(self) -> int | None:
        """Side of the squares that the pictures are resized to, or `None` if they are not resized to squares."""
        is_square = self.size is not None and self.size[0] == self.size[1] and self.fit == "crop"
        return self.size[0] if is_square else None

    @property
    def names(self) -> list[str]:
        """List of the paths of all readable pictures, relative to `path`."""
        return [name for name in self.files if name not in self.skipped] if self.skipped else self.files

    @property
    def labels(self) -> Labels | None:
        """The labels of `names`, or `None` without labels."""
        if not self.skipped:
            return self._labels
        return labels_at(self._labels, [row for row, name in enumerate(self.files) if name not in self.skipped])

    @property
    def all_labels(self) -> Labels | None:
        """The labels of all pictures, including skipped ones, or `None` without labels."""
        return self._labels

    def __len__(self) -> int:
        return len(self.files) - len(self.skipped)

    def __repr__(self) -> str:
        ignored = f", {counted(self.ignored)} ignored" if self.ignored else ""
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return f"{self.as_call()}: {len(self):,} pictures{skipped}{ignored}"

    def as_call(self) -> str:
        """Returns the call that makes this folder, with the arguments that decide what is read."""
        options = ""
        if self.side is not None:
            options = f", side={self.side}"
        elif self.size is not None:
            options = f", size={self.size}, fit={self.fit!r}"
        if self.crop is not None:
            options += f", crop={self.crop}"
        if self.pages != "bands":
            options += f", pages={self.pages!r}"
        if self.split is not None:
            options += f", validation_split={self.split[0]:g}, subset={self.split[1]!r}"
        return f"ImageFolder({self.shown}{options})"

    def _by_folder(self, listing: Listing, class_names: list[str] | None) -> tuple[list[int], np.ndarray]:
        """Returns the rows of pictures in the classes, and the labels of all pictures, -1 for other classes."""
        homes = list(class_folders(listing))
        if None in homes:
            stray = printable(listing.names[homes.index(None)])
            raise ValueError(
                "`labels=True` uses the folders directly below `path` as labels, but this picture isn't in one: "
                f"{stray}. Move it, or omit `labels`. Received: path={listing.shown}"
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
    """Whether this is a path, a list of paths or a table of paths, so that it can be an `ImageFolder`."""
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
    """Returns the rows of one subset, in order. The subset of a file depends on its first name, not on other files."""
    share, subset = split
    files: dict[Any, list[int]] = {}  # identity of a file → rows with its names
    unreadable = [row for row in rows if listing.names[row] in listing.problems]  # the training set reports them
    for row in sorted({*rows}.difference(unreadable)):
        files.setdefault(_identity(listing.root / listing.names[row]), []).append(row)
    if len(files) < 2:
        raise ValueError(
            "`validation_split` needs at least two pictures, one for each subset. Add pictures, or omit it. "
            f"Received: validation_split={share:g} of {len(files)} in {listing.shown}"
        )

    def sort_key(same_file: list[int]) -> bytes:
        return hashlib.sha256(os.fsencode(f"{seed}/{listing.names[same_file[0]]}")).digest()

    shuffled = sorted(files.values(), key=sort_key)
    count = min(max(1, round(share * len(shuffled))), len(shuffled) - 1)
    return sorted(chain(*shuffled[:count]) if subset == "validation" else chain(unreadable, *shuffled[count:]))


def _count_pages(file: Path) -> int:
    """Returns the number of pages of a TIFF file, 1 for other files, 0 for unreadable files."""
    if not file.name.lower().endswith(TIFF_SUFFIXES):
        return 1
    try:
        return count_pages(file)
    except Exception:  # damaged files raise errors of any type
        return 0


def _identity(file: Path) -> tuple[int, int] | Path:
    """Returns what identifies a file, whatever links lead to it."""
    try:
        status = file.stat()
    except OSError:  # the file does not exist
        return file
    return status.st_dev, status.st_ino


# === Checks of arguments ===


def _checked_size(side: int | None, size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None if side is None else (positive_int("side", side),) * 2
    if side is not None:
        raise ValueError(
            f"`side=64` means `size=(64, 64)`: pass only one of the two. Received: side={side}, size={size}"
        )
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"`size` must be `(height, width)`. Received: size={size!r}")
    return positive_int("size", size[0]), positive_int("size", size[1])


def _checked_fit(fit: str, size: tuple[int, int] | None) -> Fit:
    if fit not in FITS:
        raise ValueError(f"`fit` must be one of {', '.join(FITS)}. Received: fit={fit!r}")
    if fit != "crop" and size is None:
        raise ValueError(
            f"`fit` decides how pictures are resized, so it needs `size=(height, width)` as well. Received: fit={fit!r}"
        )
    return fit


def _checked_layer(augment: Any) -> keras.Layer | None:
    if augment is not None and not isinstance(augment, keras.Layer):
        raise ValueError(
            "`augment` must be a Keras layer, such as `keras.layers.RandomFlip('horizontal')`; "
            f"`keras.Sequential([…])` combines several. Received: a {type(augment).__name__}"
        )
    return augment


def _checked_split(share: float | None, subset: str | None) -> tuple[float, str] | None:
    if share is None and subset is None:
        return None
    if share is None or subset not in SUBSETS:
        raise ValueError(
            "`validation_split` and `subset` must be used together: `validation_split=0.2` with `subset='training'` or "
            f"`subset='validation'`. Received: validation_split={share!r}, subset={subset!r}"
        )
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ValueError(f"`validation_split` must be between 0 and 1. Received: validation_split={share!r}")
    return float(share), subset


def _checked_classes(class_names: Sequence[str] | None, labels: bool) -> list[str] | None:
    if class_names is None:
        return None
    if not labels:
        raise ValueError(
            "`class_names` decides the labels of folders, so it needs `labels=True` as well. "
            f"Received: class_names={class_names!r}"
        )
    names = [] if isinstance(class_names, str) else list(class_names)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(
            f"`class_names` must be a list of different names of folders. Received: class_names={class_names!r}"
        )
    return names
