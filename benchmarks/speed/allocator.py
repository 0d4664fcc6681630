"""Training and encoding with the memory allocator that the library selects, against TensorFlow's default.

    python -m benchmarks.speed.allocator            # two minutes

The default returns the memory of freed tensors to the operating system. How long the system takes to provide it again
depends on its version and settings, such as huge pages. Each process measures one job with one allocator: a step of
`train` with batches of 32 images, or `encode` per batch of 256 images, 64x64x3 with encodings of 16x16x32. The
processes take turns, with and without the convolutions of oneDNN, which need less memory. The ratios are those of the
best rounds.
"""

import itertools
import json
import resource
import time

import keras
import numpy as np

from benchmarks.harness import table
from benchmarks.harness.designs import as_if_trained, stack_for
from benchmarks.harness.process import in_a_process
from stacked_autoencoder.utils.allocator import USE

CODE = "16x16x32"
ONE_DNN = "TF_ENABLE_ONEDNN_OPTS"  # TensorFlow's convolutions of oneDNN, which are on by default on newer processors
BATCHES = {"training": 32, "encoding": 256}  # images


class Epochs(keras.callbacks.Callback):
    """Measures `seconds` and `pages` of each epoch, in total."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds: list[dict[str, float]] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.before = time.perf_counter(), pages()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds, count = self.before
        self.rounds.append({"seconds": time.perf_counter() - seconds, "pages": pages() - count})


def pages() -> int:
    """Pages that the system has provided to this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(job: str, rounds: int, batches: int) -> dict[str, float]:
    """Seconds and pages per batch of a job in this process: the least of some rounds, after one that is not counted."""
    images = np.random.default_rng(0).integers(0, 256, (batches * BATCHES[job], 64, 64, 3), np.uint8)
    sae, epochs = stack_for(CODE), Epochs()
    if job == "training":
        sae.train(images, epochs=rounds + 1, callbacks=epochs, verbose=0)
    else:
        sae.train(images[:64], epochs=0, verbose=0)
        as_if_trained(sae)
        for _ in range(rounds + 1):
            epochs.on_epoch_begin(0)
            sae.encode(images)
            epochs.on_epoch_end(0)
    return {name: min(each[name] for each in epochs.rounds[1:]) / batches for name in ("seconds", "pages")}


def compare_allocators(processes: int, *arguments: str) -> dict[str, float]:
    """Figures of both allocators, from `processes` processes for each allocator and job, with further arguments."""
    found = {}
    for _ in range(processes):
        for job, one_dnn, use in itertools.product(BATCHES, "01", "01"):
            variables = {USE: use, ONE_DNN: one_dnn}
            result = in_a_process("benchmarks.speed.allocator", *arguments, f"--job={job}", **variables)
            best = found.setdefault((job, one_dnn, use), result)
            found[job, one_dnn, use] = {key: min(best[key], value) for key, value in result.items()}
    figures = {}
    for job, one_dnn in itertools.product(BATCHES, "01"):
        default, ours = found[job, one_dnn, "0"], found[job, one_dnn, "1"]
        what = f"{job} {'with' if one_dnn == '1' else 'without'} oneDNN"
        figures[f"{what}: speed / speed with the default allocator"] = default["seconds"] / ours["seconds"]
        figures[f"{what}: pages per batch, with the default allocator"] = default["pages"]
        figures[f"{what}: pages per batch"] = ours["pages"]
    return figures


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = table.parser(__doc__)
    parser.add_argument("--processes", type=int, default=3, help="processes of each allocator and job")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batches", type=int, default=50, help="batches per round")
    parser.add_argument(
        "--job", choices=list(BATCHES), help="measure only this job, with the allocator of this process"
    )
    arguments = parser.parse_args(argv)
    if arguments.job:
        result = measure(arguments.job, arguments.rounds, arguments.batches)
        print(json.dumps(result))
        return result
    return table.figures(
        compare_allocators(arguments.processes, f"--rounds={arguments.rounds}", f"--batches={arguments.batches}"),
        arguments.json,
    )


if __name__ == "__main__":
    main()
