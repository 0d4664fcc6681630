"""Jobs in separate processes, and the memory of a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def in_a_process(module: str, *arguments: str, **variables: str) -> dict:
    """Runs `python -m module arguments` with environment variables; returns the JSON in its last line of output."""
    command, environment = [sys.executable, "-m", module, *arguments], os.environ | variables
    process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(process.stdout.splitlines()[-1])


def peak_megabytes() -> float:
    """The peak memory of this process."""
    return _read_status("VmHWM")


def megabytes() -> float:
    """The current memory of this process."""
    return _read_status("VmRSS")


def _read_status(name: str) -> float:
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1000
