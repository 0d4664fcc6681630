"""Heads on encodings against the same heads on pixels: what each draws after as many minutes, under one judge.

    python -m benchmarks.quality.heads                                     # all of them, five minutes each, an hour
    python -m benchmarks.quality.heads --only Flow --minutes 10 --enlarge 2
    python -m benchmarks.quality.heads --only Flow --minutes 2 --code 7x7x8 14x14x2

Fashion-MNIST, `--enlarge` times 28 pixels wide; encodings are 7x7x8, or 14x14x2 of a flow, and what a head draws of
them is decoded. The judge is a classifier of real images, trained beforehand: *Fréchet* is the distance of its features
from those of test images, *spread* how much they differ, of how much test images do. Each head trains in a process of
its own, for its peak memory (with the data), and its clock stops while it is judged. *equal* is the time until it is as
near as the same head on pixels in the end; *step* the median of all steps. The time that the autoencoder takes is a row
of its own.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import keras
import numpy as np

from benchmarks.harness import table
from benchmarks.harness.clocks import reached_after
from benchmarks.harness.process import in_a_process, peak_megabytes
from examples import clothes
from examples.judge import BATCH, Judge, gaussian, train_autoencoder, train_judge
from stacked_autoencoder import heads

EPOCHS = 2  # of the autoencoder
LOOKS = 4  # at what is drawn: after half of the time, a quarter of it, and so on
HEADS = {"VAE": {}, "WGAN": {}, "BEGAN": {}, "Flow": {"n_classes": 10}}
CODES = {"7x7x8": ("VAE", "WGAN", "BEGAN"), "14x14x2": ("Flow",)}  # as many values each
COLUMNS = {"step_ms": "step ms", "steps": "steps", "seconds": "seconds", "equal": "equal", "frechet": "Fréchet"}
COLUMNS |= {"spread": "spread", "asked": "asked", "megabytes": "MB"}
THROUGH, THROUGH_DECODER = ", errors in images", ("VAE", "BEGAN")


class Looks(keras.callbacks.Callback):
    """Judges what a head draws after so many seconds of training, and ends it after the last of them.

    Attributes:
        curve: a row for each look.
        steps: seconds of each training step.
    """

    def __init__(self, seconds: list[float], look: Callable[[keras.Model], dict[str, float]]) -> None:
        super().__init__()
        self.due, self.look = list(seconds), look
        self.curve: list[dict[str, float]] = []
        self.steps: list[float] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.last, self.elapsed = time.perf_counter(), 0.0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.steps.append(time.perf_counter() - self.last)
        self.elapsed += self.steps[-1]
        if self.elapsed >= self.due[0]:
            self.curve.append({"seconds": self.elapsed, "steps": len(self.steps)} | self.look(self.model))
            self.due.pop(0)
            self.model.stop_training = not self.due
        self.last = time.perf_counter()


def prepare(folder: Path, data: clothes.Data) -> Judge:
    """Writes what all trainings read."""
    net = train_judge(data.images, data.labels)
    net.save(folder / "judge.keras")
    np.save(folder / "pixels.npy", data.images)
    np.save(folder / "labels.npy", data.labels.astype(np.int32))
    np.savez(folder / "test.npz", images=data.test_images, labels=data.test_labels)
    return Judge(net, data.test_images, data.test_labels)


def encode(folder: Path, data: clothes.Data, code: str, judge: Judge, samples: int) -> list[dict]:
    """Writes encodings and their decoder; rows of what heads on them are compared with."""
    side, _, n_out = map(int, code.split("x"))
    sae, seconds = train_autoencoder(data.images, data.valid_images, EPOCHS, side, n_out)
    sae.save(folder / code)
    encodings = sae.encode(data.images)
    np.save(folder / f"{code}.npy", encodings)
    restored = judge.row(sae.reconstruct(data.test_images[:samples]))
    drawn = judge.row(sae.decode(gaussian(encodings, samples)))
    return [
        {"head": "", "on": f"{code}: the autoencoder itself", "seconds": seconds} | restored,
        {"head": "", "on": f"{code}: one Gaussian"} | drawn,
    ]


def train(folder: Path, name: str, on: str, seconds: float, samples: int) -> dict:
    """Trains one head: what this process is for."""
    source, is_through_decoder = on.removesuffix(THROUGH), on.endswith(THROUGH)
    values = np.load(folder / f"{source}.npy")
    decoder = None if source == "pixels" else keras.saving.load_model(folder / source / "decoder0")
    with np.load(folder / "test.npz") as test:
        judge = Judge(keras.saving.load_model(folder / "judge.keras"), test["images"], test["labels"])
    keras.utils.set_random_seed(0)
    head = getattr(heads, name)(values.shape[1:], **HEADS[name])
    asked = np.arange(samples) % 10 if head.takes_labels else None

    def look(head: keras.Model) -> dict[str, float]:
        drawn = head.generate(samples, seed=0, **({} if asked is None else {"labels": asked}))
        return judge.row(drawn if decoder is None else decoder.predict(drawn, BATCH, verbose=0), asked)

    looks = Looks([seconds / 2**halvings for halvings in range(LOOKS - 1, -1, -1)], look)
    options = {"decoder": decoder} if is_through_decoder else {}
    labels = [np.load(folder / "labels.npy")] if head.takes_labels else []
    head.fit(values, *labels, epochs=100_000, callbacks=[looks], verbose=0, **options)
    result = {"head": name, "on": on, "shape": values.shape[1:], "curve": looks.curve}
    result |= {"step_ms": 1000 * float(np.median(looks.steps))}
    return result | looks.curve[-1] | {"megabytes": peak_megabytes()}


def compare_heads(
    names: list[str],
    codes: dict[str, Sequence[str]],
    minutes: float,
    enlarge: int,
    count: int | None,
    samples: int,
) -> list[dict]:
    data, rows, on_pixels = clothes.load(count=count, enlarge=enlarge), [], {}
    with tempfile.TemporaryDirectory() as folder:
        judge = prepare(Path(folder), data)
        options = (f"--minutes={minutes}", f"--samples={samples}", f"--folder={folder}")
        job = partial(in_a_process, "benchmarks.quality.heads", *options)
        for code, fitting in codes.items():
            chosen = [name for name in fitting if name in names]
            rows += encode(Path(folder), data, code, judge, samples) if chosen else []
            for name in chosen:
                sources = [code, *(["pixels"] if name not in on_pixels else [])]
                sources += [code + THROUGH] if name in THROUGH_DECODER else []
                done = {on: job("--job", name, on) for on in sources}
                if "pixels" in done:
                    on_pixels[name] = done["pixels"]["frechet"]
                rows += [
                    row | {"equal": reached_after(row["curve"], on_pixels[name], "frechet")} for row in done.values()
                ]
                show(rows)
    return rows


def show(rows: list[dict]) -> None:
    printed = {}
    for row in rows:
        cells = {title: row[name] for name, title in COLUMNS.items() if row.get(name) is not None}
        printed[f"{row['head']:4}  {row['on']}"] = cells
    clothes.show("head  on", printed)


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=[*HEADS], default=[*HEADS])
    parser.add_argument(
        "--code", nargs="+", metavar="HxWxC", help="encodings for each head, instead of those that fit it"
    )
    parser.add_argument("--minutes", type=float, default=5, help="of training, for each head")
    clothes.add_enlarge(parser)
    parser.add_argument("--count", type=int, help="of training images at most, to try it out")
    parser.add_argument("--samples", type=int, default=2000, help="that are judged at a look")
    parser.add_argument("--job", nargs=2, metavar=("HEAD", "ON"), help="what a process of its own does, in --folder")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args(argv)
    if arguments.job is not None:
        row = train(arguments.folder, *arguments.job, 60 * arguments.minutes, arguments.samples)
        print(json.dumps(row))
        return [row]
    codes = dict.fromkeys(arguments.code, arguments.only) if arguments.code else CODES
    chosen = arguments.minutes, arguments.enlarge, arguments.count, arguments.samples
    rows = compare_heads(arguments.only, codes, *chosen)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
