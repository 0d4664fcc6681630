"""Reading and writing files safely: bounded reads of regular files, and writes that are whole or not there at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from stacked_autoencoder.utils.errors import printable

LONGEST_NAME = "x" * 80  # no file has a longer name, but for those of `save`
KINDS_OF_FILE = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def problem_with(status: os.stat_result, largest: int) -> str | None:
    """Why a file must not be opened for reading, `None` if it may be.

    Reading a named pipe or a device can block forever or never end, and a sparse file can be of any size.

    Args:
        status: what `os.stat` says of the file.
        largest: number of bytes that the file may have at most.
    """
    if not stat.S_ISREG(status.st_mode):
        return f"it is {KINDS_OF_FILE.get(stat.S_IFMT(status.st_mode), 'a special file')}, not a regular file"
    if status.st_size > largest:
        return f"it has {status.st_size:,} bytes, and at most {largest:,} are read"
    return None


@contextmanager
def open_regular(file: str | os.PathLike[str], largest: int) -> Iterator[BinaryIO]:
    """Opens a regular file of at most `largest` bytes for reading; anything else is refused without opening it.

    Raises:
        OSError: the file is missing, can't be read, isn't a regular file, or is too large.
    """
    # Checked before, since opening some devices has effects, and after, since the name may mean another file by then.
    _refuse(file, problem_with(os.stat(file), largest))
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        _refuse(file, problem_with(os.fstat(descriptor), largest))
        yield stream


def _refuse(file: str | os.PathLike[str], problem: str | None) -> None:
    if problem is not None:
        raise OSError(errno.EINVAL, problem, os.fspath(file))


def read_regular(file: str | os.PathLike[str], largest: int) -> bytes:
    """The content of a regular file of at most `largest` bytes; raises as `open_regular` does."""
    with open_regular(file, largest) as stream:
        return stream.read(largest)


def sha256(file: str | os.PathLike[str], largest: int = 1 << 62) -> str:
    """SHA-256 of a regular file; raises as `open_regular` does."""
    with open_regular(file, largest) as stream:
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
    with replacing_by(path.with_name(f".{path.name}.{secrets.token_hex(8)}.new"), path, reserve) as stream:
        yield stream


@contextmanager
def replacing_by(temporary: Path, path: Path, reserve: int = 0) -> Iterator[BinaryIO]:
    """Does what `replacing` does, by way of a temporary file whose name the caller chooses.

    The caller can note that name before, and delete exactly this file after a process was killed.

    Args:
        temporary: new file in the folder of `path`.
        path: what to replace.
        reserve: bytes to claim before anything is written, so that a full disk is found at once.

    Raises:
        OSError: `temporary` exists, or can't be written. What was at `path` is untouched.
    """
    # `tempfile.mkstemp` would give the file a mode of its own; this way it gets the one that the umask says.
    with temporary.open("xb") as stream:
        try:
            if reserve and hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(stream.fileno(), 0, reserve)
            yield stream
            stream.truncate()
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
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


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    import fcntl  # Windows has none, and can do the rest without

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether a regular file has this name. A link is none, whatever it leads to."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


LARGEST_FILE = 1 << 30  # bytes; an uncompressed picture of the default `max_pixels` takes a quarter of it


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path whose `~` is the home folder."""
    return Path(os.path.expanduser(path))


def resolved(path: str | os.PathLike[str], argument: str) -> Path:
    """An absolute path without links, whose `~` is the home folder.

    Raises:
        ValueError: it is empty, or not one that a file can have.
    """
    text = os.fspath(path)
    if not text or text == b"" or "\0" in str(text):
        raise ValueError(f"`{argument}` must be the path of a folder. Received: {argument}={text!r}")
    try:
        return expanded(path).resolve()
    except RuntimeError as error:  # links that lead to each other
        raise OSError(f"`{argument}` can't be found: {error}. Received: {argument}={text!r}") from None


def check_writable(path: str | os.PathLike[str], argument: str, deepest: str = LONGEST_NAME) -> None:
    """Makes sure that files can be written to a folder, by writing, renaming and deleting some there.

    A folder that isn't there is tried below the nearest one that is.

    Args:
        deepest: path of the file with the longest path that will be written, relative to the folder.

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
        _try_to_write(there, path.relative_to(there) / deepest)
    except (OSError, UnicodeError) as error:
        reason = "its name is not UTF-8" if isinstance(error, UnicodeError) else printable(error)
        raise OSError(
            f"`{argument}` can't be written: {reason}. Choose another folder. Received: {argument}={str(path)!r}"
        ) from error


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def make_folders(path: Path) -> list[Path]:
    """Makes a folder and those above it that are missing; returns the new ones, from the top down."""
    made = []
    for folder in [folder for folder in (path, *path.parents) if not os.path.lexists(folder)][::-1]:
        try:
            folder.mkdir(parents=True, exist_ok=True)  # another process may have removed its parent meanwhile
            made.append(folder)
        except OSError:
            for each in reversed(made):
                remove_if_empty(each)
            raise
    return made


def remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _try_to_write(folder: Path, below: Path) -> None:
    """Does in a folder what a save does: makes folders, writes, replaces and deletes files.

    Args:
        folder: one that is there.
        below: the path of the file that is to be made in it.
    """
    trial = folder / f".autoencoder-{secrets.token_hex(16)}"
    deepest = trial / below
    try:
        deepest.parent.mkdir(parents=True)
        deepest.write_bytes(b"x")
        os.replace(deepest, trial / "moved")
        (trial / "moved").write_bytes(b"xx")
    finally:
        shutil.rmtree(trial, ignore_errors=True)
