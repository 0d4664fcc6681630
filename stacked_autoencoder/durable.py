"""Files that are there whole or not at all: checksums, and writing beside, syncing and renaming."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path, reserve: int = 0) -> Iterator[BinaryIO]:
    """Gives a file to write to, which takes the place of `path` when it is whole on the disk, and goes if it isn't.

    Args:
        path: in a folder that is there.
        reserve: bytes to claim before anything is written, so that a full disk is found at once.

    Raises:
        OSError: what was there is untouched.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if reserve and hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(stream.fileno(), 0, reserve)
            yield stream
            stream.truncate()
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)  # mkstemp's own mode would keep others from reading it
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Replaces a JSON file, durably. The same content gives the same bytes."""
    with replacing(path) as stream:
        stream.write(json.dumps(content, indent=1).encode())


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing to a folder at the same time. The lock goes with its process, however it ends.

    Raises:
        RuntimeError: another process has it.
    """
    with ExitStack() as held:
        try:
            held.enter_context(_locked(folder, wait=False))
        except BlockingIOError:
            raise RuntimeError(
                "Another process is writing to this folder. Wait for it, or give each process a share of its own with "
                f"`shard=(i, n)`. Received: {str(folder)!r}"
            ) from None
        yield


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Waits until no other process is in this place for the same folder."""
    with _locked(folder, wait=True):
        yield


def remove_abandoned(folders: Iterable[Path]) -> None:
    """Deletes folders whose `only_writer` is gone."""
    for folder in folders:
        if not folder.is_symlink():
            # It has a writer still, or that one has just deleted it itself.
            with suppress(BlockingIOError, FileNotFoundError), _locked(folder, wait=False):
                shutil.rmtree(folder)


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    import fcntl  # Windows has none, and can do the rest without

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
