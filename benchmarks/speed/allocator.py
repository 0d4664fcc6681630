"""Training and encoding with the memory allocator that the library selects, against TensorFlow's default.

    python -m benchmarks.speed.allocator            # two minutes

The default returns the memory of freed tensors to the operating system. How long the system takes to provide it again
depends on its version and settings, such as huge pages. Processes with one or the other allocator take turns. Each
measures a training step of 32 images and the forward pass of 256 images, 64x64x3 with encodings of 16x16x32, and the
pages that the system had to provide. The ratios are those of the best rounds.
"""

import json
import os
import resource

import numpy as np
import tensorflow as tf

from benchmarks.harness import table
from benchmarks.harness.clocks import best_times
from benchmarks.harness.designs import as_if_trained, reconstruction, stack_for
from benchmarks.harness.process import in_a_process
from stacked_autoencoder.utils.allocator import USE

CODE = "16x16x32"
TRAINED, ENCODED = 32, 256  # images per batch


def measure(rounds: int) -> dict[str, float]:
    """Seconds of a training step and of the forward pass, and pages per training step, in this process."""
    images = np.random.default_rng(0).uniform(-1, 1, (ENCODED, 64, 64, 3)).astype(np.float32)
    sae = stack_for(CODE)
    sae.train(images[:TRAINED], epochs=0, verbose=0)
    as_if_trained(sae)
    batch = tf.constant(images[:TRAINED])
    step = tf.function(reconstruction(sae.levels, images[:TRAINED]).train_step)
    jobs = {"training step": lambda: step((batch, batch)), "encoding": lambda: sae.levels[0].encode(images)}
    times = best_times(jobs, rounds)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        step((batch, batch))
    return times | {"pages": (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / rounds}


def compare_allocators(processes: int, rounds: int) -> dict[str, float]:
    """Figures of both allocators, from `processes` processes each."""
    found: dict[str, list[dict]] = {"0": [], "1": []}
    chosen = os.environ.get(USE)
    for _ in range(processes):
        for use, results in found.items():
            os.environ[USE] = use
            results.append(in_a_process("benchmarks.speed.allocator", "--in-this-process", f"--rounds={rounds}"))
    os.environ[USE] = chosen or "1"
    best = {use: {key: min(each[key] for each in results) for key in results[0]} for use, results in found.items()}
    figures = {
        f"{job}: speed / speed with TensorFlow's default": best["0"][job] / best["1"][job]
        for job in ("training step", "encoding")
    }
    figures["pages from the system per training step, with TensorFlow's default"] = best["0"]["pages"]
    return figures | {"pages from the system per training step": best["1"]["pages"]}


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = table.parser(__doc__)
    parser.add_argument("--processes", type=int, default=3, help="processes of each allocator")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--in-this-process", action="store_true", help="measure only the allocator of this process")
    arguments = parser.parse_args(argv)
    if arguments.in_this_process:
        result = measure(arguments.rounds)
        print(json.dumps(result))
        return result
    return table.figures(compare_allocators(arguments.processes, arguments.rounds), arguments.json)


if __name__ == "__main__":
    main()
