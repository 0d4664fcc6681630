"""Anomalies in time series: find windows of smartwatch data that do not show the exercise that was prescribed.

Ten people performed seven shoulder exercises with either arm while wearing a smartwatch (Burns et al. 2018, "Shoulder
physiotherapy exercise recognition: machine learning the inertial signals from a smartwatch", arXiv:1802.01489). The
package seglearn includes the recorded acceleration and rotation, which have six channels. The program cuts them into
windows of 24 steps, which are 3.8 seconds. Each exercise in turn is normal, and the other six are anomalies. The
detectors are fitted to windows of the normal exercise by eight people. The test windows are those of the other two
people. All channels are standardised with the mean and the standard deviation of the training windows.

    detector, images       `heads.AnomalyDetector` on windows as images, whose rows are steps and whose columns are
                           channels, so it compares magnitudes that are averaged over a short time
    detector, sequences    `heads.AnomalyDetector` on a `SequenceLevel`, so it compares whole windows, step by step
    PCA error              squared error of PCA of the windows, with 4 components
    PyOD KNN               `pyod.models.knn.KNN`, the distance from the fifth-nearest training window

Both levels are initialised with PCA and not trained. The length of the windows and the sizes were chosen on people 7
and 8, with people 1 to 6 for training. There, the detector of images was as good as KNN.

The program prints the area under the ROC curve (AUROC) and the average precision (AP) as the mean over the exercises.
The anomalies are weighted as if they were 10 % of the test windows, since precision depends on their share.

    pip install ".[examples,pyod]" && python examples/anomalies_in_series.py

Expected time: half a minute on two cores.
Expected score, as the mean of the seven exercises:

                            AUROC       AP
    detector, images        0.950    0.908
    detector, sequences     0.923    0.789
    PCA error               0.863    0.755
    PyOD KNN                0.933    0.877

For four of the exercises, KNN has the higher AUROC. With windows of 12 steps, the AUROC is 0.940 for KNN, 0.915 for the
detector of images, and 0.884 for PCA.

Files written to ./series:

    scores.png    histogram of the scores of test windows of the last exercise, and of the other exercises
    steps.png     a test recording of the last exercise that continues with another exercise: two channels, the score
                  of each step by the detector of sequences, and the score of each window by the detector of images
"""

import argparse
from importlib.metadata import distribution
from pathlib import Path

import keras
import numpy as np
from anomaly_peers import mean_of, measures, pca_errors, print_measures, pyod_scores
from matplotlib.figure import Figure
from pyod.models.knn import KNN

from stacked_autoencoder import Autoencoder, SequenceLevel, heads, plots

# === Data ===
EXERCISES = {
    "PEN": "pendulum",
    "ABD": "abduction",
    "FEL": "forward elevation",
    "IR": "internal rotation",
    "ER": "external rotation",
    "TRAP": "trapezius extension",
    "ROW": "upright row",
}
RATE = 50  # measurements per second
AVERAGED = 8  # measurements that are averaged into one step
STEPS = 24  # per window
STRIDE = 4  # steps between the starts of two windows
TEST_PEOPLE = (9, 10)
SHARE = 0.1  # of anomalies, for the average precision

# === Levels ===
N_OUT, N_SCALINGS = 2, 1  # two values for two steps of two channels
UNITS = 16  # values per window

# === Peers ===
N_COMPONENTS = 4

