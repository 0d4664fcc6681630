"""Jobs in separate processes, and the memory of a process."""

import json
import subprocess
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def in_a_process(module: str, *arguments: str) -> dict:
    """Runs `python -m module arguments`; returns the JSON in the last line of its output."""
    command = [sys.executable, "-m", module, *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def peak_megabytes() -> float:
    """The peak memory of this process."""
    return _read_status("VmHWM")


def megabytes() -> float:
    """The current memory of this process."""
    return _read_status("VmRSS")


def _read_status(name: str) -> float:
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1000
