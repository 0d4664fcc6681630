"""Runs all benchmarks, or some of them, each in a separate process.

    python -m benchmarks                            # all of them: seven hours on two cores
    python -m benchmarks --quick                    # a test of the code, results mean nothing: three to eight minutes
    python -m benchmarks --only roofline encoding
    python -m benchmarks --only photographs -- --codes 4x4x32 --minutes 20      # arguments of the benchmark after --

Each benchmark prints a table. If jobs took turns, it also prints the median and the spread of their rounds. The results
are saved as `NAME.json`, with arguments, machine, versions and rows, and as `NAME.png` if they contain curves. With
`--quick` they are saved in a temporary folder. `python -m benchmarks --only NAME -- --help` describes a benchmark and
its arguments. The benchmark `peers` needs `pip install ".[bench]"`.
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

# Name → arguments with `--quick`; without `--quick` the defaults of the benchmark apply.
BENCHMARKS = {
    "roofline": ["--codes=8x8x32", "--rounds=3"],
    "fit": ["--codes=8x8x32", "--batch-size=64", "--rounds=1", "--steps=4"],
    "allocator": ["--processes=1", "--rounds=1", "--batches=2"],
    "scaling": ["--only", "side", "threads", "--sides=32", "--rounds=2"],
    "presets": ["--only=fast", "--minutes=0.02", "--count=2000"],
    "levels": ["--side=64", "--size=8", "--rounds=3"],
    "greedy": ["--side=32", "--size=8", "--count=64", "--epochs=0,1,1"],
    "peers": ["--minutes=0.02", "--count=2000"],
    "photographs": ["--codes=8x8x32", "--minutes=0.02", "--count=2000"],
    "rate": ["--codes=8x8x32", "--minutes=0.02", "--count=2000"],
    "colours": ["--minutes=0.02", "--count=2000"],
    "fashion": ["--minutes=0.02", "--count=2000"],
    "kinds": ["--only=tied", "--epochs=1"],
    "units": ["--only=dense", "--count=500", "--epochs=1"],
    "pretraining": ["--count=500", "--epochs=1"],
    "anomalies": ["--classes=0", "--textures=brick", "--count=500"],
    "store_heads": ["--count=200", "--epochs=1", "--seeds=1", "--samples=100"],
    "nested_flow": ["--count=200", "--epochs=1", "--seeds=1", "--samples=100"],
    "heads": ["--only=VAE", "--minutes=0.02", "--count=1000", "--samples=100"],
    "began_step": ["--side=32", "--filters=16", "--rounds=2"],
    "classifiers": ["--side=64", "--count=20", "--epochs=2"],
    "encoding": ["--images=1000", "--rounds=1"],
    "loaders": ["--images=500", "--rounds=1"],
    "memory": ["--images=1500", "--side=512", "--width=8"],
    "faults": ["--only=saving", "--count=2"],
}
N_PARALLEL = 2  # with `--quick`, where times have no meaning
SAVING = threading.Lock()  # matplotlib is not thread-safe
QUICK = Path(tempfile.gettempdir()) / "quick_benchmarks"


def main(argv: list[str] | None = None) -> list[str]:
    """Runs the benchmarks; returns the names of those that failed."""
    argv = sys.argv[1:] if argv is None else argv
    split = argv.index("--") if "--" in argv else len(argv)
    argv, options = argv[:split], argv[split + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="run each benchmark with the smallest possible settings")
    parser.add_argument(
        "--out", type=Path, help=f"folder for the results; default: {results.FOLDER}, with --quick {QUICK}"
    )
    arguments = parser.parse_args(argv)
    if options and len(arguments.only) != 1:
        parser.error(
            f"Arguments after -- go to one benchmark. Name it, such as --only roofline. Received: {' '.join(options)}"
        )
    folder = arguments.out or (QUICK if arguments.quick else results.FOLDER)
    folder.mkdir(parents=True, exist_ok=True)

    def run(name: str) -> bool:
        defaults = BENCHMARKS[name] if arguments.quick else []
        return run_benchmark(name, options or defaults, folder, in_parallel=arguments.quick)

    with ThreadPoolExecutor(N_PARALLEL if arguments.quick else 1) as runners:
        succeeded = list(runners.map(run, arguments.only))
    failed = [name for name, success in zip(arguments.only, succeeded, strict=True) if not success]
    print(f"\nResults are in {folder}." + (f" Failed: {', '.join(failed)}" if failed else ""))
    return failed


def run_benchmark(name: str, options: list[str], folder: Path, in_parallel: bool) -> bool:
    """Runs a benchmark and saves its results; returns whether it succeeded.

    Args:
        in_parallel: other benchmarks run at the same time, so the output is printed at the end.
    """
    began = time.monotonic()
    if not in_parallel:
        print(f"\n=== {name} ===", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch) / "rows.json"
        command = [sys.executable, "-m", results.module_of(name), *options, f"--json={rows}"]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if in_parallel else {}
        done = subprocess.run(command, check=False, text=True, **output)
        if in_parallel:
            print(f"\n=== {name} ===\n{done.stdout}", flush=True)
        if done.returncode == 0:
            with SAVING:
                results.keep(folder, name, options, rows, seconds=time.monotonic() - began)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
