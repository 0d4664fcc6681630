"""Dense autoencoders with tied weights: three published networks, each untied and tied.

A tied decoder reuses the transposed kernels of the encoder and adds its own biases, so the autoencoder has about half
as many weights. The example trains three networks:

    784-392-196   SELU, mean squared error, SGD with a learning rate of 1.5; known for its number of weights: 770,084
                  untied and 385,924 tied
    784-100-30    ReLU, mean squared error, Nadam; Géron, "Hands-On Machine Learning", chapter 17, where the tied
                  network reaches an error of 0.0133
    784-64-36     LeakyReLU with slope 0.2, sigmoid output, binary cross-entropy, Adam

Each is trained twice: with its published optimizer, and with Muon, the default of this library.

    python examples/tied_dense_fashion_mnist.py

Expected time: about nine minutes on two cores.
Expected score: 0.0119 for Géron's network, the exact numbers of weights, and losses of tied networks that are up to a
tenth higher than those of untied ones.

Files written to ./tied_dense:

    reconstructions.png    test images and the reconstructions of each tied network
    losses.png             loss curves of the tied networks
"""

import keras
import numpy as np
from clothes import compare, load, parser

from stacked_autoencoder import Autoencoder, DenseLevel, plots

# === Networks, with the published optimizers and results ===
NETS = {
    "784-392-196": {"units": [392, 196], "activation": "selu"},
    "784-100-30": {"units": [100, 30], "activation": "relu"},
    "784-64-36": {
        "units": [64, 36],
        "activation": "leaky_relu",  # Keras's default slope is 0.2
        "output_activation": "sigmoid",
        "loss": "binary_crossentropy",
    },
}
OPTIMIZERS = {"784-392-196": keras.optimizers.SGD(1.5), "784-100-30": keras.optimizers.Nadam(), "784-64-36": "adam"}
PUBLISHED_COUNTS = {False: 770_084, True: 385_924}
PUBLISHED_LOSS = 0.0133

# === Training ===
BATCH = 64

# === Pictures ===
N_SHOWN = 10


def main(argv: list[str] | None = None) -> dict[tuple[str, bool, str], float]:
    arguments = parser(__doc__, "tied_dense", epochs=6).parse_args(argv)
    data = load(arguments.dataset, arguments.count)  # images (55000, 28, 28, 1), float32 in [0, 1]

    # === Train every network, untied and tied, with both optimizers ===
    losses, histories, stacks = {}, {}, {}
    for name, net in NETS.items():
        for tied in (False, True):
            for design, optimizer in (("published optimizer", OPTIMIZERS[name]), ("Muon", None)):
                keras.utils.set_random_seed(0)
                sae = Autoencoder(shape=(28, 28, 1), levels=[DenseLevel(**net, tied=tied)])
                (history,) = sae.train(
                    data.images,
                    epochs=arguments.epochs,
                    validation_data=data.valid_images,
                    batch_size=BATCH,
                    optimizer=optimizer,
                    verbose=0,
                )
                key = name, tied, design
                losses[key], histories[key], stacks[key] = sae.evaluate(data.valid_images), history, sae
                print(f"{name} {'tied  ' if tied else 'untied'} {design:19} mean squared error {losses[key]:.5f}")
            sae.summary()

    # === Compare with the published numbers ===
    rows = [
        (
            f"784-392-196 {'tied' if tied else 'untied'}: number of weights",
            f"{count:,}",
            f"{stacks['784-392-196', tied, 'Muon'].count_params():,}",
        )
        for tied, count in PUBLISHED_COUNTS.items()
    ]
    rows += [
        (f"784-100-30 tied: error, {design}", f"{PUBLISHED_LOSS}", f"{losses['784-100-30', True, design]:.4f}")
        for design in ("published optimizer", "Muon")
    ]
    compare(arguments.dataset, rows)

    # === Draw the reconstructions and the loss curves of the tied networks ===
    arguments.out.mkdir(parents=True, exist_ok=True)
    shown = data.test_images[:N_SHOWN]
    pictures = {f"{name}\ntied": np.clip(stacks[name, True, "Muon"].reconstruct(shown), 0, 1) for name in NETS}
    plots.reconstructions(shown, pictures, value_range=(0, 1)).savefig(arguments.out / "reconstructions.png", dpi=110)
    tied_keys = [key for key in histories if key[1]]
    labels = [f"{name}, {design}" for name, _, design in tied_keys]
    plots.loss_curves([histories[key] for key in tied_keys], labels).savefig(arguments.out / "losses.png", dpi=110)
    return losses


if __name__ == "__main__":
    main()
