"""Loss for a given code size and time: PCA, the usual design, and ours, in one run.

    python -m benchmarks.quality                       # everything, 5 minutes of training each: about 40 minutes
    python -m benchmarks.quality --only photographs --codes 8x8x32
    python -m benchmarks.quality --only fashion

Photographs: 64x64x3 in [-1, 1]; losses are those on held-out *pictures*. The usual design is the deep convolutional
autoencoder of most tutorials: 4x4 kernels from full resolution down, batch norm, leaky ReLU, tanh code, learning rate
1e-4. Fashion-MNIST: 28x28 in [0, 1], 30 values; the textbook net is dense, 784-100-30-100-784 (Géron, "Hands-On Machine
Learning", chapter 17). Every design gets the same images and the same minutes, and for each the best epoch counts.
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from examples.photographs import HELD_OUT, TRAINING, photograph, random_crops, tiles
from stacked_autoencoder import Autoencoder, ConvLevel

CODES = {"16x16x32": 2, "8x8x32": 3, "4x4x32": 4}  # code shape of a 64x64 picture → halvings
N_OUT, SIZE, CROPS, BATCH = 32, 64, 14_000, 32
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


class TimeLimit(keras.callbacks.Callback):
    """Stops after so many seconds of training; the time that validation takes doesn't count."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.left = seconds

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.since = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        now = time.perf_counter()
        self.left -= now - self.since
        self.since = now
        if self.left <= 0:
            self.model.stop_training = True

    def on_test_begin(self, logs: dict | None = None) -> None:
        self.left -= time.perf_counter() - self.since

    def on_test_end(self, logs: dict | None = None) -> None:
        self.since = time.perf_counter()


def photographs() -> tuple[np.ndarray, np.ndarray]:
    """Training crops `(14000, 64, 64, 3)` and held-out tiles, uint8, of different pictures."""
    training, held_out = ([photograph(name) for name in names] for names in (TRAINING, HELD_OUT))
    return random_crops(training, CROPS, 64), tiles(held_out, 64)


def fashion_mnist() -> tuple[np.ndarray, np.ndarray]:
    """Training `(55000, 28, 28, 1)` and validation `(5000, 28, 28, 1)` images, float32 in [0, 1]."""
    file = DEBIAN_FASHION / "train-images-idx3-ubyte.gz"
    if file.is_file():  # Debian's package dataset-fashion-mnist
        raw = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    else:
        raw = keras.datasets.fashion_mnist.load_data()[0][0]
    images = (raw / 255.0).astype(np.float32)[..., None]
    return images[:-5000], images[-5000:]


def usual_design(shape: tuple[int, ...], n_scalings: int) -> keras.Model:
    """The deep convolutional autoencoder that most tutorials build."""

    def convolution(kind: type, strides: int) -> keras.Sequential:
        return keras.Sequential(
            [kind(SIZE, 4, strides=strides, padding="same"), layers.BatchNormalization(), layers.LeakyReLU(0.2)]
        )

    model = keras.Sequential([keras.Input(shape), convolution(layers.Conv2D, 1)])
    for _ in range(n_scalings):
        model.add(convolution(layers.Conv2D, 2))
    model.add(layers.Conv2D(N_OUT, 4, padding="same", activation="tanh"))
    model.add(convolution(layers.Conv2D, 1))
    for _ in range(n_scalings):
        model.add(convolution(layers.Conv2DTranspose, 2))
    model.add(layers.Conv2D(shape[-1], 4, padding="same", activation="tanh"))
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="mse")
    return model


def textbook_dense() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(30, activation="relu"),
            layers.Dense(100, activation="relu"),
            layers.Dense(784),
            layers.Reshape((28, 28, 1)),
        ]
    )
    model.compile(optimizer="nadam", loss="mse")
    return model


def train_plain(model: keras.Model, images: np.ndarray, valid: np.ndarray, seconds: float) -> tuple[float, float]:
    """Fits a Keras autoencoder for so long; returns its best held-out loss and the seconds it took."""
    rows = tf.data.Dataset.range(len(images)).shuffle(len(images)).batch(BATCH)
    pairs = rows.map(lambda chosen: scaled(tf.gather(images, chosen))).map(lambda batch: (batch, batch)).prefetch(2)
    began = time.perf_counter()
    limit = TimeLimit(seconds)
    history = model.fit(
        pairs,
        epochs=10_000,
        validation_data=(scaled(valid), scaled(valid)),
        callbacks=[limit],
        shuffle=False,
        verbose=0,
    )
    return min(history.history["val_loss"]), time.perf_counter() - began


