"""Denoising autoencoders: what comes back from masked, noisy and dark pictures, and what that takes.

    python examples/denoising.py

A level with a `corruption` sees spoilt images while it trains, spoilt anew in every step, and restores the clean ones
(Vincent et al. 2010, "Stacked denoising autoencoders", JMLR 11). Noise that is no layer, such as a camera's, comes in
pairs: `train(noisy, targets=clean)`. Two nets:

    dense    784-100-30, 30 values per picture: Géron, "Hands-On Machine Learning" (chapter 17), with Dropout(0.5) on
             its inputs, whose error on clean validation images is 0.0166 after 10 epochs
    conv     7x7x8, 392 values per picture, so that more can be restored

Each is trained on clean images, for every kind of noise, and on pairs. The table has the PSNR, against the clean test
images, of the noisy ones and of what the nets make of them.

About seven minutes on two cores. Expect 24 dB of 30 % masked, 22 dB of 50 %, 21 dB of Gaussian noise, from 13, 11 and
10 dB, and 0.0135 for Géron's net. Written to ./denoising:

    restored.png    clothes: clean, noisy, and restored by both nets, for every kind of noise
    losses_dense.png, losses_conv.png    loss over the epochs
"""

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
from clothes import compare, load, parser

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, Mask, metrics, plots

NETS = {"dense": partial(DenseLevel, [100, 30]), "conv": partial(ConvLevel, n_out=8, n_scalings=2)}
NOISES = {
    "mask 30 %": partial(Mask, 0.3),
    "mask 50 %": partial(Mask, 0.5),
    "Gaussian 0.3": partial(keras.layers.GaussianNoise, 0.3),
}
PHOTONS = 20  # that white sends to the camera in the dark
DROPOUT = partial(keras.layers.Dropout, 0.5)
PUBLISHED_LOSS = 0.0166
BATCH = 128
FEWER = 4  # the conv net's epochs, by this factor: each of them costs more
SHOWN = 8


def main(argv: list[str] | None = None) -> dict[tuple[str, str], float]:
    arguments = parser(__doc__, "denoising", epochs=10).parse_args(argv)
    data = load(arguments.dataset, arguments.count)  # images (55000, 28, 28, 1), float32 in [0, 1]
    epochs = {"dense": arguments.epochs, "conv": max(1, arguments.epochs // FEWER)}
    clean = data.images, data.valid_images

    # === For each kind of noise that is a layer, both nets; and both without noise ===
    stacks, histories = {}, {}
    for net, level in NETS.items():
        for kind, noise in {"none": None, **NOISES}.items():
            stacks[net, kind], histories[net, kind] = trained(f"{net}, {kind}", level, noise, *clean, epochs[net])
        stacks[net, "none"].summary()

    # === Pairs: pictures in the dark, and the same in the light ===
    rng = np.random.default_rng(0)
    dark, dark_valid, dark_test = (
        in_the_dark(images, rng) for images in (data.images, data.valid_images, data.test_images)
    )
    for net, level in NETS.items():
        pairs = {"validation": (dark_valid, data.valid_images), "targets": data.images}
        stacks[net, "dark"], histories[net, "dark"] = trained(
            f"{net}, dark", level, None, dark, epochs=epochs[net], **pairs
        )

    # === Noisy test images, the same for every net ===
    noisy = {kind: np.asarray(noise(seed=1)(data.test_images, training=True)) for kind, noise in NOISES.items()}
    noisy["dark"] = dark_test
    figures = {}
    print("\nPSNR in dB      noisy" + "".join(f"  {net} trained clean  {net}" for net in NETS))
    for kind, images in noisy.items():
        figures["noisy", kind] = quality(data.test_images, images)
        print(f"{kind:14} {figures['noisy', kind]:6.2f}", end="")
        for net in NETS:
            for name, sae in ((f"{net} trained clean", stacks[net, "none"]), (net, stacks[net, kind])):
                figures[name, kind] = quality(data.test_images, sae.reconstruct(images))
                print(f"  {figures[name, kind]:{len(name)}.2f}", end="")
        print()

    # === What was published, and what was reached ===
    title, rows = f"784-100-30, Dropout(0.5): error on clean images, {epochs['dense']} epochs", []
    for design, optimizer in (("Dropout, Nadam", "nadam"), ("Dropout", None)):
        sae, histories["dense", design] = trained(
            f"dense, {design}", NETS["dense"], DROPOUT, *clean, epochs["dense"], optimizer=optimizer
        )
        error = figures["dense", design] = sae.evaluate(data.valid_images)
        rows.append((f"{title}, {optimizer or 'ours'}", f"{PUBLISHED_LOSS}", f"{error:.4f}"))
    compare(arguments.dataset, rows)

    # === Look ===
    arguments.out.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for kind, images in noisy.items():
        pictures[kind] = images[:SHOWN]
        pictures |= {f"{kind},\n{net}": stacks[net, kind].reconstruct(images[:SHOWN]) for net in NETS}
    figure = plots.reconstructions(data.test_images[:SHOWN], pictures, value_range=(0, 1))
    figure.savefig(arguments.out / "restored.png", dpi=110)
    for net in NETS:
        curves = {kind: history for (other, kind), history in histories.items() if other == net}
        figure = plots.loss_curves(list(curves.values()), list(curves))
        figure.savefig(arguments.out / f"losses_{net}.png", dpi=110)
    return figures


def trained(
    name: str,
    level: Callable[..., ConvLevel | DenseLevel],
    noise: Callable[..., keras.layers.Layer] | None,
    images: np.ndarray,
    validation: np.ndarray | tuple[np.ndarray, np.ndarray],
    epochs: int,
    targets: np.ndarray | None = None,
    optimizer: str | None = None,
) -> tuple[Autoencoder, keras.callbacks.History]:
    """A stack of one level, from the same seed whatever was trained before it."""
    keras.utils.set_random_seed(0)
    one = level(corruption=None if noise is None else noise())
    sae = Autoencoder(shape=(28, 28, 1), levels=[one], check_range=False)  # Gaussian noise leaves [-1, 1]
    (history,) = sae.train(
        images,
        epochs,
        targets=targets,
        validation_data=validation,
        batch_size=BATCH,
        optimizer=optimizer,
        verbose=0,
    )
    print(f"{name:19} loss {history.start_loss:.4f} -> {min(history.history['val_loss']):.4f}, {epochs} epochs")
    return sae, history


def in_the_dark(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A little out of focus, and by so few photons that chance shows; none beyond white is counted."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    columns = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    blurred = (columns[:, :-2] + 2 * columns[:, 1:-1] + columns[:, 2:]) / 4
    return np.minimum(rng.poisson(PHOTONS * blurred) / PHOTONS, 1).astype(np.float32)


def quality(images: np.ndarray, others: np.ndarray) -> float:
    """PSNR in dB, the mean of all pictures'."""
    return float(metrics.psnr(images, others, (0, 1)).mean())


if __name__ == "__main__":
    main()
