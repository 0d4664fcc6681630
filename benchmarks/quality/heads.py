"""Generative heads on encodings against the same heads on pixels, after the same training time.

    python -m benchmarks.quality.heads                                     # all heads, five minutes each: an hour
    python -m benchmarks.quality.heads --only Flow --minutes 10 --enlarge 2
    python -m benchmarks.quality.heads --only Flow --minutes 2 --code 7x7x8 14x14x2

Fashion-MNIST, enlarged `--enlarge` times from 28x28 pixels. Encodings are 7x7x8, or 14x14x2 for the flow; generated
encodings are decoded. A classifier trained on real images judges the generated images. Columns:

- Fréchet: distance between the classifier's features of generated images and of test images.
- spread: variety of the features, divided by that of test images.
- asked: share of images that the classifier assigns to the requested class.
- equal: time until the head reaches the final distance of the same head on pixels.
- step ms: median time of a training step.
- MB: peak memory with the data. Each head is trained in a separate process. Its time does not include the evaluations.

The training time of the autoencoder is in a separate row.
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
N_EVALUATIONS = 4  # after the whole time, half of it, a quarter of it, …
HEADS = {"VAE": {}, "WGAN": {}, "BEGAN": {}, "Flow": {"n_classes": 10}}
CODES = {"7x7x8": ("VAE", "WGAN", "BEGAN"), "14x14x2": ("Flow",)}  # with the same number of values
COLUMNS = {"step_ms": "step ms", "steps": "steps", "seconds": "seconds", "equal": "equal", "frechet": "Fréchet"}
COLUMNS |= {"spread": "spread", "asked": "asked", "megabytes": "MB"}
THROUGH, THROUGH_DECODER = ", errors in images", ("VAE", "BEGAN")


class Evaluations(keras.callbacks.Callback):
    """Evaluates a head after given seconds of training, and stops after the last evaluation.

    Attributes:
        curve: a row for each evaluation.
        steps: seconds of each training step.
    """

    def __init__(self, seconds: list[float], evaluate: Callable[[keras.Model], dict[str, float]]) -> None:
        super().__init__()
        self.due, self.evaluate = list(seconds), evaluate
        self.curve: list[dict[str, float]] = []
        self.steps: list[float] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.last, self.elapsed = time.perf_counter(), 0.0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.steps.append(time.perf_counter() - self.last)
        self.elapsed += self.steps[-1]
        if self.elapsed >= self.due[0]:
            self.curve.append({"seconds": self.elapsed, "steps": len(self.steps)} | self.evaluate(self.model))
            self.due.pop(0)
            self.model.stop_training = not self.due
        self.last = time.perf_counter()


def prepare(folder: Path, data: clothes.Data) -> Judge:
    """Writes the files that all trainings read."""
    net = train_judge(data.images, data.labels)
    net.save(folder / "judge.keras")
    np.save(folder / "pixels.npy", data.images)
    np.save(folder / "labels.npy", data.labels.astype(np.int32))
    np.savez(folder / "test.npz", images=data.test_images, labels=data.test_labels)
    return Judge(net, data.test_images, data.test_labels)


def encode(folder: Path, data: clothes.Data, code: str, judge: Judge, samples: int) -> list[dict]:
    """Writes encodings and their decoder; returns the rows that heads are compared with."""
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
    """Trains one head, in a child process."""
    source, is_through_decoder = on.removesuffix(THROUGH), on.endswith(THROUGH)
    values = np.load(folder / f"{source}.npy")
    decoder = None if source == "pixels" else keras.saving.load_model(folder / source / "decoder0")
    with np.load(folder / "test.npz") as test:
        judge = Judge(keras.saving.load_model(folder / "judge.keras"), test["images"], test["labels"])
    keras.utils.set_random_seed(0)
    head = getattr(heads, name)(values.shape[1:], **HEADS[name])
    asked = np.arange(samples) % 10 if head.takes_labels else None

    def evaluate(head: keras.Model) -> dict[str, float]:
        drawn = head.generate(samples, seed=0, **({} if asked is None else {"labels": asked}))
        return judge.row(drawn if decoder is None else decoder.predict(drawn, BATCH, verbose=0), asked)

    evaluations = Evaluations([seconds / 2**halvings for halvings in range(N_EVALUATIONS - 1, -1, -1)], evaluate)
    options = {"decoder": decoder} if is_through_decoder else {}
    labels = [np.load(folder / "labels.npy")] if head.takes_labels else []
    head.fit(values, *labels, epochs=100_000, callbacks=[evaluations], verbose=0, **options)
    result = {"head": name, "on": on, "shape": values.shape[1:], "curve": evaluations.curve}
    result |= {"step_ms": 1000 * float(np.median(evaluations.steps))}
    return result | evaluations.curve[-1] | {"megabytes": peak_megabytes()}


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
    clothes.print_table("head  on", printed)


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=[*HEADS], default=[*HEADS])
    parser.add_argument(
        "--code", nargs="+", metavar="HxWxC", help="encoding shapes for all heads, instead of the default of each head"
    )
    parser.add_argument("--minutes", type=float, default=5, help="training time of each head")
    clothes.add_enlarge(parser)
    parser.add_argument("--count", type=int, help="maximum number of training images, for a quick try")
    parser.add_argument("--samples", type=int, default=2000, help="number of generated images per evaluation")
    parser.add_argument("--job", nargs=2, metavar=("HEAD", "ON"), help="the job of a child process; needs --folder")
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
