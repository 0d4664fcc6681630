"""Code that the examples of generative heads share: train heads on encodings and on pixels, and compare the images."""

import argparse
from collections.abc import Callable
from pathlib import Path

import clothes
import keras
import numpy as np
from judge import Judge, gaussian, train_autoencoder, train_judge
from stopwatch import Stopwatch

from stacked_autoencoder import plots

N_SHOWN = 40
MOST_EPOCHS = 10_000  # never reached: `Stopwatch` ends training


def parser(description: str, out: str, minutes: float) -> argparse.ArgumentParser:
    """Returns a parser of the arguments of `clothes.parser` and of those that the generative examples add."""
    argument_parser = clothes.parser(description, out, epochs=2)
    argument_parser.add_argument("--minutes", type=float, default=minutes, help="training time of each head")
    argument_parser.add_argument("--samples", type=int, default=1000, help="number of images that each head generates")
    clothes.add_enlarge(argument_parser)
    return argument_parser


class Comparison:
    """Trains heads on encodings and on pixels for the same time, and scores the images that they generate.

    The constructor trains an autoencoder and the judge. Generated encodings are decoded before they are scored, so
    every score is a score of images.

    Args:
        arguments: parsed arguments of `parser`.
        encoding: arguments of `train_autoencoder` that set the size of the encodings, 7x7x8 by default.

    Attributes:
        data: the data set, enlarged if `--enlarge` says so.
        sae: the autoencoder.
        values: what heads are trained on: `{"encodings": …, "pixels": …}`.
        rows: the table of scores.
        pictures: title → images in [0, 1].
    """

    def __init__(self, arguments: argparse.Namespace, **encoding: int) -> None:
        self.minutes, self.samples, self.out = arguments.minutes, arguments.samples, arguments.out
        data = self.data = clothes.load(arguments.dataset, arguments.count, arguments.enlarge)
        self.title = f"{arguments.dataset}, {self.samples} samples"
        self.judge = Judge(train_judge(data.images, data.labels), data.test_images, data.test_labels)
        print(f"judge: accuracy {self.judge.accuracy:.3f} on test images")
        self.sae, seconds = train_autoencoder(data.images, data.valid_images, arguments.epochs, **encoding)
        self.values = {"encodings": self.sae.encode(data.images), "pixels": data.images}
        images, labels = data.test_images[: self.samples], data.test_labels[: self.samples]
        reconstructions = self.sae.reconstruct(images)
        self.rows = {
            "test images": self.judge.row(images, labels),
            "test images, reconstructed": {"seconds": seconds} | self.judge.row(reconstructions, labels),
        }
        of_each_class = [np.resize(np.flatnonzero(data.test_labels == label), N_SHOWN // 10) for label in range(10)]
        # One column per class.
        self.pictures = {"real": data.test_images[np.stack(of_each_class, axis=1).reshape(-1)]}

    def add(self, name: str, samples: np.ndarray, asked: np.ndarray | None = None, **more: float) -> np.ndarray:
        """Adds a row with the scores of generated encodings or pixels; returns them as images.

        Args:
            name: of the row.
            samples: encodings or images.
            asked: the class that each sample should have.
            more: other numbers for the row.
        """
        images = samples if samples.shape[1:] == self.data.images.shape[1:] else self.sae.decode(samples)
        self.rows[name] = more | self.judge.row(images, asked)
        return images

    def train(
        self,
        name: str,
        head: keras.Model,
        values: np.ndarray,
        *labels: np.ndarray,
        draw: Callable[[], np.ndarray] | None = None,
        asked: np.ndarray | None = None,
        **options: object,
    ) -> None:
        """Trains a head for `--minutes`; adds a row for the initialised head and a row for the trained head.

        Args:
            name: of the row.
            head: the head.
            values: encodings or images to train on.
            labels: their labels, if the head is conditional.
            draw: function that generates samples; `head.generate` by default.
            asked: the class that each sample should have.
            options: further arguments of `fit`.
        """
        draw = draw or (lambda: head.generate(self.samples, seed=0))
        head.fit(values, *labels, epochs=0)
        self.add(f"{name}, start", draw(), asked)
        stopwatch = Stopwatch(self.minutes)
        head.fit(values, *labels, epochs=MOST_EPOCHS, callbacks=[stopwatch], verbose=0, **options)
        images = self.add(name, draw(), asked, **stopwatch.row())
        self.pictures[f"{name}, {self.minutes:g} minutes"] = images[:N_SHOWN]
        clothes.print_table(self.title, self.rows)

    def add_gaussian(self) -> None:
        """Adds the baseline that every head should beat: one normal distribution, fitted to the encodings."""
        self.pictures["a Gaussian of encodings"] = self.add(
            "a Gaussian of encodings", gaussian(self.values["encodings"], self.samples)
        )[:N_SHOWN]

    def save(self) -> Path:
        """Draws the images to `samples.png` in the output folder; returns the path."""
        file = self.out / "samples.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        plots.grid(self.pictures, value_range=(0, 1)).savefig(file, dpi=150)
        print(f"\n{file}")
        return file
