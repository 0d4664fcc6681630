"""Search for the width, depth and features per pixel of two levels with KerasTuner.

Two levels encode 64x64x3 photographs as 4x4x32. The search varies the width and depth of both networks and the number
of features per pixel of the encoding between them. Each trial trains a stack and is scored by its loss on photographs
that are not used for training. Trials are kept in ./tuner, so the same command continues an interrupted search.

    python examples/tuner.py

Expected time: about ten minutes on two cores for six trials.
Expected score: the best trials differ little. The size of the encoding determines the loss; width and depth determine
how fast training reaches it.

Folder written to ./tuner:

    best/          the best stack, for `Autoencoder.load`
"""

import argparse
import time
from pathlib import Path

import keras
import keras_tuner
import numpy as np

from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.datasets import load_photographs, random_crops, tiles

# === Data ===
SIDE = 64
CROPS = 2000

# === Search space ===
WIDTHS, DEPTHS, FEATURES = [16, 32, 48], [1, 2, 3], [16, 32]


class StackTuner(keras_tuner.RandomSearch):
    """A random search in which a trial trains a stack with `train` instead of a Keras model with `fit`."""

    def run_trial(
        self, trial: keras_tuner.engine.trial.Trial, images: np.ndarray, valid: np.ndarray, epochs: int
    ) -> dict[str, float]:
        keras.utils.set_random_seed(0)
        chosen = trial.hyperparameters
        size, depth = chosen.Choice("size", WIDTHS), chosen.Choice("depth", DEPTHS)
        levels = [ConvLevel(chosen.Choice("n_out", FEATURES), 2, size, depth), ConvLevel(32, 2, size, depth)]
        sae = Autoencoder(shape=(SIDE, SIDE, 3), levels=levels, save_path=self.stack_path(trial.trial_id))
        began = time.perf_counter()
        sae.train(images, epochs, validation_data=valid, verbose=0)
        sae.save()
        return {"full_loss": sae.evaluate(valid), "seconds": time.perf_counter() - began}

    def stack_path(self, trial_id: str) -> Path:
        """Returns the folder to which a trial saves its stack."""
        return Path(self.get_trial_dir(trial_id)) / "stack"


def main(argv: list[str] | None = None) -> list[dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("tuner"), help="output folder for the trials")
    parser.add_argument("--trials", type=int, default=6, help="number of trials")
    parser.add_argument("--epochs", type=int, default=3, help="number of epochs of each level")
    parser.add_argument("--crops", type=int, default=CROPS, help="number of 64x64 training crops")
    arguments = parser.parse_args(argv)
    images = random_crops(load_photographs("training"), arguments.crops, SIDE)  # (2000, 64, 64, 3) uint8
    valid = tiles(load_photographs("validation"), SIDE)  # (82, 64, 64, 3) uint8

    # === Search ===
    objective = keras_tuner.Objective("full_loss", "min")
    tuner = StackTuner(
        objective=objective, max_trials=arguments.trials, seed=0, directory=arguments.out, project_name="trials"
    )
    tuner.search(images, valid, arguments.epochs)

    # === Print the trials, the best one first ===
    trials = tuner.oracle.get_best_trials(arguments.trials)
    rows = [
        {
            **trial.hyperparameters.values,
            **{name: trial.metrics.get_best_value(name) for name in ("full_loss", "seconds")},
        }
        for trial in trials
    ]
    print("\nsize  depth  n_out  full loss  seconds")
    for row in rows:
        print(f"{row['size']:4}  {row['depth']:5}  {row['n_out']:5}  {row['full_loss']:9.3e}  {row['seconds']:7.0f}")

    # === Save the best stack ===
    best = Autoencoder.load(tuner.stack_path(trials[0].trial_id))
    print(f"\nSaved the best stack to {best.save(arguments.out / 'best')}.")
    return rows


if __name__ == "__main__":
    main()
