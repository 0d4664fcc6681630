"""All questions that this library's figures answer, or some, each in a process of its own.

    python -m benchmarks                            # all of them: seven hours on two cores
    python -m benchmarks --quick                    # the same code, too short to mean anything: three to eight minutes
    python -m benchmarks --only roofline encoding
    python -m benchmarks --only photographs -- --codes 4x4x32 --minutes 20      # with arguments of its own

Each prints a table, and where jobs took turns, medians and spread of their rounds. Of each it keeps `NAME.json`, with
arguments, machine, versions and rows, and `NAME.png` where there are curves; with `--quick` in a folder for temporary
files. `python -m benchmarks --only NAME -- --help` says what a benchmark compares, and which arguments it takes. Peers
need `pip install ".[bench]"`.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.report import results

# NAME → arguments with `--quick`; without it, its own defaults.
QUESTIONS = {
    "roofline": ["--codes=8x8x32", "--rounds=3"],
    "fit": ["--codes=8x8x32", "--batch-size=64", "--rounds=1", "--steps=4"],
    "scaling": ["--only", "side", "threads", "--sides=32", "--rounds=2"],
    "presets": ["--only=fast", "--minutes=0.02", "--count=2000"],
    "levels": ["--side=64", "--size=8", "--rounds=3"],
    "greedy": ["--side=32", "--size=8", "--count=64", "--epochs=0,1,1"],
    "peers": ["--minutes=0.02", "--count=2000"],
    "photographs": ["--codes=8x8x32", "--minutes=0.02", "--count=2000"],
    "colours": ["--minutes=0.02", "--count=2000"],
    "fashion": ["--minutes=0.02", "--count=2000"],
    "kinds": ["--only=tied", "--epochs=1"],
    "pretraining": ["--count=500", "--epochs=1"],
    "heads": ["--only=VAE", "--minutes=0.02", "--count=1000", "--samples=100"],
    "began_step": ["--side=32", "--filters=16", "--rounds=2"],
    "classifiers": ["--side=64", "--count=20", "--epochs=2"],
    "encoding": ["--images=1000", "--rounds=1"],
    "loaders": ["--images=500", "--rounds=1"],
    "memory": ["--images=1500", "--side=512", "--width=8"],
    "faults": ["--only=saving", "--count=2"],
}
AT_ONCE = 2  # with `--quick`: its times mean nothing, and most of them are one thread's, imports and tracing
KEEPING = threading.Lock()  # matplotlib draws in one thread at a time
QUICK = Path(tempfile.gettempdir()) / "quick_benchmarks"


def main(argv: list[str] | None = None) -> list[str]:
    """Runs them; returns the names of those that failed."""
    argv = sys.argv[1:] if argv is None else argv
    split = argv.index("--") if "--" in argv else len(argv)
    argv, own = argv[:split], argv[split + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(QUESTIONS), default=list(QUESTIONS), metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help=f"folder of the results; {results.FOLDER}, with --quick {QUICK}")
    arguments = parser.parse_args(argv)
    if own and len(arguments.only) != 1:
        parser.error(f"what follows -- is for one benchmark: name it with --only. Received: {' '.join(own)}")
    folder = arguments.out or (QUICK if arguments.quick else results.FOLDER)
    folder.mkdir(parents=True, exist_ok=True)

    def run(name: str) -> bool:
        return ran(name, own or (QUESTIONS[name] if arguments.quick else []), folder, aside=arguments.quick)

    with ThreadPoolExecutor(AT_ONCE if arguments.quick else 1) as runners:
        well = list(runners.map(run, arguments.only))
    failed = [name for name, is_well in zip(arguments.only, well, strict=True) if not is_well]
    print(f"\nin {folder}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return failed


def ran(name: str, options: list[str], folder: Path, aside: bool) -> bool:
    """Runs a benchmark and keeps what it measured; whether it ended well.

    Args:
        aside: others run beside it, so that what it prints is shown when it is over.
    """
    began = time.monotonic()
    if not aside:
        print(f"\n=== {name} ===", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch) / "rows.json"
        command = [sys.executable, "-m", results.module_of(name), *options, f"--json={rows}"]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if aside else {}
        done = subprocess.run(command, check=False, text=True, **output)
        if aside:
            print(f"\n=== {name} ===\n{done.stdout}", flush=True)
        if done.returncode == 0:
            with KEEPING:
                results.keep(folder, name, options, rows, seconds=time.monotonic() - began)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
