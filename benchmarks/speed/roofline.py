"""Speed of levels as a share of the machine's speed, and their time by kind of operation.

    python -m benchmarks.speed.roofline                          # 64x64x3 at `size=64`, steps of 64 images: a minute
    python -m benchmarks.speed.roofline --codes 8x8x32 --batch-size 32

The machine rate is that of a single-precision product of two 2048x2048 matrices. All jobs take turns, and the best
round counts. A training step is the function that `train` compiles: forward, backward and Muon. Encoding and
reconstruction ("there and back") take 256 images at once, as `encode` does. Columns:

- share: operations per second of convolutions and dense layers, divided by the machine rate.
- PyTorch: time of the same network in PyTorch divided by our time (channels-last, fused Adam; needs
  `pip install ".[bench]"`).
- the last columns: time by kind of operation, from TensorFlow's profiler.
"""

import importlib.util
from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from benchmarks.harness import data, profiling, table
from benchmarks.harness.clocks import best_of, in_turns, quartiles
from benchmarks.harness.designs import CODES, level_for, reconstruction
from benchmarks.harness.operations import MATRIX, forward_operations, training_operations
from stacked_autoencoder import Autoencoder
from stacked_autoencoder.layers.patches import patch_by_patch
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.inference import compiled
from stacked_autoencoder.levels.stack import BATCH
from stacked_autoencoder.utils.images import scaled

WHAT = ("encoding", "there and back", "training step")


def compare_with_machine(code: str, images: np.ndarray, batch_size: int, rounds: int) -> list[dict]:
    """Rows for one level: times, shares of the machine rate, shares of each kind of operation, times in PyTorch."""
    keras.utils.set_random_seed(0)
    sae, whole = Autoencoder(shape=images.shape[1:], levels=[level_for(code)]), scaled(images)
    sae.train(images, epochs=0, verbose=0)
    level, step = sae.levels[0], tf.function(reconstruction(sae.levels, images).train_step)
    batch = whole[:batch_size]
    there_and_back = keras.Sequential([level.encoder, patch_by_patch(level.decoder)])
    matrix = tf.random.normal((MATRIX, MATRIX), seed=0)
    ours: dict[str, Callable[[], object]] = {
        "encoding": partial(compiled(level.encoder), whole),
        "there and back": partial(compiled(there_and_back), whole),
        "training step": partial(step, (batch, batch)),
    }
    torchs = twin_jobs(level, whole.numpy(), batch.numpy())
    jobs = (
        {"matrix": lambda: tf.matmul(matrix, matrix).numpy()}
        | ours
        | {f"twin {name}": job for name, job in torchs.items()}
    )
    turns = in_turns(jobs, rounds)
    times = best_of(turns)
    rate = 2 * MATRIX**3 / times["matrix"]
    forward = forward_operations(level.encoder), forward_operations(level.decoder)
    operations = dict(zip(WHAT, (forward[0], sum(forward), training_operations(level)), strict=True))
    rows = []
    for what, job in ours.items():
        count = batch_size if what == "training step" else len(images)
        row = {"code": code, "batch": count, "what": what, "us_per_image": 1e6 * times[what] / count}
        lower, median, upper = (1e6 * seconds / count for seconds in quartiles(turns[what]))
        row |= {"median_us": median, "half_within_us": [lower, upper]}
        row |= {"share": operations[what] * count / times[what] / rate, "gigaflops": rate / 1e9}
        if what in torchs:
            row["twin"] = times[f"twin {what}"] / times[what]
        rows.append(row | profiling.shares(job))
    return rows


def twin_jobs(level: Level, images: np.ndarray, batch: np.ndarray) -> dict[str, Callable[[], object]]:
    """Jobs with the same network in PyTorch, if it is installed."""
    if importlib.util.find_spec("torch") is None:
        return {}
    from benchmarks.harness import torch_twin

    step = torch_twin.training(torch_twin.twin(level), learning_rate=1e-6)
    return {"encoding": torch_twin.encoding(torch_twin.twin(level), images), "training step": partial(step, batch)}


def show(rows: list[dict]) -> None:
    print(
        f"\n{'encoding':9}{'batch':>6}  {'job':16}{'us/image':>9}{'median':>8}{'share':>7}{'PyTorch':>9}"
        + "".join(f"{kind:>13}" for kind in profiling.KINDS)
    )
    for row in rows:
        twin = f"{row['twin']:9.2f}" if "twin" in row else " " * 9
        kinds = "".join(f"{row[kind]:13.0%}" for kind in profiling.KINDS)
        about = f"{row['code']:9}{row['batch']:6}  {row['what']:16}"
        print(f"{about}{row['us_per_image']:9.0f}{row['median_us']:8.0f}{row['share']:7.2f}{twin}{kinds}")


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--codes", nargs="+", choices=list(CODES), default=list(CODES))
    parser.add_argument("--batch-size", type=int, default=64, help="batch size of a training step")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args(argv)
    rows, images = [], data.training_crops(max(BATCH, arguments.batch_size))
    for code in arguments.codes:
        rows += compare_with_machine(code, images, arguments.batch_size, arguments.rounds)
        show(rows[-len(WHAT) :])
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
