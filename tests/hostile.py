"""Folders that someone has changed who knows how they are checked."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stacked_autoencoder.durable import sha256


def copied(saved: Path, to: Path) -> Path:
    return Path(shutil.copytree(saved, to / "stranger"))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes what `autoencoder.json` says."""
    file = path / "autoencoder.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def sign(path: Path) -> None:
    """Writes the SHA-256 of every file into `autoencoder.json`, as an attacker would."""

    def change(manifest: dict[str, Any]) -> None:
        for name in manifest["files"]:
            manifest["files"][name] = sha256(path / name)

    edit(path, change)
