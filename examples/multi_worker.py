"""Training by several processes, on one machine or on many, each of which takes its share of every batch.

    python examples/multi_worker.py --local-workers 2     # starts two here, and one alone to compare with
    TF_CONFIG=… python examples/multi_worker.py           # one of those that TF_CONFIG names; the same command on each

Two local workers share the cores of this machine, so they can't be faster than one alone; how much slower they are is
what it costs to sum gradients between processes, and that each moves all weights for itself. On two machines the same
cost stands against twice the cores. How to start workers under Slurm and Kubernetes: docs/how-to/many-machines.md.

About six minutes on two cores. Expect the weights of both workers to be equal to the last bit, their losses to be those
of one worker alone to about a thousandth (sums are rounded in another order, and Muon makes much of that), and 0.8 to
1.1 of its images per second.
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

SIDE = 64
BATCH = 64  # of all workers together
COUNT = 4096
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
RESULT = "Result: "  # before what a worker found, as JSON


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--local-workers", type=int, default=0, help="start so many on this machine")
    parser.add_argument("--epochs", type=int, default=3, help="per level; the first, which compiles, isn't timed")
    parser.add_argument("--count", type=int, default=COUNT, help="number of 64x64 training crops")
    parser.add_argument("--size", type=int, default=48, help="width of the network")
    parser.add_argument("--levels", type=int, default=2, help="number of levels")
    arguments = parser.parse_args(argv)
    if not arguments.local_workers:
        return work(arguments)

    # === One worker with all cores, then several that share them ===
    given = [f"--{name}={getattr(arguments, name)}" for name in ("epochs", "count", "size", "levels")]
    cores = len(os.sched_getaffinity(0))
    (alone,) = run(given, [{"TF_CONFIG": ""} | threads(cores)])
    hosts = [f"127.0.0.1:{port}" for port in free_ports(arguments.local_workers)]
    tasks = [{"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}} for index in range(len(hosts))]
    each = threads(max(1, cores // len(hosts)))
    workers = run(given, [{"TF_CONFIG": json.dumps(task)} | each for task in tasks])

    # === The same weights everywhere, the same losses as one alone ===
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


def work(arguments: argparse.Namespace) -> dict[str, Any]:
    """What each worker does: all make the same calls, with the same arguments."""
    is_one_of_many = bool(os.environ.get("TF_CONFIG"))
    # Before anything else of TensorFlow's: it connects the workers, and waits for all of them.
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if is_one_of_many else tf.distribute.get_strategy()

    import keras
    from stopwatch import Clock

    from stacked_autoencoder import Autoencoder
    from stacked_autoencoder.datasets import HELD_OUT, TRAINING, photograph, random_crops, tiles

    keras.utils.set_random_seed(0)
    images = random_crops([photograph(name) for name in TRAINING], arguments.count, SIDE)  # (4096, 64, 64, 3) uint8
    valid = tiles([photograph(name) for name in HELD_OUT], SIDE)  # (82, 64, 64, 3) uint8
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
    weights = hashlib.sha256()
    for level in sae.levels:
        for weight in level.encoder.get_weights() + level.decoder.get_weights():
            weights.update(np.ascontiguousarray(weight).data)
    seconds = min(clocks[0].epochs[1:] or clocks[0].epochs)  # of level 0; anything else on the machine only adds
    result = {
        "weights": weights.hexdigest()[:16],
        "losses": [history.history["val_loss"] for history in histories],
        "images per second": arguments.count / seconds,
    }
    print(f"{RESULT}{json.dumps(result)}")
    return result


# === Processes on this machine ===


def run(given: list[str], environments: list[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Starts this file once per environment; returns what each found. What the first prints is shown."""
    with ExitStack() as held:
        processes = [
            held.enter_context(
                subprocess.Popen(
                    [sys.executable, __file__, *given],
                    env=os.environ | environment,
                    stdout=subprocess.PIPE,
                    stderr=None if index == 0 else subprocess.DEVNULL,
                    text=True,
                )
            )
            for index, environment in enumerate(environments)
        ]
        try:
            return [result_of(process, shown=index == 0) for index, process in enumerate(processes)]
        finally:
            for process in processes:
                process.kill()  # does nothing to those that are done


def result_of(process: subprocess.Popen[str], shown: bool) -> dict[str, Any]:
    result = None
    for line in process.stdout:
        if line.startswith(RESULT):
            result = json.loads(line.removeprefix(RESULT))
        elif shown:
            print(line, end="")
    if process.wait() or result is None:
        raise SystemExit(f"A worker ended with exit code {process.returncode}, and without a result.")
    return result


def threads(count: int) -> dict[str, str]:
    return {name: str(count) for name in THREADS}


def free_ports(count: int) -> list[int]:
    """Ports of this machine that no one listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


if __name__ == "__main__":
    main()
