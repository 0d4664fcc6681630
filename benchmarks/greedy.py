"""Greedy training, level by level, against joint training of the same stack, to the same loss.

    python -m benchmarks.greedy                            # 128x128x3 to 8x8x32 by three levels: eight minutes
    python -m benchmarks.greedy --epochs 3 3 3

Each level trains for its `--epochs`, with the encoding in between. Level 0 keeps its start by default: an epoch of it
costs as much as seven of level 1 or fifty of level 2, and least is lost in it. And the same stack from the same start,
all levels at once, until its loss on other photographs is as low, or it has had 1.7 times as long; its learning rate
falls by that clock.
"""

import time

import keras

from benchmarks import data, table
from benchmarks.clocks import Curve, OverTime, TimeLimit
from benchmarks.ours import BATCH
from stacked_autoencoder import Autoencoder, ConvLevel

HALVINGS = (2, 1, 1)  # of the stack that is trained: 128x128x3 to 8x8x32
PATIENCE = 1 / 0.6  # times as long as greedy training, for joint training to get there


def stack(side: int, size: int) -> Autoencoder:
    keras.utils.set_random_seed(0)
    return Autoencoder(shape=(side, side, 3), levels=[ConvLevel(32, halvings, size) for halvings in HALVINGS])


def compare_greedy_with_joint(side: int, size: int, count: int, epochs: list[int]) -> list[dict]:
    images = data.training_crops(count, side=side)
    valid = data.validation_crops(max(count // 16, 8), side)
    began, greedy = time.perf_counter(), stack(side, size)
    greedy.train(images, epochs=epochs, validation_data=valid, batch_size=BATCH, verbose=0)
    taken, loss = time.perf_counter() - began, greedy.evaluate(valid)
    joint, curve, limit = stack(side, size), Curve(), TimeLimit(PATIENCE * taken)
    joint.train(images, epochs=0, verbose=0)  # the same start
    joint.fine_tune(
        images,
        epochs=10_000,  # until one of the two ends it
        steps_per_epoch=max(count // BATCH // 4, 1),
        validation_data=valid,
        batch_size=BATCH,
        learning_rate=OverTime(limit),
        callbacks=[curve, limit, StopAt(loss)],
        verbose=0,
    )
    last = curve.rows[-1]
    is_there = last["loss"] <= loss
    joint_row = {"what": "joint", "curve": curve.rows, "there": is_there} | last
    return [{"what": "greedy", "seconds": taken, "loss": loss}, joint_row | {"of": taken / last["seconds"]}]


class StopAt(keras.callbacks.Callback):
    """Ends training at a validation loss."""

    def __init__(self, loss: float) -> None:
        super().__init__()
        self.loss = loss

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.model.stop_training = self.model.stop_training or logs["val_loss"] <= self.loss


def show(row: dict) -> None:
    told = f"{row['what']:8}{row['seconds']:8.0f} s, loss {row['loss']:.3e}"
    if "of" in row:
        told += f", greedy takes {row['of']:.2f} of that" + ("" if row["there"] else "; it never got there")
    print(told, flush=True)


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--size", type=int, default=64, help="width of the networks")
    parser.add_argument("--count", type=int, default=6000, help="of crops to train on")
    parser.add_argument("--epochs", type=int, nargs=3, default=[0, 2, 12], help="of the levels, one after the other")
    arguments = parser.parse_args(argv)
    rows = compare_greedy_with_joint(arguments.side, arguments.size, arguments.count, arguments.epochs)
    for row in rows:
        show(row)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
