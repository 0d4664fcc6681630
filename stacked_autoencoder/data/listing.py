"""Lists the picture files of a folder, a file or a list of paths."""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stacked_autoencoder.data.decoding import SUFFIXES
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import LARGEST_FILE, expanded, problem_with
from stacked_autoencoder.utils.labels import Labels

AnyPath = str | os.PathLike[str]
MOST_NAMED = 20  # reasons in one message
SHOWN = 3  # paths in one message
# Suffixes of pictures that cannot be read, which cause a warning. Other files, such as notes and tables, do not.
KINDS_OF_PICTURES = (
    *(".avif", ".dcm", ".exr", ".hdr", ".heic", ".heif", ".ico", ".j2k", ".jp2", ".jxl", ".pbm", ".pgm", ".ppm"),
    *(".psd", ".svg", ".tga"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".raw", ".rw2"),  # raw files of cameras
)


@dataclass
class Listing:
    """Picture files, and other entries of their folders.

    Attributes:
        root: folder that contains all of them.
        shown: text that describes where they were listed from, for messages.
        names: their paths relative to `root`, each once: plain strings, since there may be millions.
        problems: name → reason why that file must not be opened.
        unlisted: folders that cannot be listed, each with the reason.
        ignored: suffix → number of files that are not pictures by their names. Hidden files are not counted.
        labels: one label per name, or several by the names of their columns.
    """

    root: Path
    shown: str
    names: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    labels: Labels | None = None


def is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))


def paths_in(value: Any) -> list[Any] | None:
    """Returns the items of a list, tuple, array or column that holds texts or paths; `None` for anything else."""
    if hasattr(value, "dtype") and np.ndim(value) == 1 and getattr(value.dtype, "kind", "O") in "OTU":
        value = np.asarray(value).tolist()  # also for a column of a table
    if isinstance(value, (list, tuple)) and any(map(is_path, value)):
        return list(value)
    return None


def listed(reasons: Sequence[str]) -> str:
    """Joins reasons in one line. Only the first ones are named if there are many."""
    named = "; ".join(reasons[:MOST_NAMED])
    return named if len(reasons) <= MOST_NAMED else f"{named}; and {len(reasons) - MOST_NAMED} more"


def shown_paths(paths: Sequence[Any]) -> str:
    """Quotes the first paths of a sequence."""
    named = ", ".join(repr(printable(os.fspath(path), 200)) for path in paths[:SHOWN])
    return named if len(paths) <= SHOWN else f"{named} and {len(paths) - SHOWN:,} more"


def counted(ignored: Mapping[str, int]) -> str:
    """Returns text such as `"24 .tif, 2 .txt"`, the most frequent suffix first."""
    kinds = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {printable(kind, 40) or 'without suffix'}" for kind, count in kinds)


def of_path(path: AnyPath) -> Listing:
    """Lists the pictures in a folder and its subfolders, sorted, or one picture file.

    Raises:
        FileNotFoundError: the path does not exist.
        OSError: the folder cannot be listed.
        ValueError: the file is not a picture by its name.
    """
    file = expanded(path)
    if os.path.isdir(file):
        return _below(Path(file))
    if not os.path.lexists(file):
        raise FileNotFoundError(
            f"This folder or file does not exist, and relative paths start at {os.getcwd()!r}. "
            f"Received: {os.fspath(path)!r}"
        )
    return of_paths([file])


