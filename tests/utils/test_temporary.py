import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from stacked_autoencoder.utils.temporary import TemporaryFolder

PROGRAM = """
import os, sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from stacked_autoencoder.utils.temporary import TemporaryFolder
folder = TemporaryFolder()
(folder.path / "below").mkdir()
(folder.path / "below" / "file").write_text("")
(folder.path / "link").symlink_to(sys.argv[2])
child = os.fork() if sys.argv[3] == "forked" else None
if child == 0:
    folder.close()  # which deletes nothing here
    time.sleep(30)
    os._exit(0)
print(child, flush=True)
if sys.argv[3] == "raises":
    raise KeyboardInterrupt
if sys.argv[3] != "ends":
    time.sleep(30)
"""


def helpers(folder: Path) -> list[int]:
    """Processes that have a path below the folder among their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(argument.startswith(os.fsencode(folder / "stacked_autoencoder-")) for argument in arguments):
            found.append(int(process.name))
    return found


def wait_until(holds) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    return tmp_path / "tmp"


def started(folder: Path, what: str) -> subprocess.Popen:
    program = [sys.executable, "-c", PROGRAM, str(folder), str(folder.parent / "mine"), what]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("end", ["SIGTERM", "SIGHUP", "SIGKILL", "SIGINT", "ends", "raises", "forked"])
def test_the_folder_goes_however_the_process_ends(folder, end):
    with started(folder, end) as process:
        child = process.stdout.readline().strip()
        if end not in ("ends", "raises"):
            assert len(list(folder.iterdir())) == len(helpers(folder)) == 1
            process.send_signal(getattr(signal, end, signal.SIGKILL))
        process.wait()
        wait_until(lambda: not list(folder.iterdir()) and not helpers(folder))
        if child != "None":  # it outlives the process that made the folder
            os.kill(int(child), signal.SIGKILL)
    assert (folder.parent / "mine" / "notes.txt").read_text() == "mine"


def test_a_folder_that_is_closed_is_gone_and_so_is_its_helper(folder):
    temporary = TemporaryFolder()
    assert temporary.path.parent == folder
    assert temporary.path.stat().st_mode & 0o777 == 0o700
    (temporary.path / "file").write_text("")
    temporary.close()
    assert list(folder.iterdir()) == []
    if sys.platform == "linux":
        assert helpers(folder) == []
    temporary.close()


def test_another_folder_of_the_same_name_stays(folder):
    temporary = TemporaryFolder()
    temporary.path.rename(folder / "moved")
    temporary.path.mkdir()
    helper = temporary.helper
    helper.stdin.close()
    helper.wait()
    assert sorted(folder.iterdir()) == sorted([folder / "moved", temporary.path])
    temporary.close()


def test_a_helper_that_cannot_be_started_is_reported(folder, monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.warns(
        UserWarning, match=r"If this process is killed, its temporary encodings stay in '.*'.*delete that"
    ):
        temporary = TemporaryFolder()
    temporary.close()
    assert list(folder.iterdir()) == []
