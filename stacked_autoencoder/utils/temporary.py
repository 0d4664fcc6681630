"""A temporary folder that is deleted when its process ends, even if the process is killed.

A small helper process waits until the pipe from this process closes, which happens when this process ends, and then
deletes the folder. A process that ends normally deletes the folder itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import weakref
from pathlib import Path

# Signals that end groups of processes are ignored: the helper ends when the pipe closes.
HELPER = """
import os, shutil, signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
path, device, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print(end=".", flush=True)
sys.stdin.buffer.read()
try:
    status = os.lstat(path)
except OSError:
    sys.exit()
if (status.st_dev, status.st_ino) == (device, number):
    shutil.rmtree(path, ignore_errors=True)
"""


class TemporaryFolder:
    """A new temporary folder, deleted by `close` or when this process ends.

    Attributes:
        path: path of the folder.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="stacked_autoencoder-"))
        self.process = os.getpid()
        self.helper: subprocess.Popen[bytes] | None = None
        try:
            self._start_helper()
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        FOLDERS.add(self)

    def close(self) -> None:
        """Deletes the folder and waits until the helper has ended. Does nothing in a forked process."""
        if os.getpid() != self.process:
            return
        try:
            if self.path.exists():
                shutil.rmtree(self.path)
        finally:
            helper, self.helper = self.helper, None
            if helper is not None:
                helper.stdin.close()
                helper.wait()

    def close_pipe(self) -> None:
        """Closes the pipe in a forked process, so that it closes when the process that made the folder ends."""
        if self.helper is not None:
            self.helper.stdin.close()

    def _start_helper(self) -> None:
        status = os.lstat(self.path)
        arguments = [str(self.path), str(status.st_dev), str(status.st_ino)]
        try:
            if not sys.executable:
                raise OSError("the Python interpreter has no executable")
            self.helper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", HELPER, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            warnings.warn(
                f"If this process is killed, its temporary encodings stay in {str(self.path)!r}: delete that folder "
                f"then. The helper process that would delete it cannot be started ({error}).",
                stacklevel=2,
            )
            return
        self.helper.stdout.read(1)  # from here on, the helper ignores signals
        self.helper.stdout.close()


FOLDERS: weakref.WeakSet[TemporaryFolder] = weakref.WeakSet()


def _close_pipe() -> None:
    for folder in list(FOLDERS):
        folder.close_pipe()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_pipe)
