"""Greedy training, level by level, against joint training of the same stack, to the same loss.

    python -m benchmarks.speed.greedy                     # 128x128x3 to 8x8x32 by three levels: a quarter of an hour
    python -m benchmarks.speed.greedy --epochs 3,3,3

Greedy training trains each level for its `--epochs`; the time includes encoding between the levels. By default level 0
keeps its closed-form initialisation, because its epochs are the most expensive and it causes the least loss. Joint
training trains all levels of the same stack from the same initialisation, until its validation loss is as low or it has
taken 1.7 times as long. Its learning rate falls over that time. Each greedy loss is compared with the joint training
that reached it first. The time is interpolated between validations, of which there are eight per epoch.
"""

import time

import keras

from benchmarks.harness import data, table
from benchmarks.harness.clocks import Curve, OverTime, TimeLimit, reached_after
from benchmarks.harness.designs import BATCH, greedy_stack

SCHEDULES = [[0, 0, 1], [0, 0, 4], [0, 2, 12]]
VALIDATIONS_PER_EPOCH = 8  # of joint training
PATIENCE = 1 / 0.6  # time limit of joint training, as a multiple of the time of greedy training


def compare_greedy_with_joint(side: int, size: int, count: int, schedules: list[list[int]]) -> list[dict]:
    images = data.training_crops(count, side=side)
    valid = data.validation_crops(max(count // 16, 8), side)
    rows = []
    for epochs in schedules:
        began, greedy = time.perf_counter(), greedy_stack(side, size)
        greedy.train(images, epochs=epochs, validation_data=valid, batch_size=BATCH, verbose=0)
        taken, loss = time.perf_counter() - began, greedy.evaluate(valid)
        joint, curve, limit = greedy_stack(side, size), Curve(), TimeLimit(PATIENCE * taken)
        joint.train(images, epochs=0, verbose=0)  # the same initialisation
        history = joint.fine_tune(
            images,
            epochs=10_000,  # until a callback stops it
            steps_per_epoch=max(count // BATCH // VALIDATIONS_PER_EPOCH, 1),
            validation_data=valid,
            batch_size=BATCH,
            learning_rate=OverTime(limit),
            callbacks=[curve, limit, StopAt(loss)],
            verbose=0,
        )
        found = [{"seconds": curve.start, "loss": history.start_loss}, *curve.rows]
        print(f"epochs {epochs}: {taken:.0f} s to a loss of {loss:.3e}", flush=True)
        point = {"seconds": taken, "loss": loss}
        rows.append({"what": f"greedy, epochs {epochs}", "epochs": epochs, "curve": [point]} | point)
        rows.append({"what": f"joint, at most {limit.seconds:.0f} s", "curve": found})
    return with_joint_times(rows)


def with_joint_times(rows: list[dict]) -> list[dict]:
    """Adds the time of the joint training that reached each loss first."""
    curves = [row["curve"] for row in rows if "epochs" not in row]
    longest = max(curve[-1]["seconds"] for curve in curves)
    for row in rows:
        if "epochs" in row:
            times = [reached_after(curve, row["loss"], "loss") for curve in curves]
            there = min((time for time in times if time is not None), default=None)
            row |= {"joint": there, "of": row["seconds"] / (longest if there is None else there)}
    return rows


class StopAt(keras.callbacks.Callback):
    """Stops training at a validation loss."""

    def __init__(self, loss: float) -> None:
        super().__init__()
        self.loss = loss

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.model.stop_training = self.model.stop_training or logs["val_loss"] <= self.loss


def show(row: dict) -> None:
    joint = "joint training did not" if row["joint"] is None else f"joint training in {row['joint']:.0f} s"
    print(
        f"epochs {row['epochs']}: greedy training reaches a loss of {row['loss']:.3e} in {row['seconds']:.0f} s, "
        f"{joint}; greedy time / joint time: {row['of']:.2f}",
        flush=True,
    )


def schedule(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--size", type=int, default=64, help="width of the networks")
    parser.add_argument("--count", type=int, default=6000, help="number of training crops")
    parser.add_argument(
        "--epochs", type=schedule, nargs="+", default=SCHEDULES, help="epochs of each level, such as 0,2,12"
    )
    arguments = parser.parse_args(argv)
    rows = compare_greedy_with_joint(arguments.side, arguments.size, arguments.count, arguments.epochs)
    for row in rows:
        if "epochs" in row:
            show(row)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
