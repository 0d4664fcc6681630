"""Overhead of `train` over bare compiled training steps, and the time to its first steps.

    python -m benchmarks.speed.fit                            # three minutes
    python -m benchmarks.speed.fit --codes 4x4x32 --batch-size 16

64x64x3 images, `size=64`. Columns:

- step in train: time of a step in `train`, with input and metrics, divided by that of the bare compiled step on a batch
  in memory. Both take turns; the value is the median of the ratios.
- epoch: the same for a whole epoch, with validation on a sample of the training images at its end.
- first steps: seconds from the call of `train` to the end of its first steps, with initialisation and tracing.
"""

import statistics
import time

import keras

from benchmarks.harness import data, table
from benchmarks.harness.clocks import step_times
from benchmarks.harness.designs import CODES, level_for, reconstruction
from examples.stopwatch import Clock
from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.utils.images import scaled


def compare(code: str, level: ConvLevel, batch_size: int, rounds: int, steps: int) -> dict:
    """A row from a first call of `train`, which traces, and rounds of `train` and the bare step."""
    keras.utils.set_random_seed(0)
    images = data.training_crops(steps * batch_size)
    sae, clock = Autoencoder(shape=images.shape[1:], levels=[level]), Clock()
    ratios, epochs = [], []
    began = time.perf_counter()
    sae.train(images, epochs=1, batch_size=batch_size, verbose=0, callbacks=[clock])
    begins = clock.first - began
    for _ in range(rounds):
        sae.train(images, epochs=4, batch_size=batch_size, verbose=0, callbacks=[clock])
        batch = images[:batch_size]
        bare = step_times({"bare": reconstruction(sae.levels, batch)}, scaled(batch), rounds=3, steps=steps)["bare"]
        ratios.append(min(clock.epochs[1:]) / steps / bare)  # the first epoch also compiles
        epochs.append(min(clock.whole_epochs[1:]) / steps / bare)
    row = {"code": code, "batch": batch_size, "ratio": statistics.median(ratios), "epoch": statistics.median(epochs)}
    return row | {"step_ms": 1000 * bare, "spread": max(ratios) - min(ratios), "steps": steps, "begins": begins}


def show(rows: list[dict]) -> None:
    print(
        f"\n{'encoding':9}{'batch':>6}{'bare step':>11}{'step in train':>15}{'spread':>8}"
        f"{'epoch':>8}{'first steps':>13}"
    )
    for row in rows:
        times = f"{row['step_ms']:8.1f} ms{row['ratio']:15.2f}{row['spread']:8.2f}"
        times += f"{row['epoch']:8.2f}{row['begins']:11.1f} s"
        print(f"{row['code']:9}{row['batch']:6}{times}")


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--codes", nargs="+", choices=list(CODES), default=["8x8x32"])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=32, help="steps per epoch")
    arguments = parser.parse_args(argv)
    rows = [
        compare(code, level_for(code), batch_size, arguments.rounds, arguments.steps)
        for code in arguments.codes
        for batch_size in arguments.batch_size
    ]
    show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
