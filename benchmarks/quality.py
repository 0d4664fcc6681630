"""Loss for a given code size and time: PCA, the usual design, and ours, in one run.

    python -m benchmarks.quality                       # everything, 5 minutes of training each: about 50 minutes
    python -m benchmarks.quality --only photographs --codes 8x8x32
    python -m benchmarks.quality --only fashion --minutes 15

Photographs: 64x64x3 in [-1, 1]. `loss` is the one on eleven photographs that decided nothing, `worse` the share of
their tiles on which the loss is above PCA's; `valid` is the loss on two others by which, for every design, the best
weights were kept. This library's defaults were found by those two and by the photographs in Debian's package
lomiri-wallpapers-16.04. The usual design is the deep convolutional autoencoder of most tutorials: 4x4 kernels from full
resolution down, batch norm, leaky ReLU, tanh code, learning rate 1e-4. Fashion-MNIST: 28x28 in [0, 1], 30 values,
judged by the validation set; the textbook net is dense, 784-100-30-100-784 (Géron, "Hands-On Machine Learning", chapter
17). Every design gets the same images and the same minutes.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks import data
from benchmarks.clocks import Clock, TimeLimit, step_times
from benchmarks.data import fashion_mnist
from benchmarks.rivals import textbook_dense, train_plain, usual_design
from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.principal import to_patches
from stacked_autoencoder.sources.base import scaled
from stacked_autoencoder.training import PEAK_LEARNING_RATE, LevelMuon, step_scales

CODES = {"16x16x32": 2, "8x8x32": 3, "4x4x32": 4}  # code shape of a 64x64 picture → halvings
N_OUT, SIZE, BATCH = 32, 64, 32
LOOK = 250  # steps between two looks at the validation set
RESERVE = 0.1  # share of the time left for the start, for compiling and for slower minutes than the trial's


def train_ours(
    levels: Callable[[], list[ConvLevel]],
    images: np.ndarray,
    valid: np.ndarray,
    seconds: float,
    batch_size: int = BATCH,
    learning_rate: float | None = None,
) -> tuple[Autoencoder, float]:
    """Trains a stack for so long: as many epochs as fit at the best pace of a short run before, fewer if slowed.

    The first level takes little of the time where a second follows, since most is lost in the last.
    """
    shape, steps = images.shape[1:], len(images) // batch_size
    trial, paces = Autoencoder(shape=shape, levels=levels()), []
    for index in range(len(trial.levels)):
        clock = Clock()
        some = images[: 60 * batch_size]
        trial.train(some, epochs=3, levels=[index], batch_size=batch_size, verbose=0, callbacks=[clock])
        paces.append(min(clock.epochs[1:]) / min(60, steps))  # the first epoch also compiles
    shares = [1.0] if len(paces) == 1 else [0.15, 0.85]
    look = min(LOOK, steps) if len(paces) == 1 else steps  # only level 0 has a choice of steps per epoch
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=shape, levels=levels())
    began = time.perf_counter()
    for index, (share, pace) in enumerate(zip(shares, paces, strict=True)):
        limit = share * seconds
        sae.train(
            images,
            epochs=max(1, round((1 - RESERVE) * limit / (look * pace))),
            levels=[index],
            validation_data=valid,
            batch_size=batch_size,
            steps_per_epoch=look,
            learning_rate=learning_rate,
            callbacks=[TimeLimit(limit)],
            verbose=2,
        )
    return sae, time.perf_counter() - began


def reconstruction(sae: Autoencoder, images: np.ndarray) -> keras.Model:
    """The stack as a Keras autoencoder with the optimizer of `train`, to time its step like the usual design's."""
    model = keras.Sequential([sae.encoder, sae.decoder])
    scales = step_scales(sae.levels, scaled(images).numpy(), 1.0)
    model.compile(optimizer=LevelMuon(1e-4, scales=scales, unit=1.0), loss="mse")
    return model


def fit_over_step(rounds: int = 3, steps: int = 48) -> float:
    """Time of a step within `train` over that of the bare compiled step, taken in turns; the median of the ratios."""
    some = data.training_crops(steps * BATCH)
    sae, clock, ratios = Autoencoder(shape=some.shape[1:], n_scalings=3, n_out=N_OUT, size=SIZE), Clock(), []
    for _ in range(rounds):
        sae.train(some, epochs=4, batch_size=BATCH, verbose=0, callbacks=[clock])
        batch = some[:BATCH]
        bare = step_times({"bare": reconstruction(sae, batch)}, scaled(batch), rounds=3, steps=steps)["bare"]
        ratios.append(min(clock.epochs[1:]) / steps / bare)  # the first epoch also compiles
    return statistics.median(ratios)


def share_worse_than_pca(sae: Autoencoder, tiles: np.ndarray) -> float:
    """The share of `tiles` on which a stack of one level loses more than PCA of the same size."""
    images, level = scaled(tiles).numpy(), sae.levels[0]
    ours = np.mean(np.square(sae.reconstruct(tiles) - images), axis=(1, 2, 3))
    patches = (to_patches(image[None], level.factor).astype(np.float64) for image in images)
    pca = [level.linear_code.squared_error(rows) / rows.size for rows in patches]
    return float(np.mean(ours > pca))


