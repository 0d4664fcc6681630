"""Writing the folder of a stack: all or nothing.

    <path>/encoder0/  decoder0/  …   each a SavedModel and a Keras directory model at once
    <path>/linear0.npz …             the best linear code of the same size, for the error budget
    <path>/training0.npz …           weights that only training needs, of variational levels
    <path>/autoencoder.json          the manifest: everything else, and a SHA-256 of every file
    <path>/.autoencoder-<id>/        only during a save: the files of the new stack that are not in place yet

A save writes the whole new stack into `.autoencoder-<id>`, a staging folder with a random `id`, and syncs it. Then it
replaces `autoencoder.json`: from this moment on the new stack is the saved one. Its manifest names the `id`, and every
file that is still in the staging folder is read from there. The save ends by moving the files to their places. A save
that is killed leaves the old stack or the new one, whole, for `Autoencoder.load`, which has nothing to repair. The next
save finishes the move. Programs that read `encoder0` with Keras find the old one or the new one, or none in between.

Nothing outside of `path` is written, and `path` itself is never renamed, so it may be a mount point or the working
directory. Only files that a manifest of ours lists are replaced or deleted.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import stacked_autoencoder
from stacked_autoencoder.durable import in_turn, only_writer, read_regular, replacing_by, sha256, sync
from stacked_autoencoder.errors import printable

FORMAT = 1
MANIFEST = "autoencoder.json"
LARGEST_MANIFEST = 1 << 24  # bytes
MOST_FILES = 1 << 14  # that a manifest lists
STAGING = re.compile(r"\.autoencoder-([0-9a-f]{32})")
JOURNAL = "save.json"  # in a staging folder: what the save writes there, and what it replaces
PART = re.compile(r"(encoder|decoder|predictor)(0|[1-9]\d{0,4})")
ARRAYS = re.compile(r"(linear|training)(0|[1-9]\d{0,4})\.npz")
OLD = "old-"  # begins the name of a folder that a save has taken out of its place
NEW_JOURNAL = f".{JOURNAL}.new"
CHECKPOINT_LOGS = ("train.json", "fine_tune.json")  # what `train(checkpoint_dir=…)` has written is no foreign folder
IGNORED_ENTRIES = re.compile(r"\..*|lost\+found|level\d+-(training|validation).*")  # of the system, and of `cache_dir`
MOST_LEVELS = 256
LARGEST_STACK = 1 << 32  # bytes of all files: a sparse file has any size, and reading more takes over ten seconds
LONGEST_PART = "predictor0/variables/variables.data-00000-of-00001.tempstate00000000000000000000"


def write(
    path: Path,
    state: Mapping[str, Any],
    models: Mapping[str, keras.Model],
    arrays: Mapping[str, Mapping[str, Any]],
    *,
    is_checked: bool = False,
) -> Path:
    """Writes a stack to `path`, replacing a saved stack that is there only when the new one is whole on disk.

    Args:
        is_checked: whether `check_savable` has passed before; other files may have come to the folder since.

    Raises:
        OSError: the stack can't be written there, or files are in the way. Nothing was changed at `path`.
    """
    path = resolved(path, "path")
    if len(state["levels"]) > MOST_LEVELS:
        raise ValueError(f"At most {MOST_LEVELS} levels can be saved. Received: {len(state['levels'])} levels")
    names = [*models, *(f"{name}.npz" for name in arrays)]
    with ExitStack() as held:
        try:
            new_folders = _make_folders(path)
            for folder in new_folders:
                held.callback(_remove_if_empty, folder)
            with in_turn(path):
                _finish_move(path)
                _check_free(path, names, may_hold_others=is_checked)
                staging = _staging_folder(path, names)
                held.callback(_discard_unless_saved, staging, path)
                held.enter_context(only_writer(staging))  # tells other saves that this one is still going on
            _write_all(staging, state, models, arrays)
            with in_turn(path):
                _finish_move(path)  # of another save that was killed meanwhile
                _check_free(path, names, may_hold_others=True)
                _commit(staging, path)
        except (OSError, tf.errors.OpError) as error:
            raise OSError(
                f"The stack couldn't be saved, and what was at `path` is as it was: {printable(error)}. Make room "
                f"there, or give another `path`. Received: path={str(path)!r}"
            ) from error
        try:
            for folder in new_folders:
                sync(folder.parent)
            with in_turn(path):
                _finish_move(path)
        except OSError as error:
            raise OSError(
                f"The stack is saved, and `Autoencoder.load` reads it, but some of its files couldn't be moved to "
                f"their places: {printable(error)}. Until they are, `encoder0` and the others may be those of the "
                f"stack before. Make the files in the folder writable and save again. Received: path={str(path)!r}"
            ) from error
        with suppress(OSError), in_turn(path):
            _discard_abandoned(path)
    return path


def resolved(path: str | os.PathLike[str], argument: str) -> Path:
    """An absolute path without links.

    Raises:
        ValueError: it is empty, or not one that a file can have.
    """
    text = os.fspath(path)
    if not text or text == b"" or "\0" in str(text):
        raise ValueError(f"`{argument}` must be the path of a folder. Received: {argument}={text!r}")
    try:
        return Path(path).resolve()
    except RuntimeError as error:  # links that lead to each other
        raise OSError(f"`{argument}` can't be found: {error}. Received: {argument}={text!r}") from None


def check_writable(path: str | os.PathLike[str], argument: str) -> None:
    """Makes sure that files can be written to a folder, by writing, renaming and deleting some there.

    A folder that isn't there is tried below the nearest one that is.

    Raises:
        OSError: they can't.
        ValueError: `path` is not one that a folder can have.
    """
    path = resolved(path, argument)
    try:
        if path.is_file():
            raise OSError("it is a file")
        str(path).encode("utf-8")  # which TensorFlow asks of all names
        there = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
        _try_to_write(there, path.relative_to(there))
        names = [name for name in _listed_files(path) or {} if not has_links(path, name)]
        for folder in sorted({(path / name).parent for name in names}):
            if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(f"files in {str(folder)!r} can't be replaced")
    except (OSError, UnicodeError) as error:
        reason = "its name is not UTF-8" if isinstance(error, UnicodeError) else printable(error)
        raise OSError(
            f"`{argument}` can't be written: {reason}. Choose another folder. Received: {argument}={str(path)!r}"
        ) from error


def check_savable(path: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Makes sure, before training, that a stack can be saved to a folder and nothing in it would be overwritten.

    Args:
        names: entries of the folder that the save will write.

    Raises:
        OSError: it can't be written, or files are in the way.
    """
    check_writable(path, "save_path")
    path = resolved(path, "save_path")
    try:
        _check_free(path, names)
    except OSError as error:
        raise type(error)(f"`save_path` can't be written: {error}. Received: save_path={str(path)!r}") from None