def scaled(images: np.ndarray | tf.Tensor) -> tf.Tensor:
    scaled = tf.cast(images, tf.float32)
    return scaled / 127.5 - 1.0 if images.dtype == np.uint8 else scaled


def train_ours(
    levels: Callable[[], list[ConvLevel]], images: np.ndarray, valid: np.ndarray, seconds: float, **options
) -> tuple[Autoencoder, float]:
    """Trains a stack for so long, the epochs chosen by the time that a first short run takes."""
    shape = images.shape[1:]
    trial = Autoencoder(shape=shape, levels=levels())
    sample, pace = images[: 60 * BATCH], []
    for index in range(len(trial.levels)):
        clock = Clock()
        trial.train(sample, epochs=2, levels=[index], batch_size=BATCH, verbose=0, callbacks=[clock])
        pace.append(clock.epochs[1] * len(images) / len(sample))  # the first epoch also compiles
    keras.utils.set_random_seed(0)
    # Three quarters of the time go to the last level, where most is lost; a tenth stays for validation and compiling.
    shares = [1.0] if len(pace) == 1 else [0.25 / (len(pace) - 1)] * (len(pace) - 1) + [0.75]
    epochs = [max(1, int(0.9 * share * seconds / each)) for share, each in zip(shares, pace, strict=True)]
    sae = Autoencoder(shape=shape, levels=levels())
    began = time.perf_counter()
    sae.train(images, epochs=epochs, validation_data=valid, batch_size=BATCH, verbose=2, **options)
    return sae, time.perf_counter() - began


class Clock(keras.callbacks.Callback):
    """Seconds of each epoch's steps."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.epochs: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.ended = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.epochs.append(self.ended - self.began)


def step_times(models: dict[str, keras.Model], batch: tf.Tensor, rounds: int = 5, steps: int = 6) -> dict[str, float]:
    """Median seconds of one compiled training step, the models taken in turn so that drift hits all alike."""
    compiled = {name: tf.function(model.train_step) for name, model in models.items()}
    data = dict.fromkeys(models, (batch, batch))
    for name, step in compiled.items():
        step(data[name])
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, step in compiled.items():
            began = time.perf_counter()
            for _ in range(steps):
                step(data[name])
            times[name].append((time.perf_counter() - began) / steps)
    return {name: statistics.median(values) for name, values in times.items()}


def reconstruction(sae: Autoencoder) -> keras.Model:
    """The stack as an ordinary Keras autoencoder, to time its step by the same ruler as the usual design's."""
    model = keras.Sequential([sae.encoder, sae.decoder])
    model.compile(optimizer=keras.optimizers.Adam(1e-4, global_clipnorm=1.0), loss="mse")
    return model


def fit_over_step(rounds: int = 3, steps: int = 48) -> float:
    """Time of a step within `train` over that of the bare compiled step, taken in turns; the median of the ratios."""
    some = photographs()[0][: steps * BATCH]
    sae, clock, ratios = Autoencoder(shape=some.shape[1:], n_scalings=3, n_out=N_OUT, size=SIZE), Clock(), []
    for _ in range(rounds):
        sae.train(some, epochs=3, batch_size=BATCH, verbose=0, callbacks=[clock])
        bare = step_times({"bare": reconstruction(sae)}, scaled(some[:BATCH]), rounds=3, steps=steps)["bare"]
        ratios.append(statistics.median(clock.epochs[1:]) / steps / bare)  # the first epoch also compiles
    return statistics.median(ratios)


def compare_photographs(codes: list[str], seconds: float) -> list[dict]:
    images, valid = photographs()
    rows = []
    for code in codes:
        keras.utils.set_random_seed(0)
        sae, ours_seconds = train_ours(lambda code=code: [ConvLevel(N_OUT, CODES[code], SIZE)], images, valid, seconds)
        budget = sae.evaluate(valid, return_dict=True)[0]
        keras.utils.set_random_seed(0)
        usual = usual_design(images.shape[1:], CODES[code])
        usual_loss, usual_seconds = train_plain(usual, images, valid, seconds)
        steps = step_times({"ours": reconstruction(sae), "usual": usual}, scaled(images[:BATCH]))
        values, pca = int(budget["values"]), budget["pca_loss"]
        rows += [
            row("photographs", code, values, "PCA", pca, pca),
            row("photographs", code, values, "usual design", usual_loss, pca, usual_seconds, steps["usual"]),
            row("photographs", code, values, "ours", budget["full_loss"], pca, ours_seconds, steps["ours"]),
        ]
    return rows


