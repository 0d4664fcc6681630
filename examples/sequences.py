"""Recurrent autoencoders of smartwatch data: reconstruct motion, predict it, and classify exercises from encodings.

Ten people performed seven shoulder exercises with either arm while wearing a smartwatch (Burns et al. 2018, "Shoulder
physiotherapy exercise recognition: machine learning the inertial signals from a smartwatch", arXiv:1802.01489). The
package seglearn includes the recorded acceleration and rotation. The example cuts them into windows of 12 steps, which
are 1.9 seconds or about one repetition. Each autoencoder encodes the 72 values of a window in 16 values. Two of the
people are used only for the test.

There are three kinds of autoencoders, after Srivastava et al. 2015, "Unsupervised learning of video representations
using LSTMs":

    input    reconstructs the window
    next     predicts each step from the steps before it
    both     has one encoder and two decoders, one for each of these tasks

Each is trained with an unconditional decoder, and with a conditional decoder that also receives the step before.

    python examples/sequences.py

Expected time: about four minutes on two cores.
Expected score: windows are reconstructed with 0.75 of the error of PCA, or 0.70 with a conditional decoder. The error
of the predicted next step is half that of a linear prediction and two thirds of that of repeating the last step. A
classifier on the 16 values is about as accurate as one on 16 values of PCA, and two points less accurate than one on
all 72 values.

Files written to ./sequences:

    windows.png            test windows, their reconstructions, and the predictions that follow them
    losses.png             loss curves
"""

import argparse
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from matplotlib.figure import Figure

from stacked_autoencoder import Autoencoder, SequenceLevel, heads, plots

# === Data ===
STEPS = 12  # per window
AHEAD = 5  # steps after the window that the picture shows; each is predicted from the steps before it
RATE = 50  # measurements per second
AVERAGED = 8  # measurements that are averaged into one step
STRIDE = 2  # steps between the starts of two windows
PEOPLE = {"train": range(1, 7), "valid": range(7, 9), "test": range(9, 11)}

# === Networks ===
TARGETS = ("input", "next", "both")
UNITS = [64, 16]  # of the recurrent layers; the last number is the size of the encoding

# === Training ===
BATCH = 128
N_FEW = 50  # labels per exercise, for the classifiers that are trained on few labels
FEW_EPOCHS_FACTOR = 20  # they get 20 times as many epochs, and so about as many steps

# === Pictures ===
SHOWN = {"PEN": "pendulum", "FEL": "forward elevation", "IR": "internal rotation", "ROW": "upright row"}
CHANNELS = ("ax", "wx", "wz")


class Windows(NamedTuple):
    """Windows cut out of the recordings.

    `series` is float32, `(N, STEPS, 6)`. `future` has the steps that follow, `(N, AHEAD, 6)`. `labels` are integers
    that number the exercises, `(N,)`.
    """

    series: np.ndarray
    future: np.ndarray
    labels: np.ndarray


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sequences"), help="output folder for pictures")
    parser.add_argument("--epochs", type=int, default=12, help="number of training epochs")
    parser.add_argument("--count", type=int, help="maximum number of training windows, for a quick trial")
    arguments = parser.parse_args(argv)
    data, exercises, channels = load(arguments.count)
    train, valid, test = data["train"], data["valid"], data["test"]
    print(", ".join(f"{part}: {len(windows.labels):,} windows" for part, windows in data.items()))

    # === Train the three kinds, each with an unconditional and a conditional decoder ===
    stacks, histories, scores = {}, {}, {}
    for target in TARGETS:
        for conditional in (False, True):
            name = f"{target}, conditional" if conditional else target
            sae = stacks[name] = new_stack(target, conditional)
            sae.train(train.series, epochs=0, verbose=0)  # closed-form initialisation only: PCA
            initial = errors(sae, test)
            (histories[name],) = sae.train(
                train.series, arguments.epochs, validation_data=valid.series, batch_size=BATCH, verbose=0
            )
            scores[name] = {f"{key}, start": value for key, value in initial.items()} | errors(sae, test)
            print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in scores[name].items()), flush=True)
    stacks["both"].summary()
    scores["repeat last step"] = {"step after": mean_square(test.series[:, -1] - test.future[:, 0])}
    print_errors(scores)

    # === Train classifiers on the windows, on PCA and on the encodings ===
    pca = new_stack("input")
    pca.train(train.series, epochs=0, verbose=0)
    few = np.concatenate([np.flatnonzero(train.labels == label)[:N_FEW] for label in range(len(exercises))])
    print(f"\naccuracy of a head on   values  all labels  {len(few)} labels")
    for name, sae in {"windows": None, "PCA": pca, **{target: stacks[target] for target in TARGETS}}.items():
        inputs, test_inputs = (part.series if sae is None else sae.encode(part.series) for part in (train, test))
        statistics = {} if sae is None else {"mean": sae.levels[-1].mean, "std": sae.levels[-1].std}
        row = scores[f"head on {name}"] = {}
        for amount, chosen, factor in (("all labels", slice(None), 1), ("few labels", few, FEW_EPOCHS_FACTOR)):
            keras.utils.set_random_seed(0)
            head = heads.classifier(inputs.shape[1:], len(exercises), dropout=0.0, **statistics)
            epochs = factor * arguments.epochs
            head.fit(inputs[chosen], train.labels[chosen], batch_size=BATCH, epochs=epochs, verbose=0)
            row[amount] = head.evaluate(test_inputs, test.labels, verbose=0)[1]
        print(f"{name:22}  {inputs[0].size:6}  {row['all labels']:10.3f}  {row['few labels']:10.3f}")

    # === Draw windows, reconstructions and predictions, and the loss curves ===
    arguments.out.mkdir(parents=True, exist_ok=True)
    shown = [int(np.flatnonzero(test.labels == exercises.index(name))[0]) for name in SHOWN]
    figure = draw_windows(Windows(*(part[shown] for part in test)), stacks["both"], pca, channels)
    figure.savefig(arguments.out / "windows.png", dpi=110)
    plots.loss_curves(list(histories.values()), list(histories)).savefig(arguments.out / "losses.png", dpi=110)
    return scores


