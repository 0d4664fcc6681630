"""Reading the folder of a stack, which may come from a stranger: nothing in it is run.

Read are `autoencoder.json` and arrays of numbers; neither Keras's own `config.json` nor the SavedModel is opened.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from stacked_autoencoder.durable import sha256
from stacked_autoencoder.errors import LoadError
from stacked_autoencoder.saving import FORMAT, MANIFEST, recover

LARGEST_MANIFEST = 1 << 24  # bytes
LARGEST_SIDE = 1 << 31


def read(path: Path) -> dict[str, Any]:
    """What `autoencoder.json` says, after checking that every file is there and is the one that was saved.

    Raises:
        FileNotFoundError: the folder, its `autoencoder.json` or a part of a level is missing.
        LoadError: a file differs from what was saved, lies elsewhere, or was written by a newer version.
    """
    recover(path)
    if not path.is_dir():
        why = "this is a file, and `save` writes a folder" if path.is_file() else "there is nothing here"
        raise FileNotFoundError(f"There is no saved autoencoder here: {why}. Received: {str(path)!r}")
    if not (path / MANIFEST).is_file():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing"
        raise FileNotFoundError(
            f"{MANIFEST} is missing, so this isn't a whole saved autoencoder: it was copied in part, or is something "
            "else. A single encoder or decoder in it may still open with `tf.keras.models.load_model`. "
            f"Received: {str(path)!r} with {found}"
        )
    manifest = _manifest(path)
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
        problem = _problem(path, name, expected)
        if problem:
            raise LoadError(
                f"{name[:200]} {problem}: the folder is damaged, or was changed by hand. Copy it again, or train and "
                f"save anew. Received: {str(path)!r}"
            )
    return manifest


def identity(path: Path) -> tuple[int, int] | None:
    """Differs if another stack has taken the place of the one that was at `path`."""
    try:
        status = (path / MANIFEST).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _problem(path: Path, name: str, expected: str) -> str | None:
    file = path / name
    try:
        is_here = file.resolve() == file and file.is_relative_to(path)
        if not is_here:
            return "is a link, or lies outside of the folder"
        if not file.is_file():
            return "is missing"
        return None if sha256(file) == expected else "is not what was saved"
    except (OSError, ValueError) as error:  # no name that a file can have, or not one that may be read
        return f"can't be read, {error}"


def _manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        if file.is_symlink() or file.stat().st_size > LARGEST_MANIFEST:
            raise ValueError
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if manifest["format"] > FORMAT:
            saved_by = str(manifest["versions"]["stacked_autoencoder"])[:20]
            raise LoadError(
                f"This autoencoder was saved in format {manifest['format']}, by stacked_autoencoder {saved_by}; this "
                f"version reads up to {FORMAT}. Upgrade with `pip install --upgrade stacked_autoencoder`."
            )
        _check_manifest(manifest)
    except LoadError:
        raise
    except Exception:  # not JSON, not even text, or not with what it must have
        raise LoadError(
            f"{MANIFEST} isn't one that `save` wrote: it was changed by hand or cut short. Copy the folder again, or "
            f"train and save anew. Received: {str(file)!r}"
        ) from None
    return manifest


def _check_manifest(manifest: Any) -> None:
    """Raises anything if it isn't what `save` writes."""
    low, high = manifest["value_range"]
    fits = [
        all(side is None or _is_size(side) for side in manifest["shape"]),
        isinstance(manifest["check_range"], bool),
        math.isfinite(low) and math.isfinite(high),
        isinstance(manifest["levels"], list) and manifest["levels"],
        all(isinstance(name, str) and isinstance(digest, str) for name, digest in manifest["files"].items()),
    ]
    for level in manifest["levels"]:
        fits += [
            isinstance(level["kind"], str),
            isinstance(level["config"], dict),
            isinstance(level["started"], bool),
            all(name.isascii() for name in level["config"]),
        ]
    if not all(fits):
        raise ValueError


def _is_size(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 < number < LARGEST_SIDE