def compare_photographs(codes: Sequence[str], seconds: float, test_folder: Path) -> list[dict]:
    test, valid, images = data.test_tiles(test_folder), data.validation_tiles(), data.training_crops()
    rows = []
    for code in codes:
        keras.utils.set_random_seed(0)
        sae, ours_seconds = train_ours(lambda code=code: [ConvLevel(N_OUT, CODES[code], SIZE)], images, valid, seconds)
        keras.utils.set_random_seed(0)
        usual = usual_design(images.shape[1:], CODES[code], N_OUT, SIZE)
        usual_seconds = train_plain(usual, images, valid, seconds, BATCH, steps=100)
        budgets = [sae.evaluate(tiles, return_dict=True)[0] for tiles in (test, valid)]
        pca = [budget["pca_loss"] for budget in budgets]
        ours = [budget["full_loss"] for budget in budgets]
        theirs = [usual.evaluate(scaled(tiles), scaled(tiles), verbose=0) for tiles in (test, valid)]
        batch = images[:BATCH]
        steps = step_times({"ours": reconstruction(sae, batch), "usual": usual}, scaled(batch))
        about = ("photographs", code, int(budgets[0]["values"]))
        rows += [
            row(*about, "PCA", pca[0], pca[0], valid=pca[1]),
            row(*about, "usual design", theirs[0], pca[0], usual_seconds, steps["usual"], valid=theirs[1]),
            row(
                *about,
                "ours",
                ours[0],
                pca[0],
                ours_seconds,
                steps["ours"],
                valid=ours[1],
                worse=share_worse_than_pca(sae, test),
            ),
        ]
        show(rows[-3:])
    return rows


def compare_fashion(seconds: float) -> list[dict]:
    images, valid = fashion_mnist()
    keras.utils.set_random_seed(0)
    textbook = textbook_dense()
    textbook_seconds = train_plain(textbook, images, valid, seconds, BATCH, steps=len(images) // BATCH)
    textbook_loss = textbook.evaluate(valid, valid, verbose=0)
    sae, ours_seconds = train_ours(fashion_levels, images, valid, seconds, batch_size=64, learning_rate=1e-2)
    budget = sae.evaluate(valid, return_dict=True)[1]
    batch = images[:BATCH]
    steps = step_times({"ours": reconstruction(sae, batch), "textbook": textbook}, tf.constant(batch))
    began = time.perf_counter()
    sae.fine_tune(images, epochs=1, validation_data=valid, batch_size=BATCH, verbose=2)
    tuned_seconds = time.perf_counter() - began
    about, pca = ("Fashion-MNIST", "30", 30), budget["pca_loss"]
    return [
        row(*about, "PCA", pca, pca),
        row(*about, "textbook dense 100-30", textbook_loss, pca, textbook_seconds, steps["textbook"]),
        row(*about, "ours, two greedy levels", budget["full_loss"], pca, ours_seconds, steps["ours"]),
        row(*about, "  … and fine_tune", sae.evaluate(valid), pca, ours_seconds + tuned_seconds),
    ]


def fashion_levels() -> list[ConvLevel]:
    return [ConvLevel(12, 2, SIZE // 2), ConvLevel(n_scalings=0, size=SIZE, depth=2, latent_dim=30)]


def compare_greedy_with_joint(epochs: int) -> list[dict]:
    """Two levels trained one after the other, and the same net trained jointly from the same start."""
    images, valid = fashion_mnist()
    rows = []
    for name in ("greedy", "joint"):
        keras.utils.set_random_seed(0)
        sae = Autoencoder(shape=(28, 28, 1), levels=fashion_levels())
        began = time.perf_counter()
        if name == "greedy":
            sae.train(images, epochs=epochs, validation_data=valid, verbose=2)
        else:
            sae.train(images, epochs=0, verbose=0)  # the same start
            sae.fine_tune(images, epochs=epochs, validation_data=valid, learning_rate=PEAK_LEARNING_RATE, verbose=2)
        budget = sae.evaluate(valid, return_dict=True)[1]
        design, seconds = f"ours, {name}, {epochs} epochs", time.perf_counter() - began
        rows.append(row("Fashion-MNIST", "30", 30, design, budget["full_loss"], budget["pca_loss"], seconds))
    return rows


def row(
    source: str,
    code: str,
    values: int,
    design: str,
    loss: float,
    pca: float,
    seconds: float = 0.0,
    step: float = 0.0,
    valid: float | None = None,
    worse: float | None = None,
) -> dict:
    result = {"data": source, "code": code, "values": values, "design": design, "loss": loss, "of_pca": loss / pca}
    valid = loss if valid is None else valid
    return result | {"valid": valid, "worse": worse, "seconds": seconds, "step_ms": 1000 * step}


def show(rows: list[dict]) -> None:
    print(
        "\ndata          code      values  design                       loss  of PCA     valid  worse  seconds  step ms"
    )
    for line in rows:
        worse = " " * 7 if line["worse"] is None else f"{line['worse']:7.1%}"
        times = "".join(f"{line[name]:9.1f}" if line[name] else " " * 9 for name in ("seconds", "step_ms"))
        print(
            f"{line['data']:13} {line['code']:9} {line['values']:6}  {line['design']:23} {line['loss']:9.2e}"
            f" {line['of_pca']:7.3f} {line['valid']:9.2e}{worse}{times}"
        )


def main(argv: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["photographs", "fashion", "greedy", "fit"], help="one part; all by default")
    parser.add_argument("--codes", nargs="+", choices=list(CODES), default=list(CODES))
    parser.add_argument("--minutes", type=float, default=5.0, help="training time of each design")
    parser.add_argument("--epochs", type=int, default=4, help="of the comparison of greedy with joint training")
    parser.add_argument(
        "--test-photographs",
        type=Path,
        default=data.DEBIAN_PHOTOGRAPHS,
        help="usr/share/wallpapers of Debian's package plasma-workspace-wallpapers",
    )
    parser.add_argument("--json", type=Path, help="also write the table here")
    arguments = parser.parse_args(argv)
    rows = []
    if arguments.only in (None, "photographs"):
        rows += compare_photographs(arguments.codes, 60 * arguments.minutes, arguments.test_photographs)
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