def compare_fashion(seconds: float) -> list[dict]:
    images, valid = fashion_mnist()

    def levels() -> list[ConvLevel]:
        return [ConvLevel(8, 2, SIZE // 2, depth=1), ConvLevel(n_scalings=0, size=SIZE, latent_dim=30)]

    keras.utils.set_random_seed(0)
    textbook = textbook_dense()
    textbook_loss, textbook_seconds = train_plain(textbook, images, valid, seconds)
    sae, ours_seconds = train_ours(levels, images, valid, seconds)
    budget = sae.evaluate(valid, return_dict=True)[1]
    steps = step_times({"ours": reconstruction(sae), "textbook": textbook}, tf.constant(images[:BATCH]))
    began = time.perf_counter()
    sae.fine_tune(images, epochs=1, validation_data=valid, batch_size=BATCH, verbose=2)
    tuned_seconds = time.perf_counter() - began
    pca = budget["pca_loss"]
    return [
        row("Fashion-MNIST", "30", 30, "PCA", pca, pca),
        row(
            "Fashion-MNIST", "30", 30, "textbook dense 100-30", textbook_loss, pca, textbook_seconds, steps["textbook"]
        ),
        row(
            "Fashion-MNIST", "30", 30, "ours, two greedy levels", budget["full_loss"], pca, ours_seconds, steps["ours"]
        ),
        row("Fashion-MNIST", "30", 30, "  … and fine_tune", sae.evaluate(valid), pca, ours_seconds + tuned_seconds),
    ]


def compare_greedy_with_joint(epochs: int) -> list[dict]:
    """Two levels trained one after the other, and the same net trained jointly from the same start."""
    images, valid = fashion_mnist()
    rows = []
    for name in ("greedy", "joint"):
        keras.utils.set_random_seed(0)
        sae = Autoencoder(shape=(28, 28, 1), levels=[ConvLevel(8, 2, SIZE), ConvLevel(n_scalings=0, latent_dim=30)])
        began = time.perf_counter()
        if name == "greedy":
            sae.train(images, epochs=epochs, validation_data=valid, verbose=2)
        else:
            sae.train(images, epochs=0, verbose=0)  # the same start
            sae.fine_tune(images, epochs=epochs, validation_data=valid, learning_rate=3e-3, verbose=2)
        budget = sae.evaluate(valid, return_dict=True)[1]
        rows.append(
            row(
                "Fashion-MNIST",
                "30",
                30,
                f"ours, {name}, {epochs} epochs",
                budget["full_loss"],
                budget["pca_loss"],
                time.perf_counter() - began,
            )
        )
    return rows


def row(
    data: str, code: str, values: int, design: str, loss: float, pca: float, seconds: float = 0.0, step: float = 0.0
) -> dict:
    result = {"data": data, "code": code, "values": values, "design": design, "loss": loss, "of_pca": loss / pca}
    return result | {"seconds": round(seconds, 1), "step_ms": round(1000 * step, 1)}


def show(rows: list[dict]) -> None:
    print(
        f"\n{'data':14} {'code':9} {'values':>6}  {'design':26} {'loss':>9} {'of PCA':>7} {'seconds':>8} {'step ms':>8}"
    )
    for line in rows:
        print(
            f"{line['data']:14} {line['code']:9} {line['values']:6}  {line['design']:26} {line['loss']:9.2e}"
            f" {line['of_pca']:7.3f} {line['seconds'] or '':>8} {line['step_ms'] or '':>8}"
        )


def main(argv: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["photographs", "fashion", "greedy", "fit"], help="one part; all by default")
    parser.add_argument("--codes", nargs="+", choices=list(CODES), default=list(CODES))
    parser.add_argument("--minutes", type=float, default=5.0, help="training time of each design")
    parser.add_argument("--epochs", type=int, default=4, help="of the comparison of greedy with joint training")
    parser.add_argument("--json", type=Path, help="also write the table here")
    arguments = parser.parse_args(argv)
    rows = []
    if arguments.only in (None, "photographs"):
        rows += compare_photographs(arguments.codes, 60 * arguments.minutes)
        show(rows)
    if arguments.only in (None, "fashion"):
        rows += compare_fashion(60 * arguments.minutes)
    if arguments.only in (None, "greedy"):
        rows += compare_greedy_with_joint(arguments.epochs)
    if arguments.only in (None, "fit"):
        print(f"\n`train` takes {fit_over_step():.2f} times the bare compiled step (8x8x32, batch {BATCH}).")
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, Keras {keras.__version__}, TensorFlow {tf.__version__}")
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return rows


if __name__ == "__main__":
    main()
