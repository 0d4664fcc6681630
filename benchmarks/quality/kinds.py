"""Textbook autoencoders on Fashion-MNIST: published loss, PCA loss and the loss of this library.

    python -m benchmarks.quality.kinds                         # all kinds, about 15 minutes
    python -m benchmarks.quality.kinds --only tied KL

Losses are mean squared errors on clean validation images in [0, 1], with the same number of values as the published
network. The published losses are from Géron, "Hands-On Machine Learning", chapter 17 and its notebook. The dense
networks have the same layers as the book; the convolutional one is that of `benchmarks.quality.fashion`. A penalty
costs loss, so the sparse networks use the penalty weights of the book.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from benchmarks.harness import table
from benchmarks.harness.data import fashion_mnist
from benchmarks.harness.designs import FASHION, new_stack
from stacked_autoencoder import DenseLevel, KLSparsity

SPARSE = {"units": [100, 300], "activation": ["relu", "sigmoid"]}


class Kind(NamedTuple):
    """A network and its training.

    Attributes:
        arguments: creates the arguments of `Autoencoder`.
        published: published validation loss of the same kind with the same number of values.
        epochs: epochs of all levels, or of each.
        tuned: epochs of `fine_tune` at the end.
    """

    arguments: Callable[[], dict[str, Any]]
    published: float
    epochs: int | list[int]
    batch_size: int
    tuned: int = 0


def dense_arguments(level: DenseLevel) -> dict[str, Any]:
    return {"shape": (28, 28, 1), "levels": [level]}


KINDS = {
    "tied": Kind(lambda: dense_arguments(DenseLevel([100, 30], tied=True)), 0.0133, 8, 32),
    "convolutional": Kind(lambda: FASHION, 0.0121, [3, 10], 64, tuned=2),
    "L1": Kind(lambda: dense_arguments(DenseLevel(**SPARSE, penalty=keras.regularizers.L1(1e-4))), 0.0111, 8, 32),
    "KL": Kind(
        lambda: dense_arguments(DenseLevel(**SPARSE, penalty=KLSparsity(target=0.1, weight=0.05))), 0.0099, 8, 32
    ),
    "dropout": Kind(
        lambda: dense_arguments(DenseLevel([100, 30], corruption=keras.layers.Dropout(0.5))), 0.0166, 20, 64
    ),
}


def compare_kinds(names: list[str], epochs: int | None = None) -> list[dict]:
    """Trains each kind; `epochs` replaces the default number of epochs."""
    images, valid = fashion_mnist()
    rows = []
    for name in names:
        kind = KINDS[name]
        sae = new_stack(**kind.arguments())
        began = time.perf_counter()
        options = {"validation_data": valid, "batch_size": kind.batch_size, "verbose": 2}
        sae.train(images, epochs=epochs or kind.epochs, **options)
        if kind.tuned:
            sae.fine_tune(images, epochs=epochs or kind.tuned, **options)
        seconds = time.perf_counter() - began
        budget = list(sae.evaluate(valid, return_dict=True).values())[-1]
        about = "Fashion-MNIST", name, int(budget["values"])
        rows.append(table.row(*about, "PCA", budget["pca_loss"], budget["pca_loss"]))
        rows.append(table.row(*about, "published", kind.published, budget["pca_loss"]))
        rows.append(table.row(*about, "ours", budget["full_loss"], budget["pca_loss"], seconds))
    return rows


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--epochs", type=int, help="epochs of every training, for a quick try")
    arguments = parser.parse_args(argv)
    rows = compare_kinds(arguments.only, arguments.epochs)
    table.show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
