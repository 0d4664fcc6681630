"""The files of a saved stack: their names, and reading and checking `autoencoder.json`.

The folder may come from somebody else. No code in it is run, and nothing in it is changed.

`autoencoder.json` and arrays of numbers are read. Keras's own `config.json` and the SavedModel are not, but for their
checksums.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from stacked_autoencoder.utils.errors import LoadError, printable
from stacked_autoencoder.utils.files import (
    is_folder,
    problem_with,
    read_regular,
    resolved,
    sha256,
)

FORMAT = 1
MISSING = ("error", "ignore")  # those of `utils.checks`, which would import TensorFlow for every command
MANIFEST = "autoencoder.json"
LARGEST_MANIFEST = 1 << 24  # bytes
MOST_FILES = 1 << 14  # that a manifest lists
STAGING = re.compile(r"\.autoencoder-([0-9a-f]{32})")
PART = re.compile(r"(encoder|decoder|predictor)(0|[1-9]\d{0,4})")
ARRAYS = re.compile(r"(linear|training)(0|[1-9]\d{0,4})\.npz")
MOST_LEVELS = 256
LARGEST_STACK = 1 << 32  # bytes of all files: a sparse file has any size, and reading more takes over ten seconds


def staging_folder(path: Path, manifest: Mapping[str, Any]) -> Path | None:
    """Where files of the saved stack are that haven't been moved to their places yet; `None` if all have been."""
    folder = path / f".autoencoder-{manifest.get('id')}"
    return folder if STAGING.fullmatch(folder.name) and is_folder(folder) else None


def is_name(name: Any) -> bool:
    """Whether `save` may have written a file of this name, relative to the folder of the stack."""
    if not isinstance(name, str) or len(name) > 1000 or not name.isprintable() or "\\" in name:
        return False
    first, *rest = parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return False
    return bool(PART.fullmatch(first) if rest else ARRAYS.fullmatch(first))


def has_links(path: Path, name: str) -> bool:
    """Whether a folder on the way to a file is something else: through a link, other folders would be written."""
    parents = [path / parent for parent in PurePosixPath(name).parents if parent.parts]
    return any(os.path.lexists(parent) and not is_folder(parent) for parent in parents)


LARGEST_SIDE = 1 << 31
DIGEST = re.compile(r"[0-9a-f]{64}")


class SavedStack(NamedTuple):
    """A stack on disk, whose files are all there and as they were saved.

    Attributes:
        path: its folder.
        manifest: what `autoencoder.json` says.
        staging: folder of the files that a save has not moved to their places yet, `None` if there is none.
    """

    path: Path
    manifest: dict[str, Any]
    staging: Path | None

    def file(self, name: str) -> Path:
        """Where a file that the manifest lists is."""
        staged = None if self.staging is None else self.staging / name
        return staged if staged is not None and os.path.lexists(staged) else self.path / name


def read(path: Path, *, trusted: bool = False) -> SavedStack:
    """Reads `autoencoder.json`, and checks that every file is there and is the one that was saved.

    Args:
        trusted: whether files may be of any size.

    Raises:
        FileNotFoundError: the folder, its `autoencoder.json` or a part of a level is missing.
        LoadError: a file differs from what was saved, lies elsewhere, or was written by a newer version.
    """
    try:
        return _read(path, trusted)
    except (FileNotFoundError, LoadError):
        raise
    except OSError as error:
        raise LoadError(f"The saved autoencoder can't be read: {error}. Received: {str(path)!r}") from error


def folder_at(path: str | os.PathLike[str]) -> Path:
    """The folder of a stack, absolute and without links.

    Raises:
        LoadError: no folder can have such a path.
    """
    try:
        path = resolved(path, "path")
        # Version 0.1 renamed the folder of a stack during a save, and a kill could leave it under this name.
        old = path.with_name(f".{path.name}.old") if path.name else path
        is_old = not os.path.lexists(path) and not old.is_symlink() and (old / MANIFEST).is_file()
    except (OSError, ValueError) as error:
        raise LoadError(str(error)) from None
    return old if is_old else path


class Snapshot(NamedTuple):
    """State of a stack's folder: two snapshots differ if a save changed the folder in between.

    Attributes:
        manifest: the `identity` of `autoencoder.json`, which a save replaces.
        staged: names of the files that are still in the staging folder of a save.
    """

    manifest: tuple[int, int] | None
    staged: frozenset[str]


def identity(path: Path) -> tuple[int, int] | None:
    """Identifies the `autoencoder.json` that is there now; `None` if there is none."""
    try:
        status = (path / MANIFEST).stat()
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_mtime_ns


