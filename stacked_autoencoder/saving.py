"""Writing the folder of a stack: all or nothing.

    <path>/encoder0/  decoder0/  …   each a SavedModel and a Keras directory model at once
    <path>/linear0.npz …             the best linear code of the same size, for the error budget
    <path>/training0.npz …           weights that only training needs, of variational levels
    <path>/autoencoder.json          the manifest: everything else, and a SHA-256 of every file
    <path>/.autoencoder-<id>/        only during a save: the files of the new stack that are not in place yet

A save writes the whole new stack into `.autoencoder-<id>`, a staging folder with a random `id`, and syncs it. Then it
replaces `autoencoder.json`: from this moment on the new stack is the saved one. Its manifest names the `id`, and every
file that is still in the staging folder is read from there. The save ends by moving the files to their places. A save
that is killed leaves the old stack or the new one, whole, and `load` has nothing to repair. The next save finishes the
move.

Nothing outside of `path` is written, and `path` itself is never renamed, so it may be a mount point or the working
directory. Only files that a manifest of ours lists are replaced or deleted.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import stacked_autoencoder
from stacked_autoencoder.durable import in_turn, only_writer, read_regular, sha256, sync, write_json
from stacked_autoencoder.errors import printable

FORMAT = 1
MANIFEST = "autoencoder.json"
LARGEST_MANIFEST = 1 << 24  # bytes
MOST_FILES = 1 << 14  # that a manifest lists
STAGING = re.compile(r"\.autoencoder-([0-9a-f]{32})")
JOURNAL = "save.json"  # in a staging folder: what the save writes there, and what it replaces
PART = re.compile(r"(encoder|decoder|predictor)(0|[1-9]\d{0,4})")
ARRAYS = re.compile(r"(linear|training)(0|[1-9]\d{0,4})\.npz")
# What training itself may have written to the same folder; it's left alone.
OF_TRAINING = re.compile(r"(train|fine_tune)\.json|(start|now|done)(\d+|_all)\.npz|level\d+-(training|validation).*")
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
    names = [*models, *(f"{name}.npz" for name in arrays)]
    with ExitStack() as held:
        try:
            for folder in _make_folders(path):
                held.callback(_remove_if_empty, folder)
            with in_turn(path):
                _finish_swap(path)
                _check_free(path, names, may_hold_others=is_checked)
                staging = _staging_folder(path, names)
                held.callback(_discard_unless_saved, staging, path)
                held.enter_context(only_writer(staging))  # tells other saves that this one is still going on
            _write_all(staging, state, models, arrays)
            with in_turn(path):
                _finish_swap(path)  # of another save that was killed meanwhile
                _check_free(path, names, may_hold_others=True)
                _commit(staging, path)
        except (OSError, tf.errors.OpError) as error:
            raise OSError(
                f"The stack couldn't be saved, and what was at `path` is as it was: {printable(error)}. Make room "
                f"there, or give another `path`. Received: path={str(path)!r}"
            ) from error
        with in_turn(path):
            try:
                _finish_swap(path)
            except OSError as error:
                raise OSError(
                    f"The stack is saved, and `Autoencoder.load` reads it, but some of its files couldn't be moved to "
                    f"their places: {printable(error)}. Until they are, `encoder0` and the others may be those of the "
                    "stack before. Make the files in the folder writable and save again. "
                    f"Received: path={str(path)!r}"
                ) from error
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

    A folder that isn't there is made, and removed again.

    Raises:
        OSError: they can't.
        ValueError: `path` is not one that a folder can have.
    """
    path = resolved(path, argument)
    try:
        if path.is_file():
            raise OSError("it is a file")
        str(path).encode("utf-8")  # which TensorFlow asks of all names
        with ExitStack() as held:
            for folder in _make_folders(path):
                held.callback(_remove_if_empty, folder)
            folders = {file.parent for file in (path / name for name in _listed_files(path) or {}) if file.exists()}
            for folder in (path, *sorted(folders)):
                _try_to_write(folder)
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
    write_json(staging / JOURNAL, {"id": token, "names": [*names, *archives, MANIFEST], "replaced": {}})
    return staging


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
    files = json.loads((staging / MANIFEST).read_text(encoding="utf-8"))["files"]
    for name in files:
        _check_place(path, name, before)
    journal = _journal(staging)
    journal["replaced"] = {name: digest for name, digest in before.items() if name not in files}
    write_json(staging / JOURNAL, journal)
    os.replace(staging / MANIFEST, path / MANIFEST)
    sync(path)


