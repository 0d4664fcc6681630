"""Loss on Fashion-MNIST with 30 values per image: PCA, a textbook network and this library.

    python -m benchmarks.quality.fashion                    # 5 minutes of training each: 20 minutes
    python -m benchmarks.quality.fashion --minutes 15

28x28 images in [0, 1]. The loss is measured on the validation set, which also selects the weights to keep. The
textbook network has the dense layers 784-100-30-100-784 (Géron, "Hands-On Machine Learning", chapter 17). The stack of
this library has two levels, `Autoencoder(shape=(28, 28, 1), n_out=8, n_levels=2, latent_dim=30)`. It is trained in
three ways: greedily, greedily with `fine_tune` in the last 35 % of the time, and jointly from the closed-form
initialisation. All designs are trained on the same images for the same time. The learning rate of this library falls
to zero over that time.
"""

import keras
import numpy as np
import tensorflow as tf

from benchmarks.harness import table
from benchmarks.harness.clocks import step_times
from benchmarks.harness.data import fashion_mnist
from benchmarks.harness.designs import BATCH, FASHION, new_stack, step_of_last_level, train_jointly, train_stack
from benchmarks.harness.rivals import textbook_dense, train_plain
from benchmarks.harness.table import row
from stacked_autoencoder import Autoencoder
from stacked_autoencoder.optimizers import PEAK_LEARNING_RATE

ABOUT = "Fashion-MNIST", "30", 30
TUNED = 0.35  # share of the time for `fine_tune` after greedy training
TUNING_RATE = PEAK_LEARNING_RATE / 5  # the default of `fine_tune`


def compare_fashion(minutes: float, count: int | None = None) -> list[dict]:
    images, valid = fashion_mnist()
    images, seconds = images[:count], 60 * minutes
    keras.utils.set_random_seed(0)
    textbook = textbook_dense()
    taken = train_plain(textbook, images, valid, seconds, BATCH, steps=len(images) // BATCH)
    step = step_times({"textbook": textbook}, tf.constant(images[:BATCH]))["textbook"]
    rows = [("textbook dense 100-30", textbook.evaluate(valid, valid, verbose=0), taken, step)]

    sae = new_stack(**FASHION)
    taken = train_stack(sae, images, valid, seconds)
    budget = sae.evaluate(valid, return_dict=True)[1]
    pca = budget["pca_loss"]
    rows.append(("greedy", budget["full_loss"], taken, step_of_last_level(sae, images[:BATCH])))

    sae = new_stack(**FASHION)
    taken = train_stack(sae, images, valid, (1 - TUNED) * seconds)
    below = reconstruction_loss(sae, valid)
    taken += train_jointly(sae, images, valid, TUNED * seconds, peak=TUNING_RATE)
    rows.append(("greedy, then fine_tune", sae.evaluate(valid), taken, 0.0))
    print(f"loss of level 0 alone: {below:.2e}, after fine_tune {reconstruction_loss(sae, valid):.2e}", flush=True)

    sae = new_stack(**FASHION)
    taken = train_jointly(sae, images, valid, seconds)
    rows.append(("joint", sae.evaluate(valid), taken, 0.0))
    return [row(*ABOUT, "PCA", pca, pca), *(row(*ABOUT, name, loss, pca, *times) for name, loss, *times in rows)]


def reconstruction_loss(sae: Autoencoder, images: np.ndarray, level: int = 0) -> float:
    """The mean squared error of the images that one level and the levels below it reconstruct."""
    return float(np.mean(np.square(sae.reconstruct(images, level=level) - images)))


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="training time of each design")
    parser.add_argument("--count", type=int, help="maximum number of training images, for a quick try")
    arguments = parser.parse_args(argv)
    rows = compare_fashion(arguments.minutes, arguments.count)
    table.show(rows)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
