"""What `train` adds to the bare compiled training step, and how soon it takes the first.

    python -m benchmarks.speed.fit                            # three minutes
    python -m benchmarks.speed.fit --codes 4x4x32 --batch-size 16

64x64x3, `size=64`. *Of the step* is the time of a step within `train`, input and metrics and all, over that of the bare
compiled step on one batch that is in memory already, taken in turns; the median of the ratios. *An epoch* is the same
with what follows its steps: there are no validation data, so a sample of the images decides which weights are kept.
*Begins after* are the seconds from the call of `train` to the end of its first steps: the start in closed form, and
tracing.
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
    """A row: the first call of `train`, which traces, and then rounds of `train` and the bare step."""
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
        bare = step_times({"bare": reconstruction(sae, batch)}, scaled(batch), rounds=3, steps=steps)["bare"]
        ratios.append(min(clock.epochs[1:]) / steps / bare)  # the first epoch also compiles
        epochs.append(min(clock.whole_epochs[1:]) / steps / bare)
    row = {"code": code, "batch": batch_size, "ratio": statistics.median(ratios), "epoch": statistics.median(epochs)}
    return row | {"step_ms": 1000 * bare, "spread": max(ratios) - min(ratios), "steps": steps, "begins": begins}


def show(rows: list[dict]) -> None:
    print(f"\n{'code':9}{'batch':>6}{'step':>11}{'of the step':>13}{'spread':>8}{'an epoch':>10}{'begins after':>14}")
    for row in rows:
        times = f"{row['step_ms']:8.1f} ms{row['ratio']:13.2f}{row['spread']:8.2f}"
        times += f"{row['epoch']:10.2f}{row['begins']:12.1f} s"
        print(f"{row['code']:9}{row['batch']:6}{times}")


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--codes", nargs="+", choices=list(CODES), default=["8x8x32"])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=32, help="in an epoch")
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