# === Pictures ===
SHOWN_CHANNELS = ("ax", "wx")
SHOWN_WINDOWS = 5  # of each of the two exercises


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("series"), help="output folder for pictures")
    parser.add_argument("--exercises", nargs="+", choices=EXERCISES, default=[*EXERCISES], help="normal exercises")
    arguments = parser.parse_args(argv)
    keras.utils.set_random_seed(0)
    recordings, channels = load()

    results: dict[str, list[dict[str, float]]] = {}
    for exercise in arguments.exercises:
        # === Cut out windows, and standardise the channels with the training windows only ===
        normal = windows_of(recordings[exercise]["train"])  # (N, 24, 6)
        parts = {name: windows_of(recordings[name]["test"]) for name in EXERCISES}
        windows = np.concatenate([*parts.values()])
        is_anomaly = np.repeat([name != exercise for name in parts], [*map(len, parts.values())])
        mean, std = normal.mean(axis=(0, 1)), normal.std(axis=(0, 1))
        normal, windows = (normal - mean) / std, (windows - mean) / std

        # === Fit the detectors, and score the test windows ===
        images = Autoencoder(shape=(*normal.shape[1:], 1), n_out=N_OUT, n_scalings=N_SCALINGS, check_range=False)
        sequences = Autoencoder(shape=normal.shape[1:], levels=[SequenceLevel(UNITS)])
        detector = fit_detector(images, normal[..., None])
        sequence_detector = fit_detector(sequences, normal)
        vectors, normal_vectors = (each.reshape(len(each), -1) for each in (windows, normal))
        scores = {
            "detector, images": detector.score(windows[..., None]),
            "detector, sequences": sequence_detector.score(windows),
            "PCA error": pca_errors(normal_vectors, vectors, N_COMPONENTS),
            "PyOD KNN": pyod_scores(KNN(), normal_vectors, vectors),
        }
        rows = {design: measures(is_anomaly, values, SHARE) for design, values in scores.items()}
        for design, row in rows.items():
            results.setdefault(design, []).append(row)
        print_measures(EXERCISES[exercise], rows)
    means = {design: mean_of(rows) for design, rows in results.items()}
    print_measures(f"mean of {len(arguments.exercises)} exercises", means)

    # === Draw the scores of the last exercise, and those of a recording over time ===
    arguments.out.mkdir(parents=True, exist_ok=True)
    named = {
        EXERCISES[exercise]: scores["detector, images"][~is_anomaly],
        "other exercises": scores["detector, images"][is_anomaly],
    }
    plots.score_histogram(named, detector.threshold).savefig(arguments.out / "scores.png", dpi=110)
    other = next(name for name in EXERCISES if name != exercise)
    pieces = [windows_of(recordings[name]["test"][:1], STEPS)[:SHOWN_WINDOWS] for name in (exercise, other)]
    shown = (np.concatenate(pieces) - mean) / std  # (10, 24, 6), one after the other
    figure = draw_scores(
        {channel: shown[..., channels.index(channel)] for channel in SHOWN_CHANNELS},
        sequence_detector.score_map(shown),  # (10, 24)
        detector.score(shown[..., None]),
        detector.threshold,
        change=len(pieces[0]),
        titles=(EXERCISES[exercise], EXERCISES[other]),
    )
    figure.savefig(arguments.out / "steps.png", dpi=110)
    return means


def load() -> tuple[dict[str, dict[str, list[np.ndarray]]], list[str]]:
    """Returns the recordings and the names of the channels.

    The recordings are `{exercise: {"train": [...], "test": [...]}}`, with float arrays `(steps, 6)` in the lists.
    """
    # The file is read from its path, since importing seglearn takes seconds. It is a pickle, so it must be trusted like
    # the code of the package.
    path = distribution("seglearn").locate_file("seglearn/data/watch_dataset.npy")
    data = np.load(path, allow_pickle=True).item()
    recordings = {name: {"train": [], "test": []} for name in data["y_labels"]}
    for series, label, person in zip(data["X"], data["y"], data["subject"], strict=True):
        n_steps = len(series) // AVERAGED
        steps = series[: n_steps * AVERAGED].reshape(n_steps, AVERAGED, -1).mean(axis=1)
        recordings[data["y_labels"][label]]["test" if person in TEST_PEOPLE else "train"].append(steps)
    return recordings, data["X_labels"]


def windows_of(recordings: list[np.ndarray], stride: int = STRIDE) -> np.ndarray:
    """Returns the windows of recordings, float32 `(N, STEPS, 6)`, whose starts are `stride` steps apart."""
    views = [np.lib.stride_tricks.sliding_window_view(each, STEPS, axis=0)[::stride] for each in recordings]
    return np.concatenate(views).transpose(0, 2, 1).astype(np.float32)


def fit_detector(sae: Autoencoder, normal: np.ndarray) -> heads.AnomalyDetector:
    sae.train(normal, epochs=0, verbose=0)  # PCA
    return heads.AnomalyDetector(sae).fit(normal)


def draw_scores(
    signals: dict[str, np.ndarray],
    step_scores: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    change: int,
    titles: tuple[str, str],
) -> Figure:
    """Draws windows that follow each other, with their scores below.

    Args:
        signals: `{channel: (N, STEPS)}`.
        step_scores: `(N, STEPS)`, scores of steps.
        scores: `(N,)`, scores of windows.
        threshold: score above which a window is an anomaly.
        change: index of the first window of the second exercise.
        titles: names of the two exercises.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots(3, sharex=True)
    seconds = AVERAGED / RATE * np.arange(step_scores.size)
    for channel, values in signals.items():
        axes[0].plot(seconds, values.ravel(), label=channel)
    axes[0].set(title=f"{titles[0]}, then {titles[1]}", ylabel="signal")
    axes[0].legend(loc="upper left", frameon=False)
    axes[1].plot(seconds, step_scores.ravel(), color="C3")
    axes[1].set(ylabel="score of step", yscale="log")
    axes[2].step(seconds, scores.repeat(step_scores.shape[1]), where="post", color="C4")
    axes[2].axhline(threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    axes[2].set(xlabel="seconds", ylabel="score of window", yscale="log")
    axes[2].legend(loc="upper left", frameon=False)
    for ax in axes:
        ax.axvline(seconds[change * step_scores.shape[1]], color="0.6", linestyle="--", linewidth=1)
    return figure


if __name__ == "__main__":
    main()
