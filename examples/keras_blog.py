"""The autoencoders of the Keras blog, as levels: dense with 32 values, sparse, deep, and convolutional with 128.

    python examples/keras_blog.py                      # Fashion-MNIST
    python examples/keras_blog.py --dataset mnist      # as published; Keras downloads it

After "Building autoencoders in Keras" (blog.keras.io, 2016): binary cross-entropy of images in [0, 1] with a sigmoid at
the end. Published for MNIST, on the test images: dense 0.09 to 0.11, sparse 0.11, deep 0.097, convolutional 0.094. A
crossentropy of grey pixels doesn't go to zero, and those of clothes lie higher than those of digits, so each net is
also trained as published (Adam, from our start) beside ours (Muon), and a perfect copy is in the table.

About four minutes on two cores. For clothes, expect 0.28, 0.28, 0.27 and 0.26, and 0.24 for a perfect copy. Written to
./keras_blog:

    reconstructions.png    pictures over what comes back from each net
    losses.png             loss over the epochs
"""

import keras
import numpy as np
from clothes import compare, load, parser

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, plots

BATCH = 128
SHOWN = 10
PROBABILITIES = {"output_activation": "sigmoid", "loss": "binary_crossentropy"}
NETS = {
    "dense, 32 values": (0.11, lambda: [DenseLevel(32, **PROBABILITIES)]),
    "sparse, 32 values": (0.11, lambda: [DenseLevel(32, penalty=keras.regularizers.L1(1e-5), **PROBABILITIES)]),
    "deep, 32 values": (0.097, lambda: [DenseLevel([128, 64, 32], **PROBABILITIES)]),
    # 4x4x8, as published, of images that are padded from 28 to 32 pixels.
    "convolutional, 128 values": (0.094, lambda: [ConvLevel(n_out=8, n_scalings=3, size=32, **PROBABILITIES)]),
}


def main(argv: list[str] | None = None) -> dict[tuple[str, str], float]:
    arguments = parser(__doc__, "keras_blog", epochs=6).parse_args(argv)
    data = load(arguments.dataset, arguments.count)  # images (55000, 28, 28, 1), float32 in [0, 1]

    # === Train each, with the published optimizer and with ours ===
    losses, histories, stacks = {}, {}, {}
    for name, (_, levels) in NETS.items():
        for design, optimizer in (("Adam", "adam"), ("ours", None)):
            keras.utils.set_random_seed(0)
            sae = Autoencoder(shape=(28, 28, 1), levels=levels())
            (histories[name, design],) = sae.train(
                data.images,
                epochs=arguments.epochs,
                validation_data=data.valid_images,
                batch_size=BATCH,
                optimizer=optimizer,
                verbose=0,
            )
            losses[name, design] = crossentropy(data.test_images, sae.reconstruct(data.test_images))
            stacks[name] = sae
            print(f"{name:26} {design:5} test cross-entropy {losses[name, design]:.4f}")
        sae.summary()

    # === What was published (for MNIST), and what was reached ===
    copy = crossentropy(data.test_images, data.test_images)
    rows = [("a perfect copy", "", f"{copy:.4f}")]
    rows += [(f"{name}, {design}", f"{NETS[name][0]}", f"{loss:.4f}") for (name, design), loss in losses.items()]
    compare(f"cross-entropy of {arguments.dataset}", rows)

    # === Look ===
    arguments.out.mkdir(parents=True, exist_ok=True)
    shown = data.test_images[:SHOWN]
    pictures = {name.replace(", ", "\n"): sae.reconstruct(shown) for name, sae in stacks.items()}
    plots.reconstructions(shown, pictures, value_range=(0, 1)).savefig(arguments.out / "reconstructions.png", dpi=110)
    ours = {name: history for (name, design), history in histories.items() if design == "ours"}
    plots.loss_curves(list(ours.values()), list(ours)).savefig(arguments.out / "losses.png", dpi=110)
    return losses


def crossentropy(images: np.ndarray, reconstructions: np.ndarray) -> float:
    return float(np.mean(keras.losses.binary_crossentropy(images, reconstructions)))


if __name__ == "__main__":
    main()
