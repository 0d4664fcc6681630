"""The manifest of a saved stack, `autoencoder.json`.

The folder may come from somebody else: no code in it is executed, and nothing in it is changed. Only `autoencoder.json`
and arrays of numbers are read. Keras's `config.json` and the SavedModel are read only to compute checksums.
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
MISSING = ("error", "ignore")  # as in `utils.checks`, which would import TensorFlow for every command
MANIFEST = "autoencoder.json"
LARGEST_MANIFEST = 1 << 24  # bytes
MOST_FILES = 1 << 14  # files that a manifest lists
STAGING = re.compile(r"\.autoencoder-([0-9a-f]{32})")
PART = re.compile(r"(encoder|decoder|predictor)(0|[1-9]\d{0,4})")
ARRAYS = re.compile(r"(linear|training)(0|[1-9]\d{0,4})\.npz")
MOST_LEVELS = 256
LARGEST_STACK = 1 << 32  # bytes of all files: sparse files can have any size, and reading more takes over ten seconds


def staging_folder(path: Path, manifest: Mapping[str, Any]) -> Path | None:
    """Returns the folder with files of the saved stack that have not been moved to their final places, or `None`."""
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
    """Whether a parent of a file is a link or a file. Writing through links would change other folders."""
    parents = [path / parent for parent in PurePosixPath(name).parents if parent.parts]
    return any(os.path.lexists(parent) and not is_folder(parent) for parent in parents)


LARGEST_SIDE = 1 << 31
DIGEST = re.compile(r"[0-9a-f]{64}")


class SavedStack(NamedTuple):
    """A stack on disk whose files are complete and unchanged.

    Attributes:
        path: its folder.
        manifest: content of `autoencoder.json`.
        staging: folder of files that a save has not moved to their final places, or `None`.
    """

    path: Path
    manifest: dict[str, Any]
    staging: Path | None

    def file(self, name: str) -> Path:
        """Returns the path of a file that the manifest lists."""
        staged = None if self.staging is None else self.staging / name
        return staged if staged is not None and os.path.lexists(staged) else self.path / name


def read(path: Path, *, trusted: bool = False) -> SavedStack:
    """Reads `autoencoder.json` and checks that every file is present and unchanged.

    Args:
        path: folder of the stack.
        trusted: whether files may have any size.

    Raises:
        FileNotFoundError: the folder, its `autoencoder.json` or a part of a level is missing.
        LoadError: a file was changed, is a link, or was written by a newer version.
    """
    try:
        return _read(path, trusted)
    except (FileNotFoundError, LoadError):
        raise
    except OSError as error:
        raise LoadError(
            f"The saved autoencoder cannot be read: {error}. Make the folder and its files readable. Received: "
            f"{str(path)!r}"
        ) from error


def folder_at(path: str | os.PathLike[str]) -> Path:
    """Returns the folder of a stack as an absolute path without links.

    Raises:
        LoadError: no folder can have such a path.
    """
    try:
        path = resolved(path, "path")
        # Version 0.1 renamed the folder of a stack during a save. A save that was killed could leave it under this
        # name.
        old = path.with_name(f".{path.name}.old") if path.name else path
        is_old = not os.path.lexists(path) and not old.is_symlink() and (old / MANIFEST).is_file()
    except (OSError, ValueError) as error:
        raise LoadError(str(error)) from None
    return old if is_old else path


class Snapshot(NamedTuple):
    """State of a stack's folder. Two snapshots differ if a save changed the folder between them.

    Attributes:
        manifest: the `identity` of `autoencoder.json`, which a save replaces.
        staged: names of the files that are still in the staging folder of a save.
    """

    manifest: tuple[int, int] | None
    staged: frozenset[str]


def identity(path: Path) -> tuple[int, int] | None:
    """Returns a value that identifies the current `autoencoder.json`, or `None` if there is none."""
    try:
        status = (path / MANIFEST).stat()
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_mtime_ns


def snapshot(path: Path) -> Snapshot:
    """Returns the current state of a stack's folder."""
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
    """Returns the content of `autoencoder.json` after checking its structure.

    Args:
        path: folder of the stack.

    Raises:
        LoadError: it is not a manifest that `save` wrote, or was written by a newer version.
    """
    file = path / MANIFEST
    try:
        if file.is_symlink():
            raise ValueError
        manifest = json.loads(read_regular(file, LARGEST_MANIFEST))
        if manifest["format"] > FORMAT:
            saved_by = printable(manifest["versions"]["stacked_autoencoder"], 20)
            raise LoadError(
                f"This autoencoder was saved in format {manifest['format']:.20g} by stacked_autoencoder {saved_by}, "
                f"but this version reads formats up to {FORMAT}. Upgrade with `pip install --upgrade "
                "stacked_autoencoder`."
            )
        _check_manifest(manifest)
    except LoadError:
        raise
    except Exception as error:  # not JSON, or without a required entry
        reason = f": {error}" if isinstance(error, (OSError, _InvalidManifest)) else ""
        raise LoadError(
            f"{MANIFEST} is not a manifest that `save` wrote{reason}. It was edited or truncated. Copy the folder "
            f"again, or train and save again. Received: {str(file)!r}"
        ) from None
    return manifest


