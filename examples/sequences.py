"""Recurrent autoencoders of a smartwatch's motion: restore it, foresee it, do both, and name the exercise by the code.

    python examples/sequences.py

Ten people did seven shoulder exercises with either arm, a smartwatch on the wrist (Burns et al. 2018, "Shoulder
physiotherapy exercise recognition: machine learning the inertial signals from a smartwatch", arXiv:1802.01489); the
package seglearn ships its acceleration and rotation. They are cut into windows of 12 steps, 1.9 seconds or about one
repetition, of which each autoencoder keeps 16 of 72 values. After Srivastava et al. 2015, "Unsupervised learning of
video representations using LSTMs", there are three, each with a decoder that is given the step before (conditional) and
with one that isn't:

    input    restores the window
    next     foresees each step from those before
    both     has a decoder for either, on one encoding

Two of the people are kept for the test. About four minutes on two cores. Expect windows restored with 0.75 of PCA's
error, 0.70 when conditional; the next step foreseen with half the error of a linear forecast, and two thirds of that of
repeating the last step; and a classifier that tells the exercise from 16 values about as well as from PCA's, and two
points worse than from all 72. Written to ./sequences:

    windows.png            windows that training never saw, restored, and what is foreseen after them
    losses.png             loss over the epochs
"""

import argparse
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from matplotlib.figure import Figure

from stacked_autoencoder import Autoencoder, SequenceLevel, heads, plots

STEPS = 12
AHEAD = 5  # steps that are foreseen in the picture, each from the ones before
AVERAGED = 8  # of 50 measurements a second, into one step
STRIDE = 2  # steps from one window to the next
PEOPLE = {"train": range(1, 7), "valid": range(7, 9), "test": range(9, 11)}
TARGETS = ("input", "next", "both")
UNITS = [64, 16]  # of the recurrent layers; the last are the encoding
BATCH = 128
FEW = 50  # labels per exercise
FEW_EPOCHS = 20  # times as many epochs on these, so that they take as many steps
SHOWN = {"PEN": "pendulum", "FEL": "forward elevation", "IR": "internal rotation", "ROW": "upright row"}
CHANNELS = ("ax", "wx", "wz")


class Windows(NamedTuple):
    """Series are float32 `(N, STEPS, 6)`; the future is what follows, `(N, AHEAD, 6)`; labels are whole numbers."""

    series: np.ndarray
    future: np.ndarray
    labels: np.ndarray


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sequences"), help="folder for pictures")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--count", type=int, help="of training windows at most, to try it out")
    arguments = parser.parse_args(argv)
    data, exercises, channels = load(arguments.count)
    train, valid, test = data["train"], data["valid"], data["test"]
    print(", ".join(f"{part}: {len(each.labels):,} windows" for part, each in data.items()))

    # === Train: what is restored, what is foreseen, with and without the step before ===
    stacks, histories, figures = {}, {}, {}
    for target in TARGETS:
        for conditional in (False, True):
            name = f"{target}, conditional" if conditional else target
            sae = stacks[name] = stack(target, conditional)
            sae.train(train.series, epochs=0, verbose=0)  # no more than the start in closed form
            start = errors(sae, test)
            (histories[name],) = sae.train(
                train.series, arguments.epochs, validation_data=valid.series, batch_size=BATCH, verbose=0
            )
            figures[name] = {f"{key}, start": value for key, value in start.items()} | errors(sae, test)
            print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures[name].items()), flush=True)
    stacks["both"].summary()
    figures["last step again"] = {"step after": mean_square(test.series[:, -1] - test.future[:, 0])}
    tell(figures)

    # === The encoder alone under a classifier, beside PCA and the windows themselves ===
    pca = stack("input")
    pca.train(train.series, epochs=0, verbose=0)
    few = np.concatenate([np.flatnonzero(train.labels == label)[:FEW] for label in range(len(exercises))])
    print(f"\naccuracy, of a head on  values  all labels  {len(few)} labels")
    for name, sae in {"windows": None, "PCA": pca, **{target: stacks[target] for target in TARGETS}}.items():
        seen, tested = (part.series if sae is None else sae.encode(part.series) for part in (train, test))
        statistics = {} if sae is None else {"mean": sae.levels[-1].mean, "std": sae.levels[-1].std}
        row = figures[f"head on {name}"] = {}
        for amount, chosen, factor in (("all labels", slice(None), 1), ("few labels", few, FEW_EPOCHS)):
            keras.utils.set_random_seed(0)
            head = heads.classifier(seen.shape[1:], len(exercises), dropout=0.0, **statistics)
            epochs = factor * arguments.epochs
            head.fit(seen[chosen], train.labels[chosen], batch_size=BATCH, epochs=epochs, verbose=0)
            row[amount] = head.evaluate(tested, test.labels, verbose=0)[1]
        print(f"{name:22}  {seen[0].size:6}  {row['all labels']:10.3f}  {row['few labels']:10.3f}")

    # === Look ===
    arguments.out.mkdir(parents=True, exist_ok=True)
    shown = [int(np.flatnonzero(test.labels == exercises.index(name))[0]) for name in SHOWN]
    drawn = draw_windows(Windows(*(part[shown] for part in test)), stacks["both"], pca, channels)
    drawn.savefig(arguments.out / "windows.png", dpi=110)
    plots.loss_curves(list(histories.values()), list(histories)).savefig(arguments.out / "losses.png", dpi=110)
    return figures