def staging_folder(path: Path, manifest: Mapping[str, Any]) -> Path | None:
    """Where files of the saved stack are that haven't been moved to their places yet; `None` if all have been."""
    folder = path / f".autoencoder-{manifest.get('id')}"
    return folder if STAGING.fullmatch(folder.name) and _is_folder(folder) else None


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
    return any(os.path.lexists(parent) and not _is_folder(parent) for parent in parents)


def versions() -> dict[str, str]:
    """Versions of the packages that write to disk."""
    return {module.__name__: module.__version__ for module in (stacked_autoencoder, keras, tf, np)}


# === Writing to the staging folder ===


def _staging_folder(path: Path, names: Iterable[str]) -> Path:
    token = secrets.token_hex(16)
    staging = path / f".autoencoder-{token}"
    staging.mkdir()
    archives = [f"{name}.keras" for name in names if PART.fullmatch(name)]
    old = [f"{OLD}{name}" for name in names if PART.fullmatch(name)]
    _write_journal(staging, {"id": token, "names": [*names, *archives, *old, MANIFEST], "before": {}})
    return staging


def _write_journal(staging: Path, journal: Mapping[str, Any]) -> None:
    with replacing_by(staging / NEW_JOURNAL, staging / JOURNAL) as stream:
        stream.write(json.dumps(journal).encode())