def load(count: int | None = None) -> tuple[dict[str, Windows], list[str], list[str]]:
    """Returns the shuffled windows of each part, the names of the exercises and the names of the channels.

    Args:
        count: maximum number of training windows.
    """
    # The file is read from its path, since importing seglearn would import scikit-learn. It is a pickle, so it must be
    # trusted like the code of the package.
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
    # The channels have different units, so they are standardised before their errors are added up.
    measured = parts["train"][0]
    mean, std = measured.mean(axis=(0, 1)), measured.std(axis=(0, 1))
    for name, (windows, labels) in parts.items():
        scaled = ((windows - mean) / std).astype(np.float32)
        parts[name] = Windows(scaled[:, :STEPS], scaled[:, STEPS:], labels)
    return parts, data["y_labels"], data["X_labels"]


def new_stack(target: str, conditional: bool = False) -> Autoencoder:
    """Returns an untrained autoencoder of windows, with the same random weights at each call."""
    keras.utils.set_random_seed(0)
    return Autoencoder(shape=(STEPS, 6), levels=[SequenceLevel(UNITS, target, conditional=conditional)])


def predict(sae: Autoencoder, series: np.ndarray, ahead: int = 1) -> np.ndarray:
    """Predicts the steps that follow windows `(N, STEPS, 6)`, one at a time; returns `(N, ahead, 6)`.

    Each predicted step is appended to the window, from which the next step is predicted.
    """
    level = sae.levels[0]
    predictor = level.predictor or level.decoder  # with the target "next", the decoder is the predictor
    for _ in range(ahead):
        step = np.asarray(predictor(sae.encode(series[:, -STEPS:])))[:, -1:]
        series = np.concatenate([series, step], axis=1)
    return series[:, -ahead:]


def errors(sae: Autoencoder, windows: Windows) -> dict[str, float]:
    """Returns the mean squared errors of the windows and, if the level predicts, of the step after each window."""
    scores = {"window": sae.evaluate(windows.series)}
    if sae.levels[0].target != "input":
        scores["step after"] = mean_square(predict(sae, windows.series)[:, 0] - windows.future[:, 0])
    return scores


def mean_square(differences: np.ndarray) -> float:
    return float(np.square(differences).mean())


def print_errors(scores: dict[str, dict[str, float]]) -> None:
    """Prints the errors of PCA, with which each level is initialised, and of the trained levels."""
    print("\nmean squared error            window      step after it")
    print("of test windows          PCA  trained      PCA  trained")
    for name, row in scores.items():
        cells = (row.get(key) for key in ("window, start", "window", "step after, start", "step after"))
        print(f"{name:19}" + "".join(" " * 9 if value is None else f"{value:9.4f}" for value in cells))


def draw_windows(windows: Windows, sae: Autoencoder, pca: Autoencoder, channels: list[str]) -> Figure:
    """Draws one column per window and one row per channel; the predictions start at the dashed line."""
    figure = Figure(figsize=(3.2 * len(SHOWN), 2 * len(CHANNELS)), layout="constrained")
    axes = figure.subplots(len(CHANNELS), len(SHOWN), sharex=True)
    predicted = np.concatenate([windows.series[:, -1:], predict(sae, windows.series, AHEAD)], axis=1)
    curves = (
        ("measured", "0.2", "-", 0, np.concatenate([windows.series, windows.future], axis=1)),
        ("reconstructed by PCA", "C1", ":", 0, pca.reconstruct(windows.series)),
        ('reconstructed by "both"', "C0", "-", 0, sae.reconstruct(windows.series)),
        ('predicted by "both"', "C2", ".-", STEPS - 1, predicted),
    )
    for row, channel in enumerate(CHANNELS):
        for column, exercise in enumerate(SHOWN.values()):
            ax = axes[row, column]
            for label, color, style, start, values in curves:
                seconds = AVERAGED / RATE * (start + np.arange(values.shape[1]))
                ax.plot(seconds, values[column, :, channels.index(channel)], style, color=color, label=label)
            ax.axvline(AVERAGED / RATE * (STEPS - 1), color="0.6", linestyle="--", linewidth=0.8)
            if row == 0:
                ax.set_title(exercise)
        axes[row, 0].set_ylabel(channel)
    for ax in axes[-1]:
        ax.set_xlabel("seconds")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(curves), frameon=False)
    return figure


if __name__ == "__main__":
    main()
