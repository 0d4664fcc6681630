"""Loss of the default training in different units of the data, relative to their variance.

    python -m benchmarks.quality.units                         # all kinds of levels, about five minutes
    python -m benchmarks.quality.units --only conv

The images of Fashion-MNIST are multiplied by a unit, and shifted by a number of standard deviations. Losses are mean
squared errors on the validation set, divided by the variance of its values. They should not depend on the unit.
"""

import time
from collections.abc import Callable

import keras
import numpy as np

from benchmarks.harness import table
from benchmarks.harness.data import fashion_mnist
from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, Level, SequenceLevel

LEVELS: dict[str, Callable[[], Level]] = {
    "conv": lambda: ConvLevel(8, 3),
    "conv vector": lambda: ConvLevel(latent_dim=30),
    "dense": lambda: DenseLevel([100, 30]),
    "sequence": lambda: SequenceLevel(30),
}
# Factor and offset of the data; the offset in standard deviations.
UNITS = [(1, 0), (1e-6, 0), (1e3, 100), (1e6, -100)]


def compare_units(names: list[str], count: int, epochs: int) -> list[dict]:
    """Trains each kind of level on the first `count` images, in each unit."""
    rows = []
    pictures = [2 * images[:count] - 1 for images in fashion_mnist()]
    for name in names:
        for unit, offset in UNITS:
            shift = offset * pictures[0].std()
            images, valid = (((each + shift) * unit).astype(np.float32) for each in pictures)
            if name == "sequence":
                images, valid = images[..., 0], valid[..., 0]
            keras.utils.set_random_seed(0)
            sae = Autoencoder(shape=images.shape[1:], levels=[LEVELS[name]()], check_range=False)
            began = time.perf_counter()
            sae.train(images, epochs=epochs, validation_data=valid, verbose=0)
            seconds = time.perf_counter() - began
            (budget,) = sae.evaluate(valid, return_dict=True).values()
            variance = float(np.var(valid, dtype=np.float64))
            loss, pca_loss = budget["full_loss"] / variance, budget["pca_loss"] / variance
            design = f"unit {unit:g}, offset {offset:+}"
            rows.append(table.row("Fashion-MNIST", name, int(budget["values"]), design, loss, pca_loss, seconds))
    return rows


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=[*LEVELS], default=[*LEVELS])
    parser.add_argument("--count", type=int, default=10_000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args(argv)
    rows = compare_units(arguments.only, arguments.count, arguments.epochs)
    table.show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