def _write_all(
    staging: Path,
    state: Mapping[str, Any],
    models: Mapping[str, keras.Model],
    arrays: Mapping[str, Mapping[str, Any]],
) -> None:
    for name, model in models.items():
        _save_keras(model, staging / name)
        model.export(staging / name, verbose=False)  # not before: saving onto an export fails half-way
    for name, values in arrays.items():
        np.savez(staging / f"{name}.npz", **values)
    files = [file for file in _files(staging) if file.name != JOURNAL]
    sums = {file.relative_to(staging).as_posix(): sha256(file) for file in files}
    token = STAGING.fullmatch(staging.name)[1]
    manifest = {"format": FORMAT, "id": token, **state, "versions": versions(), "files": sums}
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for file in [*files, staging / MANIFEST, *_folders(staging), staging]:
        sync(file)


def _save_keras(model: keras.Model, folder: Path) -> None:
    """The folder that `keras.saving.save_model(…, zipped=False)` writes.

    By way of an archive, whose weights HDF5 makes in memory: when a disk is full under it, it crashes the process.
    """
    archive = folder.with_suffix(".keras")
    keras.saving.save_model(model, archive)
    with zipfile.ZipFile(archive) as parts:
        parts.extractall(folder)
    archive.unlink()


# === Moving to the places ===


def _commit(staging: Path, path: Path) -> None:
    """Makes the stack in the staging folder the saved one. To be called in turn."""
    before = _listed_files(path) or {}
    files = _listed_files(staging)
    if files is None:  # what `load` refuses must not replace a stack
        raise OSError(
            f"its {MANIFEST} is larger than {LARGEST_MANIFEST:,} bytes, or lists more than {MOST_FILES:,} files"
        )
    for name in files:
        _check_place(path, name, before)
    _write_journal(staging, _journal(staging) | {"before": before})
    os.replace(staging / MANIFEST, path / MANIFEST)
    sync(path)


def _finish_move(path: Path) -> None:
    """Moves files of the saved stack to their places that a save has left in its staging folder.

    To be called in turn.
    """
    manifest = _manifest(path)
    staging = None if manifest is None else staging_folder(path, manifest)
    journal = None if staging is None else _journal(staging)
    if journal is None:  # or a folder that `save` didn't write
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
    _discard(staging)


def _move_folder(staging: Path, path: Path, part: str, before: Mapping[str, str]) -> None:
    """Moves the folder of a model at once, so that Keras finds the old or the new one there, never a mixture.

    If there is anything in the present folder that `save` didn't write, nothing is moved.
    """
    if os.path.lexists(path / part):
        if not _holds_only(path, part, before):
            return
        try:
            os.replace(path / part, staging / f"{OLD}{part}")
        except OSError:  # such as a mount point
            return
    os.replace(staging / part, path / part)


def _holds_only(path: Path, part: str, listed: Mapping[str, str]) -> bool:
    """Whether a folder of a stack holds nothing but what is listed."""
    folders = {PurePosixPath(part), PurePosixPath(part, "assets")}  # TensorFlow makes an empty one
    folders |= {parent for name in listed for parent in PurePosixPath(name).parents}
    for where, inside, names in os.walk(path / part):
        below = PurePosixPath(Path(where).relative_to(path).as_posix())
        is_known = all(below / name in folders and not os.path.islink(os.path.join(where, name)) for name in inside)
        if not is_known or any(str(below / name) not in listed for name in names):
            return False
    return True


