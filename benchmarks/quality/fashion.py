"""Loss of Fashion-MNIST in 30 values: PCA, the textbook net, and ours, in one run.

    python -m benchmarks.quality.fashion                    # 5 minutes of training each
    python -m benchmarks.quality.fashion --minutes 5 15     # and then 15 of ours alone

28x28 in [0, 1], judged by the validation set, which also decides what weights are kept. The textbook net is dense,
784-100-30-100-784 (Géron, "Hands-On Machine Learning", chapter 17). Both get the same images and the same minutes; the
learning rate of ours falls to zero by that clock, so that more minutes are a training of their own.
"""

import time
from collections.abc import Sequence

import keras
import tensorflow as tf

from benchmarks.harness import table
from benchmarks.harness.clocks import step_times
from benchmarks.harness.data import fashion_mnist
from benchmarks.harness.designs import BATCH, fashion_levels, reconstruction, train_ours
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
    mine = []
    for each in minutes:
        sae, seconds = train_ours(fashion_levels(), images, valid, 60 * each, batch_size=64)
        budget = sae.evaluate(valid, return_dict=True)[1]
        pca, batch = budget["pca_loss"], images[:BATCH]
        models = {"ours": reconstruction(sae, batch), "textbook": textbook}
        steps = step_times(models, tf.constant(batch))
        mine.append(row(*ABOUT, "two greedy levels", budget["full_loss"], pca, seconds, steps["ours"]))
        began = time.perf_counter()
        sae.fine_tune(images, epochs=1, validation_data=valid, batch_size=BATCH, verbose=2)
        seconds += time.perf_counter() - began
        mine.append(row(*ABOUT, "  … and fine_tune", sae.evaluate(valid), pca, seconds))
    textbook_row = row(*ABOUT, "textbook dense 100-30", textbook_loss, pca, textbook_seconds, steps["textbook"])
    return [row(*ABOUT, "PCA", pca, pca), textbook_row, *mine]


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0])
    parser.add_argument("--count", type=int, help="of training images at most, to try it out")
    arguments = parser.parse_args(argv)
    rows = compare_fashion(arguments.minutes, arguments.count)
    table.show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