def snapshot(path: Path) -> Snapshot:
    """Returns the present state of a stack's folder."""
    present = identity(path)
    try:
        manifest = read_manifest(path)
        staging = staging_folder(path, manifest)
        names = () if staging is None else manifest["files"]
        staged = frozenset(name for name in names if os.path.lexists(staging / name))
    except (OSError, LoadError):
        staged = frozenset()
    return Snapshot(present, staged)


def read_manifest(path: Path) -> dict[str, Any]:
    """What `autoencoder.json` says, checked for what `save` writes.

    Raises:
        LoadError: it isn't that, or was written by a newer version.
    """
    file = path / MANIFEST
    try:
        if file.is_symlink():
            raise ValueError
        manifest = json.loads(read_regular(file, LARGEST_MANIFEST))
        if manifest["format"] > FORMAT:
            saved_by = printable(manifest["versions"]["stacked_autoencoder"], 20)
            raise LoadError(
                f"This autoencoder was saved in format {manifest['format']:.20g}, by stacked_autoencoder {saved_by}; "
                f"this version reads up to {FORMAT}. Upgrade with `pip install --upgrade stacked_autoencoder`."
            )
        _check_manifest(manifest)
    except LoadError:
        raise
    except Exception as error:  # not JSON, not even text, or not with what it must have
        why = f": {error}" if isinstance(error, (OSError, _Wrong)) else ""
        raise LoadError(
            f"{MANIFEST} isn't one that `save` wrote{why}. It was changed by hand or cut short. Copy the folder again, "
            f"or train and save anew. Received: {str(file)!r}"
        ) from None
    return manifest


def _read(path: Path, trusted: bool) -> SavedStack:
    if not path.is_dir():
        why = "this is a file, and `save` writes a folder" if path.is_file() else "there is nothing here"
        raise FileNotFoundError(f"There is no saved autoencoder here: {why}. Received: {printable(repr(str(path)))}")
    if not os.path.lexists(path / MANIFEST):
        found = ", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing"
        raise FileNotFoundError(
            f"{MANIFEST} is missing, so this isn't a whole saved autoencoder: it was copied in part, or is something "
            "else. A single encoder or decoder in it may still open with `tf.keras.models.load_model`. "
            f"Received: {printable(repr(str(path)))} with {printable(found, 200)}"
        )
    manifest = read_manifest(path)
    saved = SavedStack(path, manifest, staging_folder(path, manifest))
    indices = range(len(manifest["levels"]))
    parts = {index: [f"encoder{index}", f"decoder{index}"] for index in indices}
    missing = [name for names in parts.values() for name in names if not saved.file(name).is_dir()]
    if missing:
        whole = [str(index) for index in indices if not set(parts[index]) & set(missing)]
        raise FileNotFoundError(
            f"{printable(' and '.join(missing), 200)} missing from the saved autoencoder. "
            f"Whole levels there: {printable(', '.join(whole), 200) or 'none'}. "
            f"Copy the folder again. Received: {printable(repr(str(path)))}"
        )
    left = math.inf if trusted else LARGEST_STACK
    for name, expected in manifest["files"].items():
        try:
            problem = _problem(saved, name, expected, left)
            left -= 0 if problem else saved.file(name).stat().st_size
        except OSError as error:
            problem = f"can't be read, {error}"
        if problem:
            raise LoadError(
                f"{printable(name, 200)} {problem}: the folder is damaged, or was changed by hand. Copy it again, with "
                f"hidden folders, or train and save anew. Received: {str(path)!r}"
            )
    return saved


def _problem(saved: SavedStack, name: str, expected: str, largest: float) -> str | None:
    file = saved.file(name)
    if file.is_symlink() or has_links(saved.path, file.relative_to(saved.path).as_posix()):
        return "is a link, or lies outside of the folder"
    try:
        status = file.stat()
    except FileNotFoundError:
        return "is missing"
    problem = problem_with(status, min(largest, 1 << 62))
    if problem is not None:
        return f"can't be read, since {problem} (`trusted=True` reads files of any size)"
    return None if sha256(file) == expected else "is not what was saved"


class _Wrong(ValueError):
    """The manifest holds a value that `save` never writes; the message says which."""


