"""Jobs in processes of their own, which hold nothing else."""

import json
import subprocess
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def in_a_process(module: str, *arguments: str) -> dict:
    """Runs `python -m module arguments`; the JSON in the last line that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def peak_megabytes() -> float:
    """The most memory that this process has had."""
    return _told("VmHWM")


def megabytes() -> float:
    """The memory that this process has now."""
    return _told("VmRSS")


def _told(name: str) -> float:
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1000
