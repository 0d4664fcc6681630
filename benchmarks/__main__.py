"""All questions that this library's figures answer, or some, each in a process of its own.

    python -m benchmarks                            # all of them: seven hours on two cores
    python -m benchmarks --quick                    # the same code, too short to mean anything: five minutes
    python -m benchmarks --only roofline encoding
    python -m benchmarks --only photographs -- --codes 4x4x32 --minutes 20      # with arguments of its own

Each prints a table. Of each it keeps `NAME.json`, with arguments, machine, versions and rows, and `NAME.png` where
there are curves; with `--quick` in a folder for temporary files. `python -m benchmarks.NAME --help` says what a
benchmark compares, and takes arguments of its own. Peers need `pip install ".[bench]"`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import results

# NAME → arguments with `--quick`; without it, its own defaults.
QUESTIONS = {
    "roofline": ["--codes=8x8x32", "--rounds=3"],
    "fit": ["--codes=8x8x32", "--batch-size=64", "--rounds=1", "--steps=4"],
    "scaling": ["--only", "side", "threads", "--sides=32", "--rounds=2"],
    "presets": ["--only=fast", "--minutes=0.02"],
    "levels": ["--side=64", "--size=8", "--rounds=3"],
    "greedy": ["--side=32", "--size=8", "--count=64", "--epochs=0,1,1"],
    "peers": ["--minutes=0.02"],
    "photographs": ["--codes=8x8x32", "--minutes=0.02"],
    "colours": ["--minutes=0.02"],
    "fashion": ["--minutes=0.02", "--count=2000"],
    "kinds": ["--only=tied", "--epochs=1"],
    "pretraining": ["--count=500", "--epochs=1"],
    "heads": ["--only=VAE", "--minutes=0.02", "--count=1000", "--samples=100"],
    "began_step": ["--side=32", "--filters=16", "--rounds=2"],
    "classifiers": ["--side=64", "--count=20", "--epochs=2"],
    "encoding": ["--images=1000", "--rounds=1"],
    "memory": ["--images=1500", "--side=512", "--width=8"],
    "faults": ["--only=saving", "--count=2"],
}
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
    failed = []
    for name in arguments.only:
        print(f"\n=== {name} ===", flush=True)
        options, began = own or (QUESTIONS[name] if arguments.quick else []), time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            rows = Path(scratch) / "rows.json"
            command = [sys.executable, "-m", f"benchmarks.{name}", *options, f"--json={rows}"]
            if subprocess.run(command, check=False).returncode == 0:
                results.keep(folder, name, options, rows, seconds=time.monotonic() - began)
            else:
                failed.append(name)
    print(f"\nin {folder}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return failed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
