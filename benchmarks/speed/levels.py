"""Training steps of the levels of a stack, and the time to load a stack.

    python -m benchmarks.speed.levels                            # three levels on 128x128x3: two minutes
    python -m benchmarks.speed.levels --only load

*steps* measures training steps of three levels with equal width and a factor of 4 each. *load* measures
`Autoencoder.load` of a stack from 128x128x3 to 8x8x32, twice in a process that has imported TensorFlow.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import data, table
from benchmarks.harness.clocks import step_times
from benchmarks.harness.designs import greedy_stack, reconstruction
from benchmarks.harness.process import in_a_process
from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.utils.images import scaled


def compare_steps(side: int, size: int, batch_size: int, rounds: int) -> list[dict]:
    sae = Autoencoder(shape=(side, side, 3), levels=[ConvLevel(32, 2, size) for _ in range(3)])
    images = data.training_crops(batch_size, side=side)
    sae.train(images, epochs=0, verbose=0)
    inputs = [scaled(images), *(sae.encode(images, level=level) for level in (0, 1))]
    times = []
    for level, seen in zip(sae.levels, inputs, strict=True):  # separately, because other levels would empty the caches
        alone = Autoencoder(shape=level.input_shape, levels=[ConvLevel(32, 2, size)], check_range=False)
        alone.train(np.asarray(seen), epochs=0, verbose=0)
        times.append(
            step_times({"step": reconstruction(alone.levels, np.asarray(seen))}, seen, rounds, steps=4)["step"]
        )
    return [
        {"part": "steps", "what": f"level {index}", "ms": 1000 * taken, "times": times[0] / taken}
        for index, taken in enumerate(times)
    ]


def load_times(side: int, size: int) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        sae = greedy_stack(side, size)
        sae.train(data.training_crops(64, side=side), epochs=0, verbose=0)
        sae.save(Path(folder) / "model")
        times = in_a_process("benchmarks.speed.levels", "--load", str(Path(folder) / "model"))
    return [{"part": "load", "what": what, "seconds": seconds} for what, seconds in times.items()]


def time_loading(path: str) -> dict[str, float]:
    times = {}
    for what in ("first", "again"):
        began = time.perf_counter()
        Autoencoder.load(path)
        times[what] = time.perf_counter() - began
    return times


def show(row: dict) -> None:
    step = "seconds" not in row
    text = f"{row['ms']:.2f} ms, {row['times']:.1f} times faster than level 0" if step else f"{row['seconds']:.2f} s"
    print(f"{row['part']:8}{row['what']:9}{text}", flush=True)


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parts = ["steps", "load"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--size", type=int, default=64, help="width of the networks")
    parser.add_argument("--batch-size", type=int, default=64, help="batch size of the measured steps")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--load", help="path that a child process loads")
    arguments = parser.parse_args(argv)
    if arguments.load:
        print(json.dumps(time_loading(arguments.load)))
        return []
    side, size, rows = arguments.side, arguments.size, []
    if "steps" in arguments.only:
        rows += compare_steps(side, size, arguments.batch_size, arguments.rounds)
    if "load" in arguments.only:
        rows += load_times(side, size)
    for row in rows:
        show(row)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