def of_paths(paths: Sequence[Any], base: AnyPath | None = None, named: str = "A list of text") -> Listing:
    """Lists picture files, and the pictures in folders and their subfolders, in the order of the paths.

    Args:
        paths: paths of files and folders.
        base: folder that relative paths start at, the current folder by default. Names are relative to it if it
            contains all pictures, else to the deepest folder that does.
        named: what holds the paths, for messages.

    Raises:
        FileNotFoundError: some paths do not exist.
        ValueError: some items are not paths, are repeated, or are not pictures by their names.
    """
    invalid = [index for index, path in enumerate(paths) if not is_path(path) or not os.fspath(path)]
    if invalid:
        index = invalid[0]
        raise ValueError(
            f"{named} must hold only paths. Leave out items without a picture. "
            f"Received: {paths[index]!r} at index {index}, and {len(invalid) - 1:,} more"
        )
    start = os.path.abspath(expanded(base or "."))
    folders: list[str] = []  # that contain the pictures
    parts: list[tuple[str, Listing | None]] = []  # absolute path, and the listing of a folder
    problems: dict[str, str] = {}
    missing, others = [], []
    for path in paths:
        file = os.path.abspath(os.path.join(start, expanded(path)))
        try:
            status = os.stat(file)
        except (FileNotFoundError, NotADirectoryError):
            missing.append(path)
            continue
        except OSError as error:
            problems[file] = error.strerror
            status = None
        if status is not None and stat.S_ISDIR(status.st_mode):
            parts.append((file, _below(Path(file))))
            folders.append(file)
            continue
        if os.path.splitext(file)[1].lower() not in ("", *SUFFIXES):
            others.append(path)
        if status is not None and (problem := _problem_of(status)) is not None:
            problems[file] = problem
        parts.append((file, None))
        folders.append(os.path.dirname(file))
    if missing:
        raise FileNotFoundError(
            f"{named} is read as paths of pictures, but {len(missing):,} of {len(paths):,} do not exist: "
            f"{shown_paths(missing)}. Relative paths start at {start!r}. Leave out those that are missing, or pass "
            "images as arrays."
        )
    if others:
        raise ValueError(
            f"{len(others):,} of {len(paths):,} files are not pictures by their names: {shown_paths(others)}. Names of "
            f"pictures end in {', '.join(SUFFIXES)}. Leave the others out, or convert them."
        )
    within = f"{start.rstrip('/')}/"
    is_below_base = base is not None and all(f"{folder}/".startswith(within) for folder in folders)
    listing = Listing(Path(start if is_below_base else os.path.commonpath(folders)), f"[{shown_paths(paths)}]")
    skipped = len(str(listing.root).rstrip("/")) + 1
    for file, below in parts:
        if below is None:
            listing.names.append(file[skipped:])
            continue
        prefix = f"{file[skipped:]}/" if file[skipped:] else ""
        listing.names += [f"{prefix}{name}" for name in below.names]
        problems |= {f"{file}/{name}": reason for name, reason in below.problems.items()}
        listing.unlisted += below.unlisted
        listing.ignored += below.ignored
    listing.problems = {file[skipped:]: reason for file, reason in problems.items()}
    repeated = [name for name, count in Counter(listing.names).items() if count > 1]
    if repeated:
        raise ValueError(
            f"Each picture can be listed only once, but {len(repeated):,} are listed more than once: "
            f"{shown_paths(repeated)}. Name each of them once; a folder stands for all pictures in it."
        )
    return listing


# === A folder ===


def _below(folder: Path) -> Listing:
    """Searches for pictures in a folder and its subfolders, also behind symbolic links.

    Each folder is searched once, whatever links lead to it: links are followed after all folders that are not links.
    """
    listing = Listing(folder, repr(str(folder)))
    reached: set[tuple[int, int]] = set()  # device and inode of folders
    named_as_pictures: list[str] = []  # folders with the suffix of a picture
    starts, is_link = [""], False
    while starts:
        links: list[str] = []
        for start in starts:
            waiting = [start]
            while waiting:
                below = waiting.pop()
                entries = _entries(listing, below, reached, is_link)
                if entries is None:
                    continue
                if below.lower().endswith(SUFFIXES):
                    named_as_pictures.append(below)
                for entry in entries:
                    name = f"{below}/{entry.name}" if below else entry.name
                    if _is_true(lambda entry=entry: entry.is_dir(follow_symlinks=False)):
                        waiting.append(name)
                    elif _is_true(entry.is_dir):
                        links.append(name)
                    else:
                        _add_file(listing, name, entry)
        starts, is_link = sorted(links), True
    listing.names.sort()
    for name in [name for name in named_as_pictures if not _any_below(name, listing.names)]:
        listing.names.append(name)
        listing.problems[name] = "it is a directory, not a regular file"
    listing.names.sort()
    listing.unlisted.sort()
    return listing


def _entries(
    listing: Listing, below: str, reached: set[tuple[int, int]], is_link: bool
) -> list[os.DirEntry[str]] | None:
    """Returns the entries of a folder without hidden files, `None` if it cannot be listed or was already searched."""
    folder = listing.root / below
    try:
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if is_link and identity in reached:
            return None
        reached.add(identity)
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        if not below:
            raise OSError(
                error.errno, f"The folder of pictures cannot be listed ({error.strerror})", str(folder)
            ) from None
        listing.unlisted.append(f"{printable(folder)} ({error.strerror})")
        return None


def _add_file(listing: Listing, name: str, entry: os.DirEntry[str]) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()
    if name.lower().endswith(SUFFIXES):
        listing.names.append(name)
        try:
            problem = _problem_of(entry.stat())
        except OSError as error:  # such as a link whose target does not exist
            problem = error.strerror
        if problem is not None:
            listing.problems[name] = problem
        return
    if not suffix and _is_true(entry.is_symlink):  # perhaps to a folder that does not exist
        try:
            entry.stat()
        except OSError as error:
            listing.unlisted.append(f"{printable(listing.root / name)} ({error.strerror})")
            return
    listing.ignored[suffix] += 1


def _any_below(folder: str, names: list[str]) -> bool:
    """Whether any of the sorted names is in a folder."""
    first = bisect_left(names, f"{folder}/")
    return first < len(names) and names[first].startswith(f"{folder}/")


def _is_true(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except OSError:  # the disk cannot be read
        return False


def _problem_of(status: os.stat_result) -> str | None:
    # Virtual files of the kernel have size 0, and some of them never end.
    return problem_with(status, LARGEST_FILE) or (None if status.st_size else "it is empty")


def class_folders(listing: Listing) -> Iterator[str | None]:
    """Yields, for each picture, its first folder below the root, or `None` for a picture in the root."""
    return (name.split("/", 1)[0] if "/" in name else None for name in listing.names)
