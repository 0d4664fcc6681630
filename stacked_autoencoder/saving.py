"""Writing the folder of a stack: all or nothing.

    <path>/encoder0/  decoder0/  …   each a SavedModel and a Keras directory model at once
    <path>/linear0.npz …             the best linear code of the same size, for the error budget
    <path>/training0.npz …           weights that only training needs, of variational levels
    <path>/autoencoder.json          written last: everything else, and a SHA-256 of every file

A new stack is written beside the old one, synced, and then renamed into its place. Several processes may save to the
same folder: each writes its own, and they are renamed one after the other.
"""

from __future__ import annotations

import glob
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import stacked_autoencoder
from stacked_autoencoder.durable import in_turn, only_writer, remove_abandoned, sha256, sync

FORMAT = 1
MANIFEST = "autoencoder.json"
NEW = ".new"
OURS = re.compile(r"(encoder|decoder|predictor)\d+|(linear|training)\d+\.npz|autoencoder\.json")


def write(
    path: Path,
    state: Mapping[str, Any],
    models: Mapping[str, keras.Model],
    arrays: Mapping[str, Mapping[str, Any]],
) -> Path:
    """Writes a stack to `path`, replacing one that is there only when the new one is whole on disk.

    Raises:
        OSError: nothing was changed at `path`.
    """
    path = path.resolve()
    check_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with in_turn(path.parent):
            _recover(path)
            remove_abandoned(path.parent.glob(f".{glob.escape(path.name)}.*{NEW}"))
            fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=NEW, dir=path.parent))
            held.enter_context(only_writer(fresh))  # as long as this lives
            held.callback(shutil.rmtree, fresh, ignore_errors=True)  # is gone by then, if all went well
        try:
            _write_all(fresh, state, models, arrays)
            with in_turn(path.parent):
                _recover(path)  # another one that was killed meanwhile
                _swap(fresh, path)
        except (OSError, tf.errors.OpError) as error:
            raise OSError(
                f"The stack couldn't be saved, and what was at `path` is as it was: {error}. Make room there, or give "
                f"another `path`. Received: path={str(path)!r}"
            ) from error
    return path


def _write_all(
    fresh: Path,
    state: Mapping[str, Any],
    models: Mapping[str, keras.Model],
    arrays: Mapping[str, Mapping[str, Any]],
) -> None:
    for name, model in models.items():
        _save_keras(model, fresh / name)
        model.export(fresh / name, verbose=False)  # not before: saving onto an export fails half-way
    for name, values in arrays.items():
        np.savez(fresh / f"{name}.npz", **values)
    sums = {file.relative_to(fresh).as_posix(): sha256(file) for file in _files(fresh)}
    manifest = {"format": FORMAT, **state, "versions": versions(), "files": sums}
    (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for file in [*_files(fresh), *(folder for folder in fresh.rglob("*") if folder.is_dir()), fresh]:
        sync(file)
    fresh.chmod(0o755)  # mkdtemp's own mode would keep others from reading the model


def _save_keras(model: keras.Model, folder: Path) -> None:
    """The folder that `keras.saving.save_model(…, zipped=False)` writes.

    By way of an archive, whose weights HDF5 makes in memory: when a disk is full under it, it crashes the process.
    """
    archive = folder.with_suffix(".keras")
    keras.saving.save_model(model, archive)
    with zipfile.ZipFile(archive) as parts:
        parts.extractall(folder)
    archive.unlink()


def versions() -> dict[str, str]:
    """Of the packages that made what is on disk."""
    return {module.__name__: module.__version__ for module in (stacked_autoencoder, keras, tf, np)}


def check_writable(path: Path, argument: str = "save_path") -> None:
    """Raises `OSError` if a folder `path` couldn't be written, by trying with an empty one beside it."""
    path = path.resolve()
    ancestor = next(folder for folder in path.parents if folder.exists())
    problem = f"{str(path)!r} is a file" if path.is_file() else None
    if problem is None:
        try:
            Path(tempfile.mkdtemp(dir=ancestor)).rmdir()
        except OSError as error:
            problem = str(error)
    if problem is not None:
        raise OSError(
            f"`{argument}` can't be written: {problem}. Choose another folder. Received: {argument}={str(path)!r}"
        )


def recover(path: Path) -> None:
    """Finishes or undoes a swap that was cut short, or waits for one that is going on."""
    if _aside(path).exists():
        with in_turn(path.parent):
            _recover(path)


def _recover(path: Path) -> None:
    old = _aside(path)
    if not old.exists():
        return
    if path.exists():
        _finish(old, path)
    else:
        old.rename(path)


def _swap(fresh: Path, path: Path) -> None:
    old = _aside(path)
    if path.exists():
        path.rename(old)  # a rename can't replace a folder that isn't empty
    fresh.rename(path)
    if old.exists():
        _finish(old, path)
    sync(path.parent)


def _finish(old: Path, path: Path) -> None:
    """Carries over what isn't ours, and drops the rest of the replaced stack."""
    for entry in list(old.iterdir()):
        if not OURS.fullmatch(entry.name):
            entry.rename(path / entry.name)
    shutil.rmtree(old)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())
