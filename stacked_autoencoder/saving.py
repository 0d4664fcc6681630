"""Writing and reading the folder of a stack: all or nothing, and checked.

    <path>/encoder0/  decoder0/  …   each a SavedModel and a Keras directory model at once
    <path>/linear0.npz …             the best linear code of the same size, for the error budget
    <path>/training0.npz …           weights that only training needs, of variational levels
    <path>/autoencoder.json          written last: everything else, and a SHA-256 of every file

A new stack is written beside the old one, synced, and then renamed into its place.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import stacked_autoencoder
from stacked_autoencoder.durable import sha256, sync

FORMAT = 1
MANIFEST = "autoencoder.json"
WEIGHTS = "model.weights.h5"
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
    recover(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent))
    try:
        for name, model in models.items():
            # In this order: saving onto an export fails half-way.
            keras.saving.save_model(model, fresh / name, zipped=False)
            model.export(fresh / name, verbose=False)
        for name, values in arrays.items():
            np.savez(fresh / f"{name}.npz", **values)
        sums = {file.relative_to(fresh).as_posix(): sha256(file) for file in _files(fresh)}
        manifest = {"format": FORMAT, **state, "versions": versions(), "files": sums}
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for file in [*_files(fresh), *(folder for folder in fresh.rglob("*") if folder.is_dir()), fresh]:
            sync(file)
        fresh.chmod(0o755)  # mkdtemp's own mode would keep others from reading the model
        _swap(fresh, path)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return path


def read(path: Path) -> dict[str, Any]:
    """Returns what `autoencoder.json` says, after checking that every file is there and is the one that was saved.

    Raises:
        FileNotFoundError: the folder, its `autoencoder.json` or a part of a level is missing.
        ValueError: a file differs from what was saved, or the folder was written by a newer version.
    """
    path = path.resolve()
    recover(path)
    if not path.is_dir():
        raise FileNotFoundError(f"There is no saved autoencoder here. Received: {str(path)!r}")
    if not (path / MANIFEST).is_file():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing"
        raise FileNotFoundError(
            f"{MANIFEST} is missing, so this isn't a whole saved autoencoder: it was copied in part, or is something "
            "else. A single encoder or decoder in it may still open with `tf.keras.models.load_model`. "
            f"Received: {str(path)!r} with {found}"
        )
    manifest = _manifest(path / MANIFEST)
    if manifest["format"] > FORMAT:
        raise ValueError(
            f"This autoencoder was saved in format {manifest['format']}, by stacked_autoencoder "
            f"{manifest['versions']['stacked_autoencoder']}; this version reads up to {FORMAT}. Upgrade with "
            "`pip install --upgrade stacked_autoencoder`."
        )
    indices = range(len(manifest["levels"]))
    parts = {index: [f"encoder{index}", f"decoder{index}"] for index in indices}
    missing = [name for names in parts.values() for name in names if not (path / name).is_dir()]
    if missing:
        whole = [str(index) for index in indices if not set(parts[index]) & set(missing)]
        raise FileNotFoundError(
            f"{' and '.join(missing)} missing from the saved autoencoder. "
            f"Whole levels there: {', '.join(whole) or 'none'}. "
            f"Copy the folder again. Received: {str(path)!r}"
        )
    for name, expected in manifest["files"].items():
        file = path / name
        if not file.is_file() or sha256(file) != expected:
            raise ValueError(
                f"{name} is {'not what was saved' if file.is_file() else 'missing'}: the folder is damaged, or a file "
                f"was changed by hand. Copy it again, or train and save anew. Received: {str(path)!r}"
            )
    return manifest


def versions() -> dict[str, str]:
    """Of the packages that made what is on disk."""
    return {module.__name__: module.__version__ for module in (stacked_autoencoder, keras, tf, np)}


def _manifest(file: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:  # not JSON, or not even text
        manifest = None
    if not isinstance(manifest, dict) or not manifest.keys() >= {"format", "versions", "levels", "files"}:
        raise ValueError(
            f"{MANIFEST} isn't one that `save` wrote: it was changed by hand or cut short. Copy the folder again, or "
            f"train and save anew. Received: {str(file)!r}"
        )
    return manifest


def read_weights(folder: Path, model: keras.Model) -> None:
    model.load_weights(folder / WEIGHTS)


def read_arrays(file: Path) -> dict[str, np.ndarray] | None:
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


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
    """Finishes or undoes a swap that was cut short."""
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
