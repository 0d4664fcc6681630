"""Loss on Fashion-MNIST with 30 values per image: PCA, a textbook network and this library.

    python -m benchmarks.quality.fashion                    # 5 minutes of training each
    python -m benchmarks.quality.fashion --minutes 5 15     # and 15 more minutes for this library

28x28 images in [0, 1]. The loss is measured on the validation set, which also selects the weights to keep. The
textbook network has the dense layers 784-100-30-100-784 (Géron, "Hands-On Machine Learning", chapter 17). Both are
trained on the same images for the same time. The learning rate of this library falls to zero over that time, so each
number of minutes is a separate training.
"""

import time
from collections.abc import Sequence

import keras
import tensorflow as tf

from benchmarks.harness import table
from benchmarks.harness.clocks import step_times
from benchmarks.harness.data import fashion_mnist
from benchmarks.harness.designs import BATCH, fashion_levels, reconstruction, train_levels
from benchmarks.harness.rivals import textbook_dense, train_plain
from benchmarks.harness.table import row

ABOUT = "Fashion-MNIST", "30", 30


def compare_fashion(minutes: Sequence[float], count: int | None = None) -> list[dict]:
    images, valid = fashion_mnist()
    images = images[:count]
    keras.utils.set_random_seed(0)
    textbook = textbook_dense()
    textbook_seconds = train_plain(textbook, images, valid, 60 * minutes[0], BATCH, steps=len(images) // BATCH)
    textbook_loss = textbook.evaluate(valid, valid, verbose=0)
    our_rows = []
    for each in minutes:
        sae, seconds = train_levels(fashion_levels(), images, valid, 60 * each, batch_size=64)
        budget = sae.evaluate(valid, return_dict=True)[1]
        pca, batch = budget["pca_loss"], images[:BATCH]
        models = {"ours": reconstruction(sae, batch), "textbook": textbook}
        steps = step_times(models, tf.constant(batch))
        our_rows.append(row(*ABOUT, "two greedy levels", budget["full_loss"], pca, seconds, steps["ours"]))
        began = time.perf_counter()
        sae.fine_tune(images, epochs=1, validation_data=valid, batch_size=BATCH, verbose=2)
        seconds += time.perf_counter() - began
        our_rows.append(row(*ABOUT, "  … and fine_tune", sae.evaluate(valid), pca, seconds))
    textbook_row = row(*ABOUT, "textbook dense 100-30", textbook_loss, pca, textbook_seconds, steps["textbook"])
    return [row(*ABOUT, "PCA", pca, pca), textbook_row, *our_rows]


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0])
    parser.add_argument("--count", type=int, help="maximum number of training images, for a quick try")
    arguments = parser.parse_args(argv)
    rows = compare_fashion(arguments.minutes, arguments.count)
    table.show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
