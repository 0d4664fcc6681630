"""A temporary folder that goes with its process, however that ends.

A small process waits until the pipe from this one closes, as it does when this one ends, killed or not, and then
deletes the folder. A process that leaves the folder in good order deletes it itself.
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

# The other signals that end groups of processes are ignored: the helper ends by itself when the pipe closes.
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
    """A folder of its own, deleted by `close`, or when this process ends.

    Attributes:
        path: of the folder.
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
        """Deletes the folder, and waits until the helper has ended. A forked process deletes nothing."""
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

    def let_go(self) -> None:
        """In a forked process: the pipe must close when the one that made the folder ends."""
        if self.helper is not None:
            self.helper.stdin.close()

    def _start_helper(self) -> None:
        status = os.lstat(self.path)
        arguments = [str(self.path), str(status.st_dev), str(status.st_ino)]
        try:
            if not sys.executable:
                raise OSError("this Python isn't a program of its own")
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
                f"If this process is killed, its temporary encodings stay in {str(self.path)!r}, since the "
                f"process that would delete them can't be started ({error}): delete that folder then.",
                stacklevel=2,
            )
            return
        self.helper.stdout.read(1)  # signals can't end it from here on
        self.helper.stdout.close()


FOLDERS: weakref.WeakSet[TemporaryFolder] = weakref.WeakSet()


def _let_go() -> None:
    for folder in list(FOLDERS):
        folder.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
