"""Dense autoencoders with tied weights: three published nets, each plain and tied, with their optimizer and with ours.

    python examples/tied_dense_fashion_mnist.py

A tied decoder uses the encoder's kernels, transposed, and has only its biases to itself: half of the weights. Three
nets:

    784-392-196   SELU, mean squared error, SGD with learning rate 1.5: known for its counts, 770,084 and 385,924
    784-100-30    ReLU, mean squared error: Géron, "Hands-On Machine Learning", chapter 17, tied, 0.0133
    784-64-36     LeakyReLU 0.2, sigmoid at the end, binary cross-entropy, Adam

About nine minutes on two cores. Expect 0.0119 for Géron's net, the exact counts, and tied nets that lose up to a tenth
more than plain ones. Written to ./tied_dense:

    reconstructions.png    clothes over what comes back from each tied net
    losses.png             loss over the epochs
"""

import keras
import numpy as np
from clothes import compare, load, parser

from stacked_autoencoder import Autoencoder, DenseLevel, plots

BATCH = 64
SHOWN = 10
NETS = {
    "784-392-196": {"units": [392, 196], "activation": "selu"},
    "784-100-30": {"units": [100, 30], "activation": "relu"},
    "784-64-36": {
        "units": [64, 36],
        "activation": "leaky_relu",  # Keras's has a slope of 0.2
        "output_activation": "sigmoid",
        "loss": "binary_crossentropy",
    },
}
OPTIMIZERS = {"784-392-196": keras.optimizers.SGD(1.5), "784-100-30": keras.optimizers.Nadam(), "784-64-36": "adam"}
PUBLISHED_COUNTS = {False: 770_084, True: 385_924}
PUBLISHED_LOSS = 0.0133


def main(argv: list[str] | None = None) -> dict[tuple[str, bool, str], float]:
    arguments = parser(__doc__, "tied_dense", epochs=6).parse_args(argv)
    data = load(arguments.dataset, arguments.count)  # images (55000, 28, 28, 1), float32 in [0, 1]

    # === Train every net, plain and tied, with both optimizers ===
    losses, histories, stacks = {}, {}, {}
    for name, net in NETS.items():
        for tied in (False, True):
            for design, optimizer in (("published optimizer", OPTIMIZERS[name]), ("ours", None)):
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
                print(f"{name} {'tied ' if tied else 'plain'} {design:19} mean squared error {losses[key]:.5f}")
            sae.summary()

    # === What was published, and what was reached ===
    rows = [
        (
            f"784-392-196 {'tied' if tied else 'plain'}: weights",
            f"{count:,}",
            f"{stacks['784-392-196', tied, 'ours'].count_params():,}",
        )
        for tied, count in PUBLISHED_COUNTS.items()
    ]
    rows += [
        (f"784-100-30 tied: error, {design}", f"{PUBLISHED_LOSS}", f"{losses['784-100-30', True, design]:.4f}")
        for design in ("published optimizer", "ours")
    ]
    compare(arguments.dataset, rows)

    # === Look ===
    arguments.out.mkdir(parents=True, exist_ok=True)
    shown = data.test_images[:SHOWN]
    pictures = {f"{name}\ntied": np.clip(stacks[name, True, "ours"].reconstruct(shown), 0, 1) for name in NETS}
    plots.reconstructions(shown, pictures, value_range=(0, 1)).savefig(arguments.out / "reconstructions.png", dpi=110)
    tied_keys = [key for key in histories if key[1]]
    labels = [f"{name}, {design}" for name, _, design in tied_keys]
    plots.loss_curves([histories[key] for key in tied_keys], labels).savefig(arguments.out / "losses.png", dpi=110)
    return losses


if __name__ == "__main__":
    main()
