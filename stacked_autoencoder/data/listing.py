"""Which picture files a folder, a file or a list of paths stands for."""

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
MOST_NAMED = 20  # in one message
SHOWN = 3  # paths in one message
# Suffixes of pictures. Those of them that can't be read are worth a warning, which notes and tables aren't.
KINDS_OF_PICTURES = (
    *(".avif", ".dcm", ".exr", ".hdr", ".heic", ".heif", ".ico", ".j2k", ".jp2", ".jxl", ".pbm", ".pgm", ".ppm"),
    *(".psd", ".svg", ".tga"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".raw", ".rw2"),  # of cameras
)


@dataclass
class Listing:
    """Picture files, and what was found beside them.

    Attributes:
        root: the folder that all of them are in.
        shown: what they were listed from, for messages.
        names: their paths below `root`, each once: plain strings, since there may be millions.
        problems: name → why that file must not be opened.
        unlisted: folders that can't be listed, each with the reason.
        ignored: suffix → number of files that aren't pictures by their names; hidden files aren't counted.
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
    """The items of a list, tuple, array or column that holds text or paths; `None` for anything else."""
    if hasattr(value, "dtype") and np.ndim(value) == 1 and getattr(value.dtype, "kind", "O") in "OTU":
        value = np.asarray(value).tolist()  # a column of a table, too
    if isinstance(value, (list, tuple)) and any(map(is_path, value)):
        return list(value)
    return None


def listed(reasons: Sequence[str]) -> str:
    """Reasons in one line, the first of them where there are many."""
    named = "; ".join(reasons[:MOST_NAMED])
    return named if len(reasons) <= MOST_NAMED else f"{named}; and {len(reasons) - MOST_NAMED} more"


def shown_paths(paths: Sequence[Any]) -> str:
    """The first paths of many, quoted."""
    named = ", ".join(repr(printable(os.fspath(path), 200)) for path in paths[:SHOWN])
    return named if len(paths) <= SHOWN else f"{named} and {len(paths) - SHOWN:,} more"


def counted(ignored: Mapping[str, int]) -> str:
    """`"24 .tif, 2 .txt"`, the most frequent first."""
    kinds = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {printable(kind, 40) or 'without suffix'}" for kind, count in kinds)


def of_path(path: AnyPath) -> Listing:
    """The pictures below a folder, sorted, or one picture file.

    Raises:
        FileNotFoundError: nothing is there.
        OSError: the folder can't be listed.
        ValueError: the file isn't a picture by its name.
    """
    file = expanded(path)
    if os.path.isdir(file):
        return _below(Path(file))
    if not os.path.lexists(file):
        raise FileNotFoundError(f"This folder or file of pictures isn't there. Received: {os.fspath(path)!r}")
    return of_paths([file])


def of_paths(paths: Sequence[Any], base: AnyPath | None = None, named: str = "A list of text") -> Listing:
    """Picture files and pictures below folders, in the order of the paths.

    Args:
        paths: of files and folders.
        base: folder that relative paths begin at, the current one by default. Names are below it if all pictures are,
            else below the deepest folder that all of them are in.
        named: what holds the paths, for messages.

    Raises:
        FileNotFoundError: some of them aren't there.
        ValueError: some are no paths, are named twice, or aren't pictures by their names.
    """
    strange = [index for index, path in enumerate(paths) if not is_path(path) or not os.fspath(path)]
    if strange:
        index = strange[0]
        raise ValueError(
            f"{named} must hold a path in every place. Leave out what has no picture. "
            f"Received: {paths[index]!r} in place {index}, and {len(strange) - 1:,} more"
        )
    start = os.path.abspath(expanded(base or "."))
    folders: list[str] = []  # that the pictures are in
    parts: list[tuple[str, Listing | None]] = []  # absolute path, and what is below it if it is a folder
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
            f"{named} is taken as paths of pictures, and {len(missing):,} of {len(paths):,} aren't there: "
            f"{shown_paths(missing)}. Relative paths begin at {start!r}. Leave out those that are missing, or give "
            "images as arrays."
        )
    if others:
        raise ValueError(
            f"{len(others):,} of {len(paths):,} files aren't pictures by their names: {shown_paths(others)}. Names of "
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
    twice = [name for name, count in Counter(listing.names).items() if count > 1]
    if twice:
        raise ValueError(
            f"Each picture needs a name of its own, and {len(twice):,} of these are named more than once: "
            f"{shown_paths(twice)}. Name each of them once; a folder names all pictures below it."
        )
    return listing


# === A folder ===


def _below(folder: Path) -> Listing:
    """Looks for pictures in a folder and all folders below it, those behind symbolic links among them.

    A folder is searched once, whatever leads to it: links wait until all that isn't behind a link has been searched.
    """
    listing = Listing(folder, repr(str(folder)))
    reached: set[tuple[int, int]] = set()  # device and inode of folders
    named_as_pictures: list[str] = []  # folders
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
                    if _holds(lambda entry=entry: entry.is_dir(follow_symlinks=False)):
                        waiting.append(name)
                    elif _holds(entry.is_dir):
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
    """What is in a folder, hidden files left out; `None` if it can't be listed, or was reached before by a link."""
    folder = listing.root / below
    try:
        status = os.stat(folder)
        known = (status.st_dev, status.st_ino)
        if is_link and known in reached:
            return None
        reached.add(known)
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        if not below:
            raise OSError(
                error.errno, f"The folder of pictures can't be listed ({error.strerror})", str(folder)
            ) from None
        listing.unlisted.append(f"{printable(folder)} ({error.strerror})")
        return None


def _add_file(listing: Listing, name: str, entry: os.DirEntry[str]) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()
    if name.lower().endswith(SUFFIXES):
        listing.names.append(name)
        try:
            problem = _problem_of(entry.stat())
        except OSError as error:  # such as a link to nothing
            problem = error.strerror
        if problem is not None:
            listing.problems[name] = problem
        return
    if not suffix and _holds(entry.is_symlink):  # perhaps to a folder that is gone
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


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except OSError:  # its kind can't be told without reading the disk, which fails
        return False


def _problem_of(status: os.stat_result) -> str | None:
    # Files that the kernel makes up while they are read have no size, and some of them never end.
    return problem_with(status, LARGEST_FILE) or (None if status.st_size else "it is empty")


def class_folders(listing: Listing) -> Iterator[str | None]:
    """For each picture the folder right below the root, `None` for one that is in none."""
    return (name.split("/", 1)[0] if "/" in name else None for name in listing.names)