def _finish_swap(path: Path) -> None:
    """Moves the files of the saved stack to their places, where a save was cut short. To be called in turn."""
    manifest = _manifest(path)
    staging = None if manifest is None else staging_folder(path, manifest)
    journal = None if staging is None else _journal(staging)
    if journal is None:  # or a folder that `save` didn't write
        return
    folders = [folder.relative_to(staging) for folder in _folders(staging)]
    staged = [name for name in manifest["files"] if os.path.lexists(staging / name)]
    for name in (*(f"{folder.as_posix()}/x" for folder in folders), *staged):
        _check_links(path, name)
        _check_links(staging, name)
    for folder in folders:
        (path / folder).mkdir(exist_ok=True)
    for name in staged:
        os.replace(staging / name, path / name)
    parts = {PurePosixPath(name).parts[0] for name in manifest["files"]}
    emptied = set()
    for name, digest in journal["replaced"].items():
        if name not in manifest["files"] and _holds(path, name, digest):
            (path / name).unlink()
            emptied |= {part for part in PurePosixPath(name).parents if part.parts and part.parts[0] not in parts}
    emptied |= {folder / "assets" for folder in emptied if len(folder.parts) == 1}  # TensorFlow makes an empty one
    for folder in sorted(emptied, key=lambda each: -len(each.parts)):
        _remove_if_empty(path / folder)
    for folder in {path, *(path / folder for folder in folders)}:
        sync(folder)
    _discard(staging)


def _discard(staging: Path) -> None:
    """Deletes what a save has written to its staging folder: the names in its journal, and nothing else."""
    journal = _journal(staging)
    for name in [] if journal is None else journal["names"]:
        entry = staging / name
        if _is_folder(entry):
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink()
    if journal is not None:
        with suppress(OSError):
            (staging / JOURNAL).unlink()
    _remove_if_empty(staging)


def _discard_unless_saved(staging: Path, path: Path) -> None:
    """Discards a staging folder, unless its stack is the saved one, whose files may still lie there."""
    manifest = _manifest(path)
    if manifest is None or staging_folder(path, manifest) != staging:
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
    journal = _json(staging / JOURNAL)
    names, replaced = journal.get("names"), journal.get("replaced")
    if journal.get("id") != match[1] or not isinstance(names, list) or not isinstance(replaced, dict):
        return None
    return journal if all(map(_is_staged, names)) and all(map(is_name, replaced)) else None


def _is_staged(name: Any) -> bool:
    """Whether `save` may have made an entry of this name in a staging folder."""
    known = (MANIFEST, PART.pattern, rf"{PART.pattern}\.keras", ARRAYS.pattern)
    return isinstance(name, str) and any(re.fullmatch(pattern, name) for pattern in known)


# === What is at a path ===


def _manifest(path: Path) -> dict[str, Any] | None:
    """The manifest that `save` wrote there, `None` if there is none or one that isn't whole."""
    manifest = _json(path / MANIFEST)
    files, format = manifest.get("files"), manifest.get("format")
    known = isinstance(format, int) and isinstance(manifest.get("levels"), list) and isinstance(files, dict)
    return manifest if known and len(files) <= MOST_FILES and all(map(is_name, files)) else None


def _listed_files(path: Path) -> dict[str, str] | None:
    """Name → SHA-256 of the files that the manifest there lists."""
    manifest = _manifest(path)
    return None if manifest is None else manifest["files"]


def _json(file: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one if it isn't there or isn't one."""
    try:
        if file.is_symlink():
            return {}
        content = json.loads(read_regular(file, LARGEST_MANIFEST))
    except (OSError, ValueError, RecursionError):
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
    others = sorted(name for name in there if not (STAGING.fullmatch(name) or OF_TRAINING.fullmatch(name)))
    if files is None and others and not may_hold_others:
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


def _holds(path: Path, name: str, digest: str) -> bool:
    """Whether a file is there, not through a link, and holds what was saved."""
    file = path / name
    if has_links(path, name) or file.is_symlink() or not file.is_file():
        return False
    return sha256(file) == digest


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _make_folders(path: Path) -> list[Path]:
    """Makes a folder and those above it that are missing; returns the new ones, from the top down."""
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)][::-1]
    made = []
    try:
        for folder in missing:
            folder.mkdir(exist_ok=True)
            made.append(folder)
    except OSError:
        for folder in reversed(made):
            _remove_if_empty(folder)
        raise
    return made


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _try_to_write(folder: Path) -> None:
    """Does in a folder what a save does: makes folders, writes, replaces and deletes files."""
    trial = folder / f".autoencoder-{secrets.token_hex(16)}"
    deepest = trial / LONGEST_PART
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


@contextmanager
def settled(path: Path) -> Iterator[None]:
    """Waits until no save is moving files to their places, and keeps others from beginning to."""
    manifest = _manifest(path)
    if manifest is None or staging_folder(path, manifest) is None:
        yield
        return
    with ExitStack() as held:
        with suppress(OSError):  # a file system without locks
            held.enter_context(in_turn(path, shared=True))
        yield