def _check_manifest(manifest: Any) -> None:
    """Raises `_Wrong`, or any other error, if it isn't what `save` writes."""
    _expect(_is_int(manifest["format"]) and manifest["format"] >= 1, "`format` must be a number from 1 on")
    shape, levels, files, versions = (manifest[name] for name in ("shape", "levels", "files", "versions"))
    _expect(
        isinstance(shape, list) and 1 <= len(shape) <= 3 and all(side is None or _is_size(side) for side in shape),
        "`shape` must be a list of one to three sides",
    )
    _expect(isinstance(manifest["check_range"], bool), "`check_range` must be true or false")
    _expect(manifest.get("missing", "error") in MISSING, f"`missing` must be one of {', '.join(MISSING)}")
    is_range = _is_range(manifest["value_range"], may_be_empty="id" not in manifest)
    _expect(is_range, "`value_range` must be two finite numbers, the lower one first")
    is_given = manifest.get("value_range_is_given", False)
    _expect(isinstance(is_given, bool), "`value_range_is_given` must be true or false")
    _expect(not is_given or manifest["value_range"][0] < manifest["value_range"][1], "`value_range` is empty")
    _expect(
        isinstance(levels, list) and 1 <= len(levels) <= MOST_LEVELS,
        f"`levels` must be a list of 1 to {MOST_LEVELS} levels",
    )
    _expect(
        isinstance(files, dict)
        and len(files) <= MOST_FILES
        and all(isinstance(digest, str) and DIGEST.fullmatch(digest) for digest in files.values()),
        f"`files` must give a SHA-256 for each of at most {MOST_FILES:,} files",
    )
    for name in files:
        _expect(is_name(name), f"{printable(repr(name), 200)} lies outside of the folder, or has no name of a part")
    _expect(
        isinstance(versions, dict)
        and len(versions) <= 100
        and all(isinstance(version, str) for version in versions.values()),
        "`versions` must give the version of each package",
    )
    for level in levels:
        _expect(
            isinstance(level["kind"], str)
            and isinstance(level["config"], dict)
            and isinstance(level["started"], bool)
            and all(name.isascii() for name in level["config"]),
            "a level must have `kind`, `config` and `started`",
        )
        _check_statistics(level, zero_is_valid="id" not in manifest)


def _check_statistics(level: Mapping[str, Any], zero_is_valid: bool) -> None:
    """Whether means and standard deviations are there together.

    Args:
        zero_is_valid: version 0.1 wrote 0 as the standard deviation of a channel that never changes, not 1.
    """
    mean, std = level["mean"], level["std"]
    if mean is None and std is None:
        return
    both = isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std)
    finite = both and all(map(_is_finite, (*mean, *std)))
    _expect(finite, "Mean and standard deviation must be as many finite numbers each")
    _expect(all(value > 0 or (value == 0 and zero_is_valid) for value in std), "standard deviations must be positive")


def _expect(fits: Any, what: str) -> None:
    if not fits:
        raise _Wrong(what)


def _is_int(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _is_finite(number: Any) -> bool:
    return (_is_int(number) and abs(number) < 1 << 1023) or (isinstance(number, float) and math.isfinite(number))


def _is_range(values: Any, may_be_empty: bool) -> bool:
    """Whether these are the ends of a range; version 0.1 wrote an empty one for data that are all the same."""
    is_pair = isinstance(values, list) and len(values) == 2 and all(map(_is_finite, values))
    return is_pair and (values[0] < values[1] or (may_be_empty and values[0] == values[1]))


def _is_size(number: Any) -> bool:
    return _is_int(number) and 0 < number < LARGEST_SIDE


# === What is at a path ===


def whole_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest that `save` wrote there, `None` if there is none or one that isn't whole.

    Raises:
        OSError: it can't be read, so that nothing is known of it.
    """
    manifest = read_json_object(path / MANIFEST) or {}
    files, format = manifest.get("files"), manifest.get("format")
    known = isinstance(format, int) and isinstance(manifest.get("levels"), list) and isinstance(files, dict)
    return manifest if known and len(files) <= MOST_FILES and all(map(is_name, files)) else None


def listed_files(path: Path) -> dict[str, str] | None:
    """Name → SHA-256 of the files that the manifest there lists."""
    manifest = whole_manifest(path)
    return None if manifest is None else manifest["files"]


def read_json_object(file: Path) -> dict[str, Any] | None:
    """The JSON object in a file; an empty one for a file of anything else, `None` if there is none.

    Raises:
        OSError: the file can't be read.
    """
    try:
        if file.is_symlink():
            return {}
        content = json.loads(read_regular(file, LARGEST_MANIFEST))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTDIR):  # no regular file, or one that is too large
            return {}
        raise
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