def _read(path: Path, trusted: bool) -> SavedStack:
    if not path.is_dir():
        reason = "it is a file, but `save` writes a folder" if path.is_file() else "it does not exist"
        raise FileNotFoundError(
            f"There is no saved autoencoder at this path: {reason}. Pass the folder that `save` wrote. Received: "
            f"{printable(repr(str(path)))}"
        )
    if not os.path.lexists(path / MANIFEST):
        entries = ", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing"
        raise FileNotFoundError(
            f"{MANIFEST} is missing, so this is not a complete saved autoencoder. Copy the whole folder again. A "
            "single encoder or decoder in it may still open with `tf.keras.models.load_model`. Received: "
            f"{printable(repr(str(path)))} with {printable(entries, 200)}"
        )
    manifest = read_manifest(path)
    saved = SavedStack(path, manifest, staging_folder(path, manifest))
    indices = range(len(manifest["levels"]))
    parts = {index: [f"encoder{index}", f"decoder{index}"] for index in indices}
    missing = [name for names in parts.values() for name in names if not saved.file(name).is_dir()]
    if missing:
        complete = [str(index) for index in indices if not set(parts[index]) & set(missing)]
        raise FileNotFoundError(
            f"{printable(' and '.join(missing), 200)} missing from the saved autoencoder. Complete levels: "
            f"{printable(', '.join(complete), 200) or 'none'}. Copy the folder again. Received: "
            f"{printable(repr(str(path)))}"
        )
    left = math.inf if trusted else LARGEST_STACK
    for name, expected in manifest["files"].items():
        try:
            problem = _problem(saved, name, expected, left)
            left -= 0 if problem else saved.file(name).stat().st_size
        except OSError as error:
            problem = f"cannot be read: {error}"
        if problem:
            raise LoadError(
                f"{printable(name, 200)} {problem}. The folder is damaged or was edited. Copy it again, including "
                f"hidden folders, or train and save again. Received: {str(path)!r}"
            )
    return saved


def _problem(saved: SavedStack, name: str, expected: str, largest: float) -> str | None:
    file = saved.file(name)
    if file.is_symlink() or has_links(saved.path, file.relative_to(saved.path).as_posix()):
        return "is a link or is outside of the folder"
    try:
        status = file.stat()
    except FileNotFoundError:
        return "is missing"
    problem = problem_with(status, min(largest, 1 << 62))
    if problem is not None:
        return f"cannot be read, because {problem} (`trusted=True` reads files of any size)"
    return None if sha256(file) == expected else "is not what was saved"


class _InvalidManifest(ValueError):
    """The manifest has a value that `save` never writes. The message names it."""


