"""Variational autoencoders: clothes that nobody has made, and a map of those that somebody has.

    python examples/variational.py

With `kl_weight` a level's encodings are distributions while it trains, kept near the standard normal, from which
`sample` draws afterwards (Kingma and Welling 2014, "Auto-encoding variational Bayes"). The level starts near the best
linear model of that kind, in closed form (Lucas et al. 2019, "Don't blame the ELBO!"). Three of them:

    dense    784-150-100-10: Géron, "Hands-On Machine Learning" (chapter 17), whose validation loss, of images restored
             from drawn codes and of the divergence together, is 0.0311 after 25 epochs; with Nadam, as published,
             and with our optimizer
    plane    784-150-100-2, a code that can be drawn on paper
    stack    a convolutional level to 7x7x8, and on its encodings 150-100-10: a draw is decoded by both

About nine minutes on two cores. Expect 0.0300 for Géron's net and 0.033 for the plane. Written to ./variational:

    samples.png            draws from the standard normal, decoded
    plane.png              where the test images lie in the plane, and what its places decode to
    reconstructions.png    test images over what comes back from the mean of their codes
    losses.png             the terms of the loss over the epochs
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist

import keras
import numpy as np
from clothes import CLASSES, compare, load, parser
from matplotlib.figure import Figure

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, plots

SHAPE = (28, 28, 1)
LEVELS = {
    "dense": lambda: [DenseLevel([150, 100, 10], kl_weight=1.0)],
    "dense, Nadam": lambda: [DenseLevel([150, 100, 10], kl_weight=1.0)],
    "plane": lambda: [DenseLevel([150, 100, 2], kl_weight=1.0)],
    # A squared error of 4 in these encodings is one of about 1 in images, so that 4 is to them what 1 is to images.
    "stack": lambda: [ConvLevel(n_out=8, n_scalings=2), DenseLevel([150, 100, 10], kl_weight=4.0)],
}
OPTIMIZERS = {"dense, Nadam": "nadam"}
BATCH = 128
FEWER = 8  # the convolutional level's epochs, by this factor
SIDE = 15  # of the grid of places in the plane
SHOWN = 10
PUBLISHED_LOSS = 0.0311


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    arguments = parser(__doc__, "variational", epochs=25).parse_args(argv)
    data = load(arguments.dataset, arguments.count)  # images (55000, 28, 28, 1), float32 in [0, 1]

    # === Train ===
    stacks, histories, figures = {}, {}, {}
    for name, levels in LEVELS.items():
        keras.utils.set_random_seed(0)
        sae = stacks[name] = Autoencoder(shape=SHAPE, levels=levels())
        below = [max(1, arguments.epochs // FEWER)] * (len(sae.levels) - 1)
        *_, histories[name] = sae.train(
            data.images,
            epochs=[*below, arguments.epochs],
            validation_data=data.valid_images,
            batch_size=BATCH,
            optimizer=OPTIMIZERS.get(name),
            verbose=0,
        )
        sae.summary()

    # === The terms of the loss ===
    print("\nlevel          start     loss  reconstruction  divergence  images from the mean code")
    for name, history in histories.items():
        best = int(np.argmin(history.history["val_loss"]))  # the epoch whose weights were kept
        row = {term: history.history[f"val_{term}"][best] for term in ("loss", "reconstruction", "kl")}
        row |= {"start": history.start_loss, "images": stacks[name].evaluate(data.valid_images)}
        form = "{0:12}  {start:6.4f}  {loss:6.4f}  {reconstruction:14.4f}  {kl:10.4f}  {images:20.4f}"
        print(form.format(name, **row))
        figures[name] = row
    title = f"784-150-100-10: error and divergence after {arguments.epochs} epochs"
    names = {"Nadam": "dense, Nadam", "ours": "dense"}
    rows = [(f"{title}, {design}", f"{PUBLISHED_LOSS}", f"{figures[names[design]]['loss']:.4f}") for design in names]
    compare(arguments.dataset, rows)

    # === A draw goes through the whole stack ===
    stack = stacks["stack"]
    samples = stack.sample(SHOWN * SHOWN // 2, seed=0)
    print(f"\nstack: {stack.encoding_shape}", end="")
    values = np.random.default_rng(0).standard_normal((len(samples), *stack.encoding_shape), dtype=np.float32)
    for level in reversed(stack.levels):
        values = level.decoder.predict(values, verbose=0)
        print(f" -> {values.shape[1:]}", end="")
    figures["stack"]["difference"] = float(np.abs(values - samples).max())
    print(f", level by level within {figures['stack']['difference']:.0e} of what `sample` gives")

    # === Look ===
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw_samples({"dense": stacks["dense"].sample(len(samples), seed=0), "stack": samples}, arguments.out)
    names = CLASSES if arguments.dataset == "fashion_mnist" else [str(digit) for digit in range(10)]
    draw_plane(stacks["plane"], data.test_images, data.test_labels, names, arguments.out)
    shown = data.test_images[:SHOWN]
    pictures = {name: sae.reconstruct(shown) for name, sae in stacks.items()}
    plots.reconstructions(shown, pictures, (0, 1)).savefig(arguments.out / "reconstructions.png", dpi=110)
    draw_losses(histories, arguments.out)
    return figures


def draw_samples(samples: Mapping[str, np.ndarray], folder: Path) -> None:
    titled = {f"{name}: draws from the prior": images for name, images in samples.items()}
    plots.grid(titled, SHOWN, (0, 1)).savefig(folder / "samples.png", dpi=110)


def draw_plane(sae: Autoencoder, images: np.ndarray, labels: np.ndarray, names: list[str], folder: Path) -> None:
    figure = Figure(figsize=(13, 6.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    plots.latent_plane(sae.encode(images), labels, names, left)
    left.set_title("encodings of test images")
    # Places between which the standard normal is equally likely to fall.
    steps = [NormalDist().inv_cdf((index + 0.5) / SIDE) for index in range(SIDE)]
    places = np.array([(x, y) for y in reversed(steps) for x in steps], np.float32)
    plots.grid(sae.decode(places), SIDE, (0, 1), right)
    right.set_title("decoded, at quantiles of the prior")
    figure.savefig(folder / "plane.png", dpi=110)


def draw_losses(histories: Mapping[str, keras.callbacks.History], folder: Path) -> None:
    figure = Figure(figsize=(4 * len(histories), 3), layout="constrained")
    for ax, (name, history) in zip(figure.subplots(1, len(histories)), histories.items(), strict=True):
        for term in ("loss", "reconstruction", "kl"):
            ax.plot(np.arange(1, len(history.epoch) + 1), history.history[f"val_{term}"], label=term)
        ax.axhline(history.start_loss, color="0.5", linestyle="--", linewidth=1, label="start")
        ax.set(title=name, xlabel="epoch", ylim=(0, None))
        ax.legend(fontsize=7, frameon=False)
    figure.savefig(folder / "losses.png", dpi=110)


if __name__ == "__main__":
    main()