def load(count: int | None = None) -> tuple[dict[str, Windows], list[str], list[str]]:
    """Windows of each part of the people, shuffled; names of the exercises, which the labels count; of the channels."""
    # By its path, since importing seglearn imports scikit-learn. It is a pickle, to be trusted like the package's code.
    path = distribution("seglearn").locate_file("seglearn/data/watch_dataset.npy")
    data = np.load(path, allow_pickle=True).item()
    parts = {}
    for name, people in PEOPLE.items():
        windows, labels = [], []
        for series, label, person in zip(data["X"], data["y"], data["subject"], strict=True):
            if person in people:
                n_steps = len(series) // AVERAGED
                steps = series[: n_steps * AVERAGED].reshape(n_steps, AVERAGED, -1).mean(axis=1)
                views = np.lib.stride_tricks.sliding_window_view(steps, STEPS + AHEAD, axis=0)[::STRIDE]
                windows.append(views.transpose(0, 2, 1))  # (N, STEPS + AHEAD, 6)
                labels += [label] * len(views)
        order = np.random.default_rng(0).permutation(len(labels))[: count if name == "train" else None]
        parts[name] = np.concatenate(windows)[order], np.array(labels)[order]
    # Channels differ in unit and size. As shares of the variance, their errors can be added up.
    measured = parts["train"][0]
    mean, std = measured.mean(axis=(0, 1)), measured.std(axis=(0, 1))
    for name, (windows, labels) in parts.items():
        scaled = ((windows - mean) / std).astype(np.float32)
        parts[name] = Windows(scaled[:, :STEPS], scaled[:, STEPS:], labels)
    return parts, data["y_labels"], data["X_labels"]


def stack(target: str, conditional: bool = False) -> Autoencoder:
    keras.utils.set_random_seed(0)
    return Autoencoder(shape=(STEPS, 6), levels=[SequenceLevel(UNITS, target, conditional=conditional)])


def forecast(sae: Autoencoder, series: np.ndarray, ahead: int = 1) -> np.ndarray:
    """What follows windows `(N, STEPS, 6)`: `(N, ahead, 6)`, each step from a window that ends in the one before it."""
    level = sae.levels[0]
    foresee = level.predictor or level.decoder  # a level that does nothing else has no second decoder
    for _ in range(ahead):
        step = np.asarray(foresee(sae.encode(series[:, -STEPS:])))[:, -1:]
        series = np.concatenate([series, step], axis=1)
    return series[:, -ahead:]


def errors(sae: Autoencoder, windows: Windows) -> dict[str, float]:
    """Mean squared errors of the window and, where it is foreseen, of the step after it."""
    found = {"window": sae.evaluate(windows.series)}
    if sae.levels[0].target != "input":
        found["step after"] = mean_square(forecast(sae, windows.series)[:, 0] - windows.future[:, 0])
    return found


def mean_square(differences: np.ndarray) -> float:
    return float(np.square(differences).mean())


def tell(figures: dict[str, dict[str, float]]) -> None:
    print("\nmean squared error            window      step after it")
    print("of test windows          PCA  trained      PCA  trained")
    for name, row in figures.items():
        cells = (row.get(key) for key in ("window, start", "window", "step after, start", "step after"))
        print(f"{name:19}" + "".join(" " * 9 if value is None else f"{value:9.4f}" for value in cells))


def draw_windows(windows: Windows, sae: Autoencoder, pca: Autoencoder, channels: list[str]) -> Figure:
    """A column per window, a row per channel: as measured, restored, and foreseen from the dashed line on."""
    figure = Figure(figsize=(3.2 * len(SHOWN), 2 * len(CHANNELS)), layout="constrained")
    axes = figure.subplots(len(CHANNELS), len(SHOWN), sharex=True)
    foreseen = np.concatenate([windows.series[:, -1:], forecast(sae, windows.series, AHEAD)], axis=1)
    curves = (
        ("measured", "0.2", "-", 0, np.concatenate([windows.series, windows.future], axis=1)),
        ("restored by PCA", "C1", ":", 0, pca.reconstruct(windows.series)),
        ("restored by both", "C0", "-", 0, sae.reconstruct(windows.series)),
        ("foreseen", "C2", ".-", STEPS - 1, foreseen),
    )
    for row, channel in enumerate(CHANNELS):
        for column, exercise in enumerate(SHOWN.values()):
            ax = axes[row, column]
            for label, color, style, start, values in curves:
                seconds = AVERAGED / 50 * (start + np.arange(values.shape[1]))
                ax.plot(seconds, values[column, :, channels.index(channel)], style, color=color, label=label)
            ax.axvline(AVERAGED / 50 * (STEPS - 1), color="0.6", linestyle="--", linewidth=0.8)
            if row == 0:
                ax.set_title(exercise)
        axes[row, 0].set_ylabel(channel)
    for ax in axes[-1]:
        ax.set_xlabel("seconds")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(curves), frameon=False)
    return figure


if __name__ == "__main__":
    main()
