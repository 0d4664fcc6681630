"""What stacking saves: the steps of higher levels, greedy against joint training, and loading the stack.

    python -m benchmarks.levels                            # three levels on 128x128x3: a quarter of an hour
    python -m benchmarks.levels --only steps load

*steps*: training steps of three levels of equal width, each of factor 4. *greedy*: three levels to 8x8x32, one after
the other, each for `--epochs`, with the encoding in between; and the same stack from the same start, all levels at
once, until its loss on other photographs is as low, or it has had three times as long. *load*: `Autoencoder.load` in a
process that has imported TensorFlow, and once more.
"""

import json
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from benchmarks import data, table
from benchmarks.clocks import Curve, TimeLimit, step_times
from benchmarks.ours import BATCH, reconstruction
from benchmarks.process import in_a_process
from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.optimizer import PEAK_LEARNING_RATE
from stacked_autoencoder.sources.base import scaled

HALVINGS = (2, 1, 1)  # of the stack that is trained: 128x128x3 to 8x8x32
PATIENCE = 3.0  # times as long as greedy training, for joint training to get there


def compare_steps(side: int, size: int, batch_size: int, rounds: int) -> list[dict]:
    sae = Autoencoder(shape=(side, side, 3), levels=[ConvLevel(32, 2, size) for _ in range(3)])
    images = data.training_crops(batch_size, side=side)
    sae.train(images, epochs=0, verbose=0)
    inputs = [scaled(images), *(sae.encode(images, level=level) for level in (0, 1))]
    times = []
    for level, seen in zip(sae.levels, inputs, strict=True):  # each by itself: larger ones would empty the caches
        alone = Autoencoder(shape=level.input_shape, levels=[ConvLevel(32, 2, size)], check_range=False)
        alone.train(np.asarray(seen), epochs=0, verbose=0)
        times.append(step_times({"step": reconstruction(alone, np.asarray(seen))}, seen, rounds, steps=4)["step"])
    return [
        {"part": "steps", "what": f"level {index}", "ms": 1000 * taken, "times": times[0] / taken}
        for index, taken in enumerate(times)
    ]


def stack(side: int, size: int) -> Autoencoder:
    keras.utils.set_random_seed(0)
    return Autoencoder(shape=(side, side, 3), levels=[ConvLevel(32, halvings, size) for halvings in HALVINGS])


def compare_greedy_with_joint(side: int, size: int, count: int, epochs: int) -> list[dict]:
    images = data.training_crops(count, side=side)
    valid = data.validation_crops(max(count // 16, 8), side)
    began, greedy = time.perf_counter(), stack(side, size)
    greedy.train(images, epochs=epochs, validation_data=valid, batch_size=BATCH, verbose=0)
    taken, loss = time.perf_counter() - began, greedy.evaluate(valid)
    joint, curve, limit = stack(side, size), Curve(), TimeLimit(PATIENCE * taken)
    joint.train(images, epochs=0, verbose=0)  # the same start
    joint.fine_tune(
        images,
        epochs=round(PATIENCE * len(HALVINGS) * epochs),
        steps_per_epoch=max(count // BATCH // 4, 1),
        validation_data=valid,
        batch_size=BATCH,
        learning_rate=PEAK_LEARNING_RATE,
        callbacks=[curve, limit, StopAt(loss)],
        verbose=0,
    )
    last = curve.rows[-1]
    is_there = last["loss"] <= loss
    return [
        {"part": "greedy", "what": "greedy", "seconds": taken, "loss": loss},
        {"part": "greedy", "what": "joint", "curve": curve.rows, "there": is_there}
        | last
        | {"of": taken / last["seconds"]},
    ]


class StopAt(keras.callbacks.Callback):
    """Ends training at a validation loss."""

    def __init__(self, loss: float) -> None:
        super().__init__()
        self.loss = loss

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.model.stop_training = self.model.stop_training or logs["val_loss"] <= self.loss


def load_times(side: int, size: int) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        sae = stack(side, size)
        sae.train(data.training_crops(64, side=side), epochs=0, verbose=0)
        sae.save(Path(folder) / "model")
        times = in_a_process("benchmarks.levels", "--load", str(Path(folder) / "model"))
    return [{"part": "load", "what": what, "seconds": seconds} for what, seconds in times.items()]


def time_loading(path: str) -> dict[str, float]:
    times = {}
    for what in ("first", "again"):
        began = time.perf_counter()
        Autoencoder.load(path)
        times[what] = time.perf_counter() - began
    return times


def show(row: dict) -> None:
    cells = {"ms": "{:.2f} ms", "times": "{:.1f} times cheaper", "seconds": "{:.2f} s", "loss": "loss {:.3e}"}
    cells["of"] = "greedy takes {:.2f} of that"
    told = ", ".join(text.format(row[name]) for name, text in cells.items() if name in row)
    print(f"{row['part']:8}{row['what']:9}{told}{'' if row.get('there', True) else '; it never got there'}", flush=True)


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parts = ["steps", "greedy", "load"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--size", type=int, default=64, help="width of the networks")
    parser.add_argument("--batch-size", type=int, default=64, help="of the steps that are timed")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--count", type=int, default=6000, help="of crops to train on")
    parser.add_argument("--epochs", type=int, default=3, help="of each level")
    parser.add_argument("--load", help="what a process of its own loads")
    arguments = parser.parse_args(argv)
    if arguments.load:
        print(json.dumps(time_loading(arguments.load)))
        return []
    side, size, rows = arguments.side, arguments.size, []
    if "steps" in arguments.only:
        rows += compare_steps(side, size, arguments.batch_size, arguments.rounds)
    if "greedy" in arguments.only:
        rows += compare_greedy_with_joint(side, size, arguments.count, arguments.epochs)
    if "load" in arguments.only:
        rows += load_times(side, size)
    for row in rows:
        show(row)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
