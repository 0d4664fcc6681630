"""The staging folder of a save: created, committed, moved to its final place, and deleted."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from stacked_autoencoder.saving.manifest import (
    ARRAYS,
    LARGEST_MANIFEST,
    LARGEST_STACK,
    MANIFEST,
    MOST_FILES,
    PART,
    STAGING,
    has_links,
    is_name,
    listed_files,
    read_json_object,
    staging_folder,
    whole_manifest,
)
from stacked_autoencoder.utils.files import is_folder, only_writer, remove_if_empty, replacing_by, sha256, sync

JOURNAL = "save.json"  # in a staging folder: names of the files that the save writes and replaces
OLD = "old-"  # prefix of a folder that a save has replaced
NEW_JOURNAL = f".{JOURNAL}.new"


# === Writing to the staging folder ===


def new_staging_folder(path: Path, names: Iterable[str]) -> Path:
    """Creates a staging folder and its journal.

    Args:
        path: folder of the stack.
        names: names of the models and arrays that will be written.
    """
    save_id = secrets.token_hex(16)
    staging = path / f".autoencoder-{save_id}"
    staging.mkdir()
    archives = [f"{name}.keras" for name in names if PART.fullmatch(name)]
    old = [f"{OLD}{name}" for name in names if PART.fullmatch(name)]
    _write_journal(staging, {"id": save_id, "names": [*names, *archives, *old, MANIFEST], "before": {}})
    return staging


def _write_journal(staging: Path, journal: Mapping[str, Any]) -> None:
    with replacing_by(staging / NEW_JOURNAL, staging / JOURNAL) as stream:
        stream.write(json.dumps(journal).encode())


# === Moving files to their final places ===


def commit(staging: Path, path: Path) -> None:
    """Makes the stack in the staging folder the saved one. Call it within `in_turn(path)`."""
    before = listed_files(path) or {}
    files = listed_files(staging)
    if files is None:  # `load` would refuse this manifest
        raise OSError(
            f"its {MANIFEST} would be larger than {LARGEST_MANIFEST:,} bytes, or list more than {MOST_FILES:,} files"
        )
    for name in files:
        _check_place(path, name, before)
    _write_journal(staging, _journal(staging) | {"before": before})
    os.replace(staging / MANIFEST, path / MANIFEST)
    sync(path)


def finish_move(path: Path) -> None:
    """Moves files that a save has left in its staging folder to their final places.

    Call it within `in_turn(path)`.
    """
    manifest = whole_manifest(path)
    staging = None if manifest is None else staging_folder(path, manifest)
    journal = None if staging is None else _journal(staging)
    if journal is None:  # no save, or a folder that `save` did not write
        return
    files, before = manifest["files"], journal["before"]
    for name in files:
        _check_links(path, name)
        _check_links(staging, name)
    parts = {name.partition("/")[0] for name in files if "/" in name}
    for part in sorted(parts):
        if all(os.path.lexists(staging / name) for name in files if name.startswith(f"{part}/")):
            _move_folder(staging, path, part, before)
    for name in files:
        if os.path.lexists(staging / name):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, path / name)
    _delete_replaced(path, {name: digest for name, digest in before.items() if name not in files})
    for folder in {path, *(path / parent for name in files for parent in PurePosixPath(name).parents)}:
        sync(folder)
    discard(staging)


def _move_folder(staging: Path, path: Path, part: str, before: Mapping[str, str]) -> None:
    """Moves the folder of a model in one step, so that Keras finds the old or the new one there, never a mixture.

    Does nothing if the current folder contains anything that `save` did not write.
    """
    if os.path.lexists(path / part):
        if not _holds_only(path, part, before):
            return
        try:
            os.replace(path / part, staging / f"{OLD}{part}")
        except OSError:  # for example a mount point
            return
    os.replace(staging / part, path / part)


def _holds_only(path: Path, part: str, listed: Mapping[str, str]) -> bool:
    """Whether a folder of a stack contains nothing but the listed files."""
    folders = {PurePosixPath(part), PurePosixPath(part, "assets")}  # TensorFlow creates an empty one
    folders |= {parent for name in listed for parent in PurePosixPath(name).parents}
    for where, inside, names in os.walk(path / part):
        below = PurePosixPath(Path(where).relative_to(path).as_posix())
        is_known = all(below / name in folders and not os.path.islink(os.path.join(where, name)) for name in inside)
        if not is_known or any(str(below / name) not in listed for name in names):
            return False
    return True


def _delete_replaced(path: Path, files: Mapping[str, str]) -> None:
    """Deletes files of the previous stack whose SHA-256 is unchanged, and folders that become empty."""
    unchanged, left = [], LARGEST_STACK
    for name, digest in files.items():
        file = path / name
        if has_links(path, name) or file.is_symlink() or not file.is_file():
            continue
        left -= file.stat().st_size  # untrusted sparse files can have any size
        if left >= 0 and sha256(file) == digest:
            unchanged.append(name)
    _delete(path, unchanged)


def _delete(path: Path, names: Iterable[str]) -> None:
    """Deletes files of a part, never through a link, and folders that become empty."""
    folders = set()
    for name in names:
        if not has_links(path, name):
            with suppress(OSError):
                (path / name).unlink()
        folders |= {parent for parent in PurePosixPath(name).parents if parent.parts}
    folders |= {folder / "assets" for folder in folders if len(folder.parts) == 1}
    for folder in sorted(folders, key=lambda each: -len(each.parts)):
        if not has_links(path, f"{folder}/x"):
            remove_if_empty(path / folder)


def discard(staging: Path) -> None:
    """Deletes the entries of a staging folder that its journal names, and nothing else."""
    journal = _journal(staging)
    if journal is not None:
        for name in journal["names"]:
            entry = staging / name
            if name.startswith(OLD):
                part = name.removeprefix(OLD)
                _delete(staging, [f"{OLD}{each}" for each in journal["before"] if each.startswith(f"{part}/")])
            elif is_folder(entry):
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with suppress(OSError):
                    entry.unlink()
        with suppress(OSError):
            (staging / JOURNAL).unlink()
    with suppress(OSError):
        (staging / NEW_JOURNAL).unlink()
    remove_if_empty(staging)


def discard_unless_saved(staging: Path, path: Path) -> None:
    """Deletes a staging folder, unless it belongs to the saved stack, whose files may still be in it."""
    try:
        manifest = read_json_object(path / MANIFEST)
    except OSError:  # unreadable now, but it may be that stack's manifest
        return
    is_unused = manifest is None or (bool(manifest) and staging.name != f".autoencoder-{manifest.get('id')}")
    if is_unused:
        discard(staging)


def discard_abandoned(path: Path) -> None:
    """Deletes the staging folders of saves that were killed. Call it within `in_turn(path)`."""
    for entry in list(os.scandir(path)):
        staging = path / entry.name
        if STAGING.fullmatch(entry.name) and is_folder(staging):
            with suppress(RuntimeError, OSError), only_writer(staging):  # raises RuntimeError while a save is running
                discard_unless_saved(staging, path)


def _journal(staging: Path) -> dict[str, Any] | None:
    """Returns the journal of a staging folder, or `None` if it is not the staging folder of a save."""
    match = STAGING.fullmatch(staging.name)
    if match is None or not is_folder(staging):
        return None
    journal = read_json_object(staging / JOURNAL) or {}
    names, before = journal.get("names"), journal.get("before")
    if journal.get("id") != match[1] or not isinstance(names, list) or not isinstance(before, dict):
        return None
    return journal if all(map(_is_staged, names)) and all(map(is_name, before)) else None


def _is_staged(name: Any) -> bool:
    """Whether `save` may have created an entry of this name in a staging folder."""
    part = PART.pattern
    known = (re.escape(MANIFEST), part, rf"{part}\.keras", f"{OLD}{part}", ARRAYS.pattern)
    return isinstance(name, str) and any(re.fullmatch(pattern, name) for pattern in known)


def _check_place(path: Path, name: str, listed: Mapping[str, str]) -> None:
    """Raises `OSError` if a file of this name cannot be moved into a folder without overwriting another one."""
    _check_links(path, name)
    file = path / name
    if os.path.lexists(file) and (name not in listed or file.is_dir()):
        raise FileExistsError(f"{name} was not written by `save`: move it away")


def _check_links(path: Path, name: str) -> None:
    if has_links(path, name):
        raise FileExistsError(f"a parent folder of {name} is a link or a file: move it away")
