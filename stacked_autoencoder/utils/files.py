"""Safe reading and writing of files: bounded reads of regular files, and atomic writes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from stacked_autoencoder.utils.errors import printable

LONGEST_NAME = "x" * 80  # only `save` writes files with longer names
KINDS_OF_FILE = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def problem_with(status: os.stat_result, largest: int) -> str | None:
    """Returns the reason why a file must not be opened for reading, `None` if it may be.

    Reading a named pipe or a device can block forever or never end, and a sparse file can be of any size.

    Args:
        status: result of `os.stat` for the file.
        largest: maximum size of the file in bytes.
    """
    if not stat.S_ISREG(status.st_mode):
        return f"it is {KINDS_OF_FILE.get(stat.S_IFMT(status.st_mode), 'a special file')}, not a regular file"
    if status.st_size > largest:
        return f"it has {status.st_size:,} bytes, and at most {largest:,} are read"
    return None


@contextmanager
def open_regular(file: str | os.PathLike[str], largest: int) -> Iterator[BinaryIO]:
    """Opens a regular file of at most `largest` bytes for reading. Other files are refused without opening them.

    Raises:
        OSError: the file is missing, cannot be read, is not a regular file, or is too large.
    """
    # Checked before opening, since opening some devices has effects, and after, since the file may have been replaced.
    _refuse(file, problem_with(os.stat(file), largest))
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        _refuse(file, problem_with(os.fstat(descriptor), largest))
        yield stream


def _refuse(file: str | os.PathLike[str], problem: str | None) -> None:
    if problem is not None:
        raise OSError(errno.EINVAL, problem, os.fspath(file))


def read_regular(file: str | os.PathLike[str], largest: int) -> bytes:
    """Returns the content of a regular file of at most `largest` bytes. Raises the errors of `open_regular`."""
    with open_regular(file, largest) as stream:
        return stream.read(largest)


def sha256(file: str | os.PathLike[str], largest: int = 1 << 62) -> str:
    """Returns the SHA-256 of a regular file as hexadecimal digits. Raises the errors of `open_regular`."""
    with open_regular(file, largest) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path, reserve: int = 0) -> Iterator[BinaryIO]:
    """Opens a temporary file for writing, which replaces `path` when the block ends without an error.

    Args:
        path: file to replace. Its folder must exist.
        reserve: bytes to allocate before anything is written, so that a full disk is noticed at once.

    Raises:
        OSError: the file cannot be written. An existing file at `path` is unchanged.
    """
    with replacing_by(path.with_name(f".{path.name}.{secrets.token_hex(8)}.new"), path, reserve) as stream:
        yield stream


@contextmanager
def replacing_by(temporary: Path, path: Path, reserve: int = 0) -> Iterator[BinaryIO]:
    """Like `replacing`, with a temporary file whose name the caller chooses.

    The caller can record that name beforehand, and delete exactly this file if the process was killed.

    Args:
        temporary: new file in the folder of `path`.
        path: file to replace.
        reserve: bytes to allocate before anything is written, so that a full disk is noticed at once.

    Raises:
        OSError: `temporary` exists or cannot be written. An existing file at `path` is unchanged.
    """
    # `tempfile.mkstemp` would set the file mode to 0600; this way the umask decides.
    with temporary.open("xb") as stream:
        try:
            if reserve and hasattr(os, "posix_fallocate"):  # not on macOS
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
    """Replaces a JSON file durably. Equal content is written as equal bytes."""
    with replacing(path) as stream:
        stream.write(json.dumps(content, indent=1).encode())


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing to a folder. The lock ends with this process, even if it is killed.

    Raises:
        RuntimeError: another process holds the lock.
    """
    with ExitStack() as held:
        try:
            held.enter_context(_locked(folder, wait=False))
        except BlockingIOError:
            raise RuntimeError(
                "Another process is writing to this folder. Wait until it ends, or give each process its share of the "
                f"images with `shard=(i, n)`. Received: {str(folder)!r}"
            ) from None
        yield


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Waits until no other process holds the lock of this folder, and holds it during the block."""
    with _locked(folder, wait=True):
        yield


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    import fcntl  # does not exist on Windows, where the rest of the package can be imported

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether this path is a regular file. A symbolic link is not, whatever its target."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


LARGEST_FILE = 1 << 30  # bytes; four times an uncompressed picture of the default `max_pixels`


def expanded(path: str | os.PathLike[str]) -> Path:
    """Returns a path with `~` replaced by the home folder."""
    return Path(os.path.expanduser(path))


def resolved(path: str | os.PathLike[str], argument: str) -> Path:
    """Returns an absolute path without symbolic links, with `~` replaced by the home folder.

    Raises:
        ValueError: the path is empty or contains a null character.
        OSError: symbolic links lead to each other.
    """
    text = os.fspath(path)
    if not text or text == b"" or "\0" in str(text):
        raise ValueError(f"`{argument}` must be the path of a folder. Received: {argument}={text!r}")
    try:
        return expanded(path).resolve()
    except RuntimeError as error:  # links that lead to each other
        raise OSError(f"`{argument}` cannot be resolved: {error}. Received: {argument}={text!r}") from None


def check_writable(path: str | os.PathLike[str], argument: str, deepest: str = LONGEST_NAME) -> None:
    """Checks that files can be written to a folder by writing, renaming and deleting a few of them.

    If the folder does not exist, this is tried in its nearest parent that exists.

    Args:
        path: the folder.
        argument: name of the argument, for messages.
        deepest: the longest path that will be written, relative to the folder.

    Raises:
        OSError: files cannot be written.
        ValueError: `path` cannot be the path of a folder.
    """
    path = resolved(path, argument)
    try:
        if path.is_file():
            raise OSError("it is a file")
        str(path).encode("utf-8")  # TensorFlow requires UTF-8 names
        existing = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
        _try_to_write(existing, path.relative_to(existing) / deepest)
    except (OSError, UnicodeError) as error:
        reason = "its name is not UTF-8" if isinstance(error, UnicodeError) else printable(error)
        raise OSError(
            f"`{argument}` can't be written: {reason}. Choose another folder. Received: {argument}={str(path)!r}"
        ) from error


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def make_folders(path: Path) -> list[Path]:
    """Creates a folder and its missing parents. Returns the folders that were created, from the top down."""
    created = []
    for folder in [folder for folder in (path, *path.parents) if not os.path.lexists(folder)][::-1]:
        try:
            folder.mkdir(parents=True, exist_ok=True)  # another process may have removed its parent meanwhile
            created.append(folder)
        except OSError:
            for each in reversed(created):
                remove_if_empty(each)
            raise
    return created


def write_folder(path: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    """Calls `write` with a temporary folder, which is moved to `path` when it is complete. Returns `path`.

    Raises:
        FileExistsError: the folder exists and is not empty.
    """
    path = expanded(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"`path` must be a new or empty folder. Choose another one. Received: {str(path)!r}")
    with _temporary_folder(path) as folder:
        write(folder)
        if path.exists():
            path.rmdir()
        folder.rename(path)
    return path


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    folder = path.with_name(f".{path.name}.{os.getpid()}.new")
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _try_to_write(folder: Path, below: Path) -> None:
    """Creates folders and writes, replaces and deletes files below a folder, as `save` does.

    Args:
        folder: an existing folder.
        below: path of the deepest file to write, relative to the folder.
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
