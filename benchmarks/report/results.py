"""Result files: arguments, machine, versions and rows of each benchmark."""

import json
import os
import platform
import timeit
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks.report import pictures

BENCHMARKS = Path(__file__).parent.parent
FOLDER = BENCHMARKS / "results"
PACKAGES = ("tensorflow", "keras", "numpy", "torch", "scikit-learn")
SEED = 0  # of every benchmark
MATRIX = 2048


def keep(folder: Path, name: str, arguments: list[str], rows: Path, seconds: float) -> Path:
    """Writes `NAME.json` with rows, arguments, machine and versions, and `NAME.png` if the rows have curves."""
    values = json.loads(rows.read_text())
    result = {"benchmark": name, "arguments": arguments, "seconds": round(seconds), "seed": SEED}
    result |= {"machine": machine(), "versions": versions(), "rows": values}
    file = folder / f"{name}.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    if any("curve" in row for row in values):
        pictures.curves([row for row in values if "curve" in row]).savefig(file.with_suffix(".png"), dpi=100)
    return file


def module_of(name: str) -> str:
    """The module of a benchmark, for `python -m`."""
    (file,) = BENCHMARKS.glob(f"*/{name}.py")
    return f"benchmarks.{file.parent.name}.{name}"


def load(name: str, folder: Path = FOLDER) -> dict:
    return json.loads((folder / f"{name}.json").read_text())


def machine() -> dict[str, str | int]:
    """The processor, the number of threads and the speed of this machine."""
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": len(os.sched_getaffinity(0)),
        "system": platform.system(),
        "gigaflops": round(matrix_rate() / 1e9),
        "oneDNN": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default of TensorFlow"),
    }


def matrix_rate() -> float:
    """Operations per second of NumPy's matrix product; machines with one processor name can differ several times."""
    matrix = np.ones((MATRIX, MATRIX), np.float32)
    return 2 * MATRIX**3 / min(timeit.repeat(lambda: matrix @ matrix, number=1))


def versions() -> dict[str, str]:
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


def _lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text().splitlines() if path.exists() else []
