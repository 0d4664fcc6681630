"""Saving of a stack to a folder, all or nothing.

    <path>/encoder0/  decoder0/  …   a SavedModel and a Keras directory model at the same time <path>/linear0.npz …
    PCA of the same size, for the error budget <path>/training0.npz …           weights that only training uses, of
    variational levels <path>/autoencoder.json          manifest: everything else, and a SHA-256 of every file
    <path>/.autoencoder-<id>/        only during a save: files of the new stack that are not in their final places

A save writes the whole new stack to `.autoencoder-<id>`, a staging folder with a random `id`, and syncs it. Then it
replaces `autoencoder.json`. From this moment on, the new stack is the saved one. Its manifest names the `id`, and every
file that is still in the staging folder is read from there. At the end, the save moves the files to their final places.
If a save is killed, `Autoencoder.load` finds the complete old stack or the complete new one, without any repair. The
next save finishes the move. Programs that open `encoder0` with Keras find the old one, the new one, or none in between.

Nothing outside of `path` is written, and `path` is never renamed, so it may be a mount point or the working directory.
Only files that a manifest of this package lists are replaced or deleted.
"""

from __future__ import annotations

import json
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.saving.manifest import (
    FORMAT,
    MANIFEST,
    MOST_LEVELS,
    STAGING,
    has_links,
    listed_files,
)
from stacked_autoencoder.saving.staging import (
    JOURNAL,
    commit,
    discard_abandoned,
    discard_unless_saved,
    finish_move,
    new_staging_folder,
)
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import (
    check_writable,
    in_turn,
    is_folder,
    make_folders,
    only_writer,
    remove_if_empty,
    resolved,
    sha256,
    sync,
)
from stacked_autoencoder.version import versions

CHECKPOINT_LOGS = ("train.json", "fine_tune.json")  # files of `train(checkpoint_dir=…)`
IGNORED_ENTRIES = re.compile(r"\..*|lost\+found|level\d+-(training|validation).*")  # system and `cache_dir`
LONGEST_PART = "predictor0/variables/variables.data-00000-of-00001.tempstate00000000000000000000"


def save_stack(stack: Stack, path: Path, *, is_checked: bool = False) -> None:
    """Saves a stack to a folder, all or nothing.

    Args:
        stack: the stack.
        path: the folder, absolute and without links, as `resolved` returns it.
        is_checked: whether `check_savable` has passed before training. Other files may have been added since.

    Raises:
        OSError: the stack cannot be written, or files are in the way. Nothing at `path` was changed.
        ValueError: the stack has too many levels.
    """
    if len(stack.levels) > MOST_LEVELS:
        raise ValueError(
            f"At most {MOST_LEVELS} levels can be saved. Use fewer levels. Received: {len(stack.levels)} levels"
        )
    state = {
        "shape": stack.shape,
        "check_range": stack.values.is_checked,
        "value_range": stack.value_range,
        **({"value_range_is_given": True} if stack.values.origin == "user" else {}),
        **({} if stack.missing == "error" else {"missing": stack.missing}),
        "levels": [level.get_state() for level in stack.levels],
    }
    models = {
        f"{name}{index}": model for index, level in enumerate(stack.levels) for name, model in level.models().items()
    }
    codes = {f"linear{index}": level.linear_code for index, level in enumerate(stack.levels)}
    arrays = {name: vars(code) for name, code in codes.items() if code is not None}
    for index, level in enumerate(stack.levels):
        weights = level.get_training_weights()
        if weights:
            arrays[f"training{index}"] = {f"weight{number}": weight for number, weight in enumerate(weights)}
    _write_folder(path, state, models, arrays, is_checked)


def check_savable(path: str | os.PathLike[str], stack: Stack) -> None:
    """Checks, before training, that a stack can be saved to a folder without overwriting other files.

    Args:
        path: the folder, as the user has given it.
        stack: the stack.

    Raises:
        OSError: the folder cannot be written, or files are in the way.
    """
    check_writable(path, "save_path", LONGEST_PART)
    path = resolved(path, "save_path")
    kinds = ("encoder{}", "decoder{}", "predictor{}", "linear{}.npz", "training{}.npz")
    names = [kind.format(index) for index in range(len(stack.levels)) for kind in kinds]
    try:
        _check_free(path, names)
        _check_replaceable(path)
    except OSError as error:
        raise type(error)(f"`save_path` can't be written: {error}. Received: save_path={str(path)!r}") from None