def _check_manifest(manifest: Any) -> None:
    """Raises `_InvalidManifest`, or another error, if the manifest is not one that `save` writes."""
    _require(_is_int(manifest["format"]) and manifest["format"] >= 1, "`format` must be a whole number of at least 1")
    shape, levels, files, versions = (manifest[name] for name in ("shape", "levels", "files", "versions"))
    _require(
        isinstance(shape, list) and 1 <= len(shape) <= 3 and all(side is None or _is_size(side) for side in shape),
        "`shape` must be a list of one to three sides",
    )
    _require(isinstance(manifest["check_range"], bool), "`check_range` must be true or false")
    _require(manifest.get("missing", "error") in MISSING, f"`missing` must be one of {', '.join(MISSING)}")
    is_range = _is_range(manifest["value_range"], may_be_empty="id" not in manifest)
    _require(is_range, "`value_range` must be two finite numbers, the lower one first")
    is_given = manifest.get("value_range_is_given", False)
    _require(isinstance(is_given, bool), "`value_range_is_given` must be true or false")
    _require(
        not is_given or manifest["value_range"][0] < manifest["value_range"][1],
        "the two numbers of `value_range` must differ",
    )
    _require(
        isinstance(levels, list) and 1 <= len(levels) <= MOST_LEVELS,
        f"`levels` must be a list of 1 to {MOST_LEVELS} levels",
    )
    _require(
        isinstance(files, dict)
        and len(files) <= MOST_FILES
        and all(isinstance(digest, str) and DIGEST.fullmatch(digest) for digest in files.values()),
        f"`files` must list at most {MOST_FILES:,} files, each with its SHA-256",
    )
    for name in files:
        _require(
            is_name(name), f"{printable(repr(name), 200)} is outside of the folder, or not a name that `save` uses"
        )
    _require(
        isinstance(versions, dict)
        and len(versions) <= 100
        and all(isinstance(version, str) for version in versions.values()),
        "`versions` must list the version of each package",
    )
    for level in levels:
        _require(
            isinstance(level["kind"], str)
            and isinstance(level["config"], dict)
            and isinstance(level["started"], bool)
            and all(name.isascii() for name in level["config"]),
            "a level must have `kind`, `config` and `started`",
        )
        _check_statistics(level, zero_is_valid="id" not in manifest)


def _check_statistics(level: Mapping[str, Any], zero_is_valid: bool) -> None:
    """Checks that means and standard deviations are valid.

    Args:
        level: entry of a level in the manifest.
        zero_is_valid: version 0.1 wrote 0 instead of 1 as the standard deviation of a channel that never changes.
    """
    mean, std = level["mean"], level["std"]
    if mean is None and std is None:
        return
    both = isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std)
    finite = both and all(map(_is_finite, (*mean, *std)))
    _require(finite, "`mean` and `std` must be lists of the same number of finite numbers")
    _require(all(value > 0 or (value == 0 and zero_is_valid) for value in std), "`std` must be positive")


def _require(fits: Any, rule: str) -> None:
    if not fits:
        raise _InvalidManifest(rule)


def _is_int(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _is_finite(number: Any) -> bool:
    return (_is_int(number) and abs(number) < 1 << 1023) or (isinstance(number, float) and math.isfinite(number))


def _is_range(values: Any, may_be_empty: bool) -> bool:
    """Whether `values` is a range. Version 0.1 wrote an empty range for data whose values are all equal."""
    is_pair = isinstance(values, list) and len(values) == 2 and all(map(_is_finite, values))
    return is_pair and (values[0] < values[1] or (may_be_empty and values[0] == values[1]))


def _is_size(number: Any) -> bool:
    return _is_int(number) and 0 < number < LARGEST_SIDE


# === Content of a folder ===


def whole_manifest(path: Path) -> dict[str, Any] | None:
    """Returns the manifest that `save` wrote, or `None` if there is none or it is not complete.

    Raises:
        OSError: it cannot be read.
    """
    manifest = read_json_object(path / MANIFEST) or {}
    files, format = manifest.get("files"), manifest.get("format")
    known = isinstance(format, int) and isinstance(manifest.get("levels"), list) and isinstance(files, dict)
    return manifest if known and len(files) <= MOST_FILES and all(map(is_name, files)) else None


def listed_files(path: Path) -> dict[str, str] | None:
    """Returns name → SHA-256 of the files that the manifest in this folder lists, or `None` without a manifest."""
    manifest = whole_manifest(path)
    return None if manifest is None else manifest["files"]


def read_json_object(file: Path) -> dict[str, Any] | None:
    """Returns the JSON object in a file: an empty one for any other content, `None` if there is no file.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        if file.is_symlink():
            return {}
        content = json.loads(read_regular(file, LARGEST_MANIFEST))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTDIR):  # not a regular file, or too large
            return {}
        raise
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
