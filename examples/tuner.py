"""Which width, depth and features per pixel suit these photographs? A search by KerasTuner.

    python examples/tuner.py

Two levels take 64x64x3 to 4x4x32. What is free is how wide and deep both are, and how many features the encoding in
between has; each trial trains a stack, and is judged by the full loss of photographs that training never saw. Trials
are kept in ./tuner, so the same command goes on where it was cut short.

About ten minutes on two cores for six trials. Expect little between the best ones: the code's size decides the loss,
and the rest how soon it is reached. Written to ./tuner:

    best/          the best stack, for `Autoencoder.load`
"""

import argparse
import time
from pathlib import Path

import keras
import keras_tuner
import numpy as np

from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.datasets import HELD_OUT, TRAINING, photograph, random_crops, tiles

SIDE = 64
WIDTHS, DEPTHS, FEATURES = [16, 32, 48], [1, 2, 3], [16, 32]


class StackTuner(keras_tuner.RandomSearch):
    """A tuner of stacks: a trial is a `train`, not one Keras `fit`."""

    def run_trial(
        self, trial: keras_tuner.engine.trial.Trial, images: np.ndarray, valid: np.ndarray, epochs: int
    ) -> dict[str, float]:
        keras.utils.set_random_seed(0)
        chosen = trial.hyperparameters
        size, depth = chosen.Choice("size", WIDTHS), chosen.Choice("depth", DEPTHS)
        levels = [ConvLevel(chosen.Choice("n_out", FEATURES), 2, size, depth), ConvLevel(32, 2, size, depth)]
        sae = Autoencoder(shape=(SIDE, SIDE, 3), levels=levels, save_path=self.stack_of(trial.trial_id))
        began = time.perf_counter()
        sae.train(images, epochs, validation_data=valid, verbose=0)
        sae.save()
        return {"full_loss": sae.evaluate(valid), "seconds": time.perf_counter() - began}

    def stack_of(self, trial_id: str) -> Path:
        return Path(self.get_trial_dir(trial_id)) / "stack"


def main(argv: list[str] | None = None) -> list[dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("tuner"), help="folder for the trials")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=3, help="of both levels")
    parser.add_argument("--crops", type=int, default=2000, help="number of 64x64 training crops")
    arguments = parser.parse_args(argv)
    images = random_crops([photograph(name) for name in TRAINING], arguments.crops, SIDE)  # (2000, 64, 64, 3) uint8
    valid = tiles([photograph(name) for name in HELD_OUT], SIDE)  # (82, 64, 64, 3) uint8

    # === Search ===
    objective = keras_tuner.Objective("full_loss", "min")
    tuner = StackTuner(
        objective=objective, max_trials=arguments.trials, seed=0, directory=arguments.out, project_name="trials"
    )
    tuner.search(images, valid, arguments.epochs)

    # === What it found ===
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
    best = Autoencoder.load(tuner.stack_of(trials[0].trial_id))
    print(f"\nThe best is in {best.save(arguments.out / 'best')}.")
    return rows


if __name__ == "__main__":
    main()