def _write_folder(
    path: Path,
    state: Mapping[str, Any],
    models: Mapping[str, keras.Model],
    arrays: Mapping[str, Mapping[str, Any]],
    is_checked: bool,
) -> None:
    """Writes the new stack and then replaces the saved one."""
    names = [*models, *(f"{name}.npz" for name in arrays)]
    with ExitStack() as cleanup:
        try:
            new_folders = make_folders(path)
            for folder in new_folders:
                cleanup.callback(remove_if_empty, folder)
            with in_turn(path):
                finish_move(path)
                _check_free(path, names, may_hold_others=is_checked)
                staging = new_staging_folder(path, names)
                cleanup.callback(discard_unless_saved, staging, path)
                cleanup.enter_context(only_writer(staging))  # marks this save as running for other saves
            _write_all(staging, state, models, arrays)
            with in_turn(path):
                finish_move(path)  # of another save that was killed in the meantime
                _check_free(path, names, may_hold_others=True)
                commit(staging, path)
        except (OSError, tf.errors.OpError) as error:
            raise OSError(
                f"The stack could not be saved, and the content of `path` is unchanged: {printable(error)}. Free disk "
                f"space, or use another `path`. Received: path={str(path)!r}"
            ) from error
        try:
            for folder in new_folders:
                sync(folder.parent)
            with in_turn(path):
                finish_move(path)
        except OSError as error:
            raise OSError(
                "The stack is saved and `Autoencoder.load` reads it, but some files could not be moved to their final "
                f"places: {printable(error)}. Until they are moved, `encoder0` and the other folders may be those of "
                "the previous stack. Make the files in the folder writable and save again. Received: "
                f"path={str(path)!r}"
            ) from error
        with suppress(OSError), in_turn(path):
            discard_abandoned(path)


def _write_all(
    staging: Path,
    state: Mapping[str, Any],
    models: Mapping[str, keras.Model],
    arrays: Mapping[str, Mapping[str, Any]],
) -> None:
    for name, model in models.items():
        _save_keras(model, staging / name)
        model.export(staging / name, verbose=False)  # only now, because saving into an exported folder fails
    for name, values in arrays.items():
        np.savez(staging / f"{name}.npz", **values)
    files = [file for file in _files(staging) if file.name != JOURNAL]
    digests = {file.relative_to(staging).as_posix(): sha256(file) for file in files}
    save_id = STAGING.fullmatch(staging.name)[1]
    manifest = {"format": FORMAT, "id": save_id, **state, "versions": versions(), "files": digests}
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for file in [*files, staging / MANIFEST, *_folders(staging), staging]:
        sync(file)


def _save_keras(model: keras.Model, folder: Path) -> None:
    """Writes the folder that `keras.saving.save_model(…, zipped=False)` writes.

    It saves an archive first, whose HDF5 file is created in memory: HDF5 crashes the process if the disk becomes full.
    """
    archive = folder.with_suffix(".keras")
    keras.saving.save_model(model, archive)
    with zipfile.ZipFile(archive) as parts:
        parts.extractall(folder)
    archive.unlink()


def _check_free(path: Path, names: Iterable[str], *, may_hold_others: bool = False) -> None:
    """Raises `OSError` if a folder contains entries of these names that no manifest of this package lists.

    Args:
        path: the folder.
        names: names of the entries that will be written.
        may_hold_others: whether a folder without a saved stack may contain files of other names.
    """
    present = {entry.name for entry in os.scandir(path)} if path.is_dir() else set()
    files = listed_files(path)
    if files is None and MANIFEST in present:
        raise FileExistsError(
            f"{MANIFEST} is not a manifest that `save` wrote, or is damaged. Existing files are never overwritten: "
            "move it away, or choose another folder"
        )
    listed = {PurePosixPath(name).parts[0] for name in files or {}}
    conflicts = sorted(name for name in names if name in present and name not in listed)
    if conflicts:
        raise FileExistsError(
            f"{printable(', '.join(conflicts), 200)} was not written by `save`. Existing files are never overwritten: "
            "move it away, or choose another folder"
        )
    others = sorted(name for name in present if not IGNORED_ENTRIES.fullmatch(name))
    if files is None and others and not may_hold_others and not present & set(CHECKPOINT_LOGS):
        raise FileExistsError(
            f"the folder contains no saved stack, but other files: {printable(', '.join(others), 200)}. Choose a new "
            f"or empty folder, such as {str(path / 'model')!r}"
        )
    uid = os.geteuid() if hasattr(os, "geteuid") else 0
    if path.is_dir() and path.stat().st_mode & stat.S_ISVTX and uid not in (0, path.stat().st_uid):
        foreign = [name for name in (MANIFEST, *listed) if name in present and (path / name).lstat().st_uid != uid]
        if foreign:
            raise PermissionError(
                f"{foreign[0]} belongs to another user. In a folder with the sticky bit, only its owner can replace "
                "it. Choose another folder"
            )


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())


def _folders(folder: Path) -> Iterator[Path]:
    return (entry for entry in sorted(folder.rglob("*")) if is_folder(entry))


def _check_replaceable(path: Path) -> None:
    """Raises `PermissionError` if files of the saved stack are in folders that are not writable."""
    names = [name for name in listed_files(path) or {} if not has_links(path, name)]
    for folder in sorted({(path / name).parent for name in names}):
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(
                f"files in {str(folder)!r} cannot be replaced. Make that folder writable, or choose another folder"
            )
