"""Training with several processes, on one machine or on many: each worker processes a share of every batch.

The first command starts two workers on this machine, and one worker alone for comparison. Two local workers share the
cores of the machine, so together they can't be faster than one. The difference shows the cost of summing gradients
between processes and of updating all weights in every process. On two machines, this cost is offset by twice as many
cores. How to start workers under Slurm and Kubernetes: docs/how-to/many-machines.md.

    python examples/multi_worker.py --local-workers 2     # starts two workers here
    TF_CONFIG=… python examples/multi_worker.py           # starts one worker of a cluster; run it on each machine

Expected time: about six minutes on two cores.
Expected score: the weights of both workers are identical. Their losses equal those of one worker to about a thousandth;
sums are rounded in a different order, which Muon amplifies. Two workers reach 0.8 to 1.1 times the images per second of
one worker.
"""

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import tensorflow as tf

# === Data and training ===
SIDE = 64
COUNT = 4096
BATCH = 64  # images per step of all workers together

# === Processes ===
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
RESULT = "Result: "  # starts the line on which a worker prints its result as JSON


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--local-workers", type=int, default=0, help="number of workers to start on this machine")
    parser.add_argument(
        "--epochs", type=int, default=3, help="number of epochs of each level; the first one isn't timed"
    )
    parser.add_argument("--count", type=int, default=COUNT, help="number of 64x64 training crops")
    parser.add_argument("--size", type=int, default=48, help="width of the network")
    parser.add_argument("--levels", type=int, default=2, help="number of levels")
    arguments = parser.parse_args(argv)
    if not arguments.local_workers:
        return run_worker(arguments)

    # === Run one worker with all cores, then several that share them ===
    options = [f"--{name}={getattr(arguments, name)}" for name in ("epochs", "count", "size", "levels")]
    cores = len(os.sched_getaffinity(0))
    (alone,) = start_workers(options, [{"TF_CONFIG": ""} | threads(cores)])
    hosts = [f"127.0.0.1:{port}" for port in free_ports(arguments.local_workers)]
    tasks = [{"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}} for index in range(len(hosts))]
    share = threads(max(1, cores // len(hosts)))
    workers = start_workers(options, [{"TF_CONFIG": json.dumps(task)} | share for task in tasks])

    # === Compare the weights, the losses and the speed ===
    rate = min(worker["images per second"] for worker in workers)
    rows = {"one worker": alone} | {f"worker {index} of {len(hosts)}": row for index, row in enumerate(workers)}
    print("\n                weights           last losses          images per second")
    for name, row in rows.items():
        losses = "  ".join(f"{losses[-1]:.3e}" for losses in row["losses"])
        print(f"{name:14}  {row['weights']}  {losses:20} {row['images per second']:8.0f}")
    equal = len({worker["weights"] for worker in workers}) == 1
    print(f"\nThe weights of the workers are {'equal' if equal else 'NOT equal'}.")
    print(f"{len(hosts)} workers: {rate / alone['images per second']:.2f} of one worker's images per second")
    return {"alone": alone, "workers": workers, "equal": equal, "ratio": rate / alone["images per second"]}


def run_worker(arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains a stack as one worker. All workers must make the same calls with the same arguments."""
    is_in_cluster = bool(os.environ.get("TF_CONFIG"))
    # TensorFlow must create the strategy first: it connects the workers and waits for all of them.
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if is_in_cluster else tf.distribute.get_strategy()

    import keras
    from stopwatch import Clock

    from stacked_autoencoder import Autoencoder
    from stacked_autoencoder.datasets import load_photographs, random_crops, tiles

    # === Load the data: every worker has all of it ===
    keras.utils.set_random_seed(0)
    images = random_crops(load_photographs("training"), arguments.count, SIDE)  # (4096, 64, 64, 3) uint8
    valid = tiles(load_photographs("validation"), SIDE)  # (82, 64, 64, 3) uint8

    # === Train ===
    with strategy.scope():
        sae = Autoencoder(shape=(SIDE, SIDE, 3), size=arguments.size, n_levels=arguments.levels)
    clocks = [Clock() for _ in sae.levels]
    histories = [
        history
        for level, clock in enumerate(clocks)
        for history in sae.train(
            images,
            arguments.epochs,
            levels=[level],
            batch_size=BATCH,
            validation_data=valid,
            callbacks=[clock],
            verbose=2,
        )
    ]

    # === Print a hash of the weights, the losses and the speed of level 0 ===
    weights = hashlib.sha256()
    for level in sae.levels:
        for weight in level.encoder.get_weights() + level.decoder.get_weights():
            weights.update(np.ascontiguousarray(weight).data)
    seconds = min(clocks[0].epochs[1:] or clocks[0].epochs)  # the fastest: other programs can only slow it down
    result = {
        "weights": weights.hexdigest()[:16],
        "losses": [history.history["val_loss"] for history in histories],
        "images per second": arguments.count / seconds,
    }
    print(f"{RESULT}{json.dumps(result)}")
    return result


# === Processes on this machine ===


def start_workers(options: list[str], environments: list[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Runs this file once per environment and returns the results. Only the output of the first process is printed.

    Args:
        options: command-line arguments.
        environments: environment variables of each process.
    """
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, __file__, *options],
                    env=os.environ | environment,
                    stdout=subprocess.PIPE,
                    stderr=None if index == 0 else subprocess.DEVNULL,
                    text=True,
                )
            )
            for index, environment in enumerate(environments)
        ]
        try:
            return [read_result(process, is_printed=index == 0) for index, process in enumerate(processes)]
        finally:
            for process in processes:
                process.kill()  # has no effect on processes that have ended


def read_result(process: subprocess.Popen[str], is_printed: bool) -> dict[str, Any]:
    """Waits for a worker and returns its result.

    Args:
        process: the worker.
        is_printed: whether to print the rest of its output.
    """
    result = None
    for line in process.stdout:
        if line.startswith(RESULT):
            result = json.loads(line.removeprefix(RESULT))
        elif is_printed:
            print(line, end="")
    if process.wait() or result is None:
        raise SystemExit(f"A worker ended with exit code {process.returncode} and without a result.")
    return result


def threads(count: int) -> dict[str, str]:
    """Returns the environment variables that limit a process to a number of threads."""
    return {name: str(count) for name in THREADS}


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine that are not in use."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


if __name__ == "__main__":
    main()
