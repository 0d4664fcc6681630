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
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1000
