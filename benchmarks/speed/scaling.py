"""Cost of training and encoding for different image sides, features, widths, levels, numbers of images and threads.

    python -m benchmarks.speed.scaling                         # ten minutes
    python -m benchmarks.speed.scaling --only threads --rounds 20

Each setting has the time per image of a training step and of encoding, the number of operations and bytes, and the
share of the rate of a large matrix product. One quantity changes at a time. The rest is one level from 64x64x3 to
16x16x32, `size=64`, and batches of 64 images (or the same number of pixels). *images* measures `encode_to` with reading
and writing. *threads* sets the number of TensorFlow threads, in separate processes.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.harness import data, table
from benchmarks.harness.clocks import best_times, step_times
from benchmarks.harness.designs import as_if_trained, reconstruction
from benchmarks.harness.operations import MATRIX, forward_bytes, forward_operations, training_bytes, training_operations
from benchmarks.harness.process import in_a_process
from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.utils.images import scaled

PIXELS = 64 * 64 * 64  # per batch


def measure(level: ConvLevel, side: int, rounds: int) -> dict:
    """Times and counts of one level on images of this side."""
    keras.utils.set_random_seed(0)
    images = data.training_crops(max(PIXELS // side**2, 1), side=side)
    sae, batch = Autoencoder(shape=(side, side, 3), levels=[level]), scaled(images)
    sae.train(images, epochs=0, verbose=0)
    as_if_trained(sae)
    matrix = tf.random.normal((MATRIX, MATRIX), seed=0)
    jobs = {"matrix": lambda: tf.matmul(matrix, matrix).numpy(), "encode": partial(level.encode, batch)}
    times = best_times(jobs, rounds) | step_times({"train": reconstruction(sae.levels, images)}, batch, rounds)
    rate, count = 2 * MATRIX**3 / times["matrix"], len(images)
    operations = {"train": training_operations(level), "encode": forward_operations(level.encoder)}
    moved = {"train": training_bytes(level), "encode": forward_bytes(level.encoder)}
    row = {"batch": count, "weights": level.count_params(), "gigaflops": rate / 1e9}
    for what in ("train", "encode"):
        row |= {f"{what}_us": 1e6 * times[what] / count, f"{what}_megaflop": operations[what] / 1e6}
        row |= {f"{what}_megabytes": moved[what] / 1e6, f"{what}_share": operations[what] * count / times[what] / rate}
    return row


def over_side(sides: Sequence[int], rounds: int) -> list[dict]:
    return [{"axis": "side", "value": side} | measure(ConvLevel(32, 2), side, rounds) for side in sides]


def over_n_out(rounds: int) -> list[dict]:
    return [{"axis": "n_out", "value": n_out} | measure(ConvLevel(n_out, 2), 64, rounds) for n_out in (8, 32, 128)]


def over_size(rounds: int) -> list[dict]:
    return [{"axis": "size", "value": size} | measure(ConvLevel(32, 2, size), 64, rounds) for size in (32, 64, 128)]


def over_levels(rounds: int) -> list[dict]:
    """Stacks of one, two and three levels: the sum of the costs of their levels."""
    sae, images = Autoencoder(shape=(64, 64, 3), n_levels=3), data.training_crops(64)
    sae.train(images, epochs=0, verbose=0)
    as_if_trained(sae)
    inputs = [scaled(images), *(tf.constant(sae.encode(images, level=index)) for index in (0, 1))]
    rows, train, encode = [], 0.0, 0.0
    for index, (level, seen) in enumerate(zip(sae.levels, inputs, strict=True)):
        alone = Autoencoder(shape=level.input_shape, check_range=False)
        alone.train(seen.numpy(), epochs=0, verbose=0)
        times = best_times({"encode": partial(level.encode, seen)}, rounds)
        times |= step_times({"train": reconstruction(alone.levels, seen.numpy())}, seen, rounds)
        train, encode = train + times["train"], encode + times["encode"]
        row = {"axis": "levels", "value": index + 1, "batch": len(images)}
        rows.append(row | {"train_us": 1e6 * train / len(images), "encode_us": 1e6 * encode / len(images)})
    return rows


def over_images(counts: Sequence[int], rounds: int) -> list[dict]:
    """`encode_to` with different numbers of images."""
    images = data.training_crops(max(counts))
    sae = Autoencoder(shape=(64, 64, 3))
    sae.train(images[:1024], epochs=0, verbose=0)
    as_if_trained(sae)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"

        def job(count: int) -> Callable[[], None]:
            def encode() -> None:
                sae.encode_to(store, images[:count], verbose=0)
                shutil.rmtree(store)

            return encode

        times = best_times({str(count): job(count) for count in counts}, rounds)
    return [{"axis": "images", "value": count, "encode_us": 1e6 * times[str(count)] / count} for count in counts]


def over_threads(counts: Sequence[int], rounds: int) -> list[dict]:
    module = "benchmarks.speed.scaling"
    return [in_a_process(module, f"--threads={count}", f"--rounds={rounds}") for count in counts]


def with_threads(count: int, rounds: int) -> dict:
    """Measures in a process that has not used TensorFlow before."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)
    return {"axis": "threads", "value": count} | measure(ConvLevel(32, 2), 64, rounds)


def show(rows: list[dict]) -> None:
    print("\nmicroseconds per image, and share of the machine rate")
    print(f"{'quantity':10}{'value':>7}{'training':>10}{'share':>7}{'encoding':>10}{'share':>7}")
    for row in rows:
        cells = [f"{row['axis']:10}{row['value']:7}"]
        for what in ("train", "encode"):
            cells.append(f"{row[f'{what}_us']:10.1f}" if f"{what}_us" in row else " " * 10)
            cells.append(f"{row[f'{what}_share']:7.2f}" if f"{what}_share" in row else " " * 7)
        print("".join(cells).rstrip())


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    axes = {
        "side": lambda chosen: over_side(chosen.sides, chosen.rounds),
        "n_out": lambda chosen: over_n_out(chosen.rounds),
        "size": lambda chosen: over_size(chosen.rounds),
        "levels": lambda chosen: over_levels(chosen.rounds),
        "images": lambda chosen: over_images(chosen.images, chosen.rounds // 3 or 1),
        "threads": lambda chosen: over_threads((1, 2), chosen.rounds),
    }
    parser.add_argument("--only", nargs="+", choices=list(axes), default=list(axes))
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 4000, 16_000])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)  # for a child process
    arguments = parser.parse_args(argv)
    if arguments.threads is not None:
        rows = [with_threads(arguments.threads, arguments.rounds)]
        print(json.dumps(rows[0]))
        return rows
    rows = []
    for axis in arguments.only:
        rows += axes[axis](arguments)
    show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