def _delete_replaced(path: Path, files: Mapping[str, str]) -> None:
    """Deletes files of the stack before that still have these SHA-256 sums, and folders that become empty."""
    unchanged, left = [], LARGEST_STACK
    for name, digest in files.items():
        file = path / name
        if has_links(path, name) or file.is_symlink() or not file.is_file():
            continue
        left -= file.stat().st_size  # a sparse file of a stranger can have any
        if left >= 0 and sha256(file) == digest:
            unchanged.append(name)
    _delete(path, unchanged)


def _delete(path: Path, names: Iterable[str]) -> None:
    """Deletes files of a part, never through a link, and the folders that become empty."""
    folders = set()
    for name in names:
        if not has_links(path, name):
            with suppress(OSError):
                (path / name).unlink()
        folders |= {parent for parent in PurePosixPath(name).parents if parent.parts}
    folders |= {folder / "assets" for folder in folders if len(folder.parts) == 1}
    for folder in sorted(folders, key=lambda each: -len(each.parts)):
        if not has_links(path, f"{folder}/x"):
            _remove_if_empty(path / folder)


def _discard(staging: Path) -> None:
    """Deletes what a save has written to its staging folder: the names in its journal, and nothing else."""
    journal = _journal(staging)
    if journal is not None:
        for name in journal["names"]:
            entry = staging / name
            if name.startswith(OLD):
                part = name.removeprefix(OLD)
                _delete(staging, [f"{OLD}{each}" for each in journal["before"] if each.startswith(f"{part}/")])
            elif _is_folder(entry):
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with suppress(OSError):
                    entry.unlink()
        with suppress(OSError):
            (staging / JOURNAL).unlink()
    with suppress(OSError):
        (staging / NEW_JOURNAL).unlink()
    _remove_if_empty(staging)


def _discard_unless_saved(staging: Path, path: Path) -> None:
    """Discards a staging folder, unless its stack is the saved one, whose files may still lie there."""
    try:
        manifest = _read_json_object(path / MANIFEST)
    except OSError:  # it can't be read now, and may be that stack's
        return
    is_other = manifest is None or (bool(manifest) and staging.name != f".autoencoder-{manifest.get('id')}")
    if is_other:
        _discard(staging)


def _discard_abandoned(path: Path) -> None:
    """Deletes what killed saves have left in their staging folders. To be called in turn."""
    for entry in list(os.scandir(path)):
        staging = path / entry.name
        if STAGING.fullmatch(entry.name) and _is_folder(staging):
            with suppress(RuntimeError, OSError), only_writer(staging):  # else a save is still going on
                _discard_unless_saved(staging, path)


def _journal(staging: Path) -> dict[str, Any] | None:
    """What a save has written about itself in its staging folder; `None` if the folder isn't one of a save."""
    match = STAGING.fullmatch(staging.name)
    if match is None or not _is_folder(staging):
        return None
    journal = _read_json_object(staging / JOURNAL) or {}
    names, before = journal.get("names"), journal.get("before")
    if journal.get("id") != match[1] or not isinstance(names, list) or not isinstance(before, dict):
        return None
    return journal if all(map(_is_staged, names)) and all(map(is_name, before)) else None


def _is_staged(name: Any) -> bool:
    """Whether `save` may have made an entry of this name in a staging folder."""
    part = PART.pattern
    known = (re.escape(MANIFEST), part, rf"{part}\.keras", f"{OLD}{part}", ARRAYS.pattern)
    return isinstance(name, str) and any(re.fullmatch(pattern, name) for pattern in known)


# === What is at a path ===


def _manifest(path: Path) -> dict[str, Any] | None:
    """The manifest that `save` wrote there, `None` if there is none or one that isn't whole.

    Raises:
        OSError: it can't be read, so that nothing is known of it.
    """
    manifest = _read_json_object(path / MANIFEST) or {}
    files, format = manifest.get("files"), manifest.get("format")
    known = isinstance(format, int) and isinstance(manifest.get("levels"), list) and isinstance(files, dict)
    return manifest if known and len(files) <= MOST_FILES and all(map(is_name, files)) else None


def _listed_files(path: Path) -> dict[str, str] | None:
    """Name → SHA-256 of the files that the manifest there lists."""
    manifest = _manifest(path)
    return None if manifest is None else manifest["files"]


def _read_json_object(file: Path) -> dict[str, Any] | None:
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


def _check_free(path: Path, names: Iterable[str], *, may_hold_others: bool = False) -> None:
    """Raises `OSError` if entries with these names are in a folder, and no manifest of ours lists them.

    Args:
        may_hold_others: whether a folder without a saved stack may hold files of other names.
    """
    there = {entry.name for entry in os.scandir(path)} if path.is_dir() else set()
    files = _listed_files(path)
    if files is None and MANIFEST in there:
        raise FileExistsError(
            f"{MANIFEST} is there and isn't one that `save` wrote, or it is damaged. Nothing is overwritten: move it "
            "away, or choose another folder"
        )
    listed = {PurePosixPath(name).parts[0] for name in files or {}}
    taken = sorted(name for name in names if name in there and name not in listed)
    if taken:
        raise FileExistsError(
            f"{printable(', '.join(taken), 200)} is there and wasn't written by `save`. Nothing is overwritten: move "
            "it away, or choose another folder"
        )
    others = sorted(name for name in there if not IGNORED_ENTRIES.fullmatch(name))
    if files is None and others and not may_hold_others and not there & set(CHECKPOINT_LOGS):
        raise FileExistsError(
            f"the folder isn't empty and holds no saved stack, but {printable(', '.join(others), 200)}. Choose a new "
            f"or an empty folder, such as {str(path / 'model')!r}"
        )
    uid = os.geteuid() if hasattr(os, "geteuid") else 0
    if path.is_dir() and path.stat().st_mode & stat.S_ISVTX and uid not in (0, path.stat().st_uid):
        foreign = [name for name in (MANIFEST, *listed) if name in there and (path / name).lstat().st_uid != uid]
        if foreign:
            raise PermissionError(
                f"{foreign[0]} belongs to another user, and in a folder with the sticky bit only its owner can replace "
                "it: choose another folder"
            )


def _check_place(path: Path, name: str, listed: Mapping[str, str]) -> None:
    """Raises `OSError` if a file of this name can't be put into a folder without a loss."""
    _check_links(path, name)
    file = path / name
    if os.path.lexists(file) and (name not in listed or file.is_dir()):
        raise FileExistsError(f"{name} is there and wasn't written by `save`: move it away")


def _check_links(path: Path, name: str) -> None:
    if has_links(path, name):
        raise FileExistsError(f"a folder on the way to {name} is a link or a file: move it away")


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _make_folders(path: Path) -> list[Path]:
    """Makes a folder and those above it that are missing; returns the new ones, from the top down."""
    made = []
    for folder in [folder for folder in (path, *path.parents) if not os.path.lexists(folder)][::-1]:
        try:
            folder.mkdir(parents=True, exist_ok=True)  # another process may have removed its parent meanwhile
            made.append(folder)
        except OSError:
            for each in reversed(made):
                _remove_if_empty(each)
            raise
    return made


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _try_to_write(folder: Path, below: Path) -> None:
    """Does in a folder what a save does: makes folders, writes, replaces and deletes files.

    Args:
        folder: one that is there.
        below: the path that is to be made in it.
    """
    trial = folder / f".autoencoder-{secrets.token_hex(16)}"
    deepest = trial / below / LONGEST_PART
    try:
        deepest.parent.mkdir(parents=True)
        deepest.write_bytes(b"x")
        os.replace(deepest, trial / "moved")
        (trial / "moved").write_bytes(b"xx")
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())


def _folders(folder: Path) -> Iterator[Path]:
    return (entry for entry in sorted(folder.rglob("*")) if _is_folder(entry))
