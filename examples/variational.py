"""Variational autoencoders: generate images of clothes, and draw a map of a two-dimensional latent space.

With `kl_weight`, the encodings of a level are normal distributions during training, and the loss keeps them close to
the standard normal (Kingma and Welling 2014, "Auto-encoding variational Bayes"). After training, `sample` decodes draws
from the standard normal. The level is initialised in closed form with the best linear model of this kind (Lucas et al.
2019, "Don't blame the ELBO!"). The example trains:

    dense    784-150-100-10; Géron, "Hands-On Machine Learning", chapter 17, with a validation loss of 0.0311 after 25
             epochs. The loss is the error of images decoded from random draws, plus the divergence. It is trained with
             Nadam, as published, and with Muon, the default of this library.
    plane    784-150-100-2, whose encodings can be drawn in a plane
    stack    a convolutional level with encodings of 7x7x8, and on top of it a variational level 150-100-10; both levels
             decode a sample

    python examples/variational.py

Expected time: about nine minutes on two cores.
Expected score: 0.0300 for Géron's network and 0.033 for the plane.

Files written to ./variational:

    samples.png            decoded samples of the standard normal
    plane.png              encodings of the test images in the plane, and images decoded from a grid of points in it
    reconstructions.png    test images and their reconstructions, decoded from the means of the distributions
    losses.png             curves of the loss and of its two terms
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist

import keras
import numpy as np
from clothes import CLASSES, compare, load, parser
from matplotlib.figure import Figure

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, plots

# === Networks ===
SHAPE = (28, 28, 1)
LEVELS = {
    "dense": lambda: [DenseLevel([150, 100, 10], kl_weight=1.0)],
    "dense, Nadam": lambda: [DenseLevel([150, 100, 10], kl_weight=1.0)],
    "plane": lambda: [DenseLevel([150, 100, 2], kl_weight=1.0)],
    # A squared error of 4 in these encodings is an error of about 1 in images, so a weight of 4 for the encodings
    # corresponds to a weight of 1 for images.
    "stack": lambda: [ConvLevel(n_out=8, n_scalings=2), DenseLevel([150, 100, 10], kl_weight=4.0)],
}
PUBLISHED_LOSS = 0.0311

# === Training ===
OPTIMIZERS = {"dense, Nadam": "nadam"}
BATCH = 128
CONV_EPOCHS_DIVISOR = 8  # an epoch of the convolutional level is slower, so it gets an eighth of the epochs

# === Pictures ===
GRID_SIDE = 15  # of the grid of points in the plane
N_SHOWN = 10


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    arguments = parser(__doc__, "variational", epochs=25).parse_args(argv)
    data = load(arguments.dataset, arguments.count)  # images (55000, 28, 28, 1), float32 in [0, 1]

    # === Train every network ===
    stacks, histories, scores = {}, {}, {}
    for name, levels in LEVELS.items():
        keras.utils.set_random_seed(0)
        sae = stacks[name] = Autoencoder(shape=SHAPE, levels=levels())
        lower_epochs = [max(1, arguments.epochs // CONV_EPOCHS_DIVISOR)] * (len(sae.levels) - 1)
        *_, histories[name] = sae.train(
            data.images,
            epochs=[*lower_epochs, arguments.epochs],
            validation_data=data.valid_images,
            batch_size=BATCH,
            optimizer=OPTIMIZERS.get(name),
            verbose=0,
        )
        sae.summary()

    # === Print the terms of the loss, of the epoch whose weights were kept ===
    print("\nlevel         initial     loss  reconstruction  divergence  error from the mean encoding")
    for name, history in histories.items():
        best_epoch = int(np.argmin(history.history["val_loss"]))
        row = {term: history.history[f"val_{term}"][best_epoch] for term in ("loss", "reconstruction", "kl")}
        row |= {"start": history.start_loss, "images": stacks[name].evaluate(data.valid_images)}
        line = "{0:12}  {start:7.4f}  {loss:7.4f}  {reconstruction:14.4f}  {kl:10.4f}  {images:28.4f}"
        print(line.format(name, **row))
        scores[name] = row
    title = f"784-150-100-10: error and divergence after {arguments.epochs} epochs"
    nets = {"Nadam": "dense, Nadam", "Muon": "dense"}
    rows = [
        (f"{title}, {optimizer}", f"{PUBLISHED_LOSS}", f"{scores[name]['loss']:.4f}")
        for optimizer, name in nets.items()
    ]
    compare(arguments.dataset, rows)

    # === Decode samples level by level, which must give the same images as `sample` ===
    stack = stacks["stack"]
    samples = stack.sample(N_SHOWN * N_SHOWN // 2, seed=0)
    print(f"\nstack: {stack.encoding_shape}", end="")
    values = np.random.default_rng(0).standard_normal((len(samples), *stack.encoding_shape), dtype=np.float32)
    for level in reversed(stack.levels):
        values = level.decoder.predict(values, verbose=0)
        print(f" -> {values.shape[1:]}", end="")
    difference = scores["stack"]["difference"] = float(np.abs(values - samples).max())
    print(f", within {difference:.0e} of the images that `sample` returns")

    # === Draw samples, the plane, reconstructions and loss curves ===
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw_samples({"dense": stacks["dense"].sample(len(samples), seed=0), "stack": samples}, arguments.out)
    class_names = CLASSES if arguments.dataset == "fashion_mnist" else [str(digit) for digit in range(10)]
    draw_plane(stacks["plane"], data.test_images, data.test_labels, class_names, arguments.out)
    shown = data.test_images[:N_SHOWN]
    pictures = {name: sae.reconstruct(shown) for name, sae in stacks.items()}
    plots.reconstructions(shown, pictures, (0, 1)).savefig(arguments.out / "reconstructions.png", dpi=110)
    draw_losses(histories, arguments.out)
    return scores


def draw_samples(samples: Mapping[str, np.ndarray], folder: Path) -> None:
    titled = {f"{name}: samples of the standard normal": images for name, images in samples.items()}
    plots.grid(titled, N_SHOWN, (0, 1)).savefig(folder / "samples.png", dpi=110)


def draw_plane(sae: Autoencoder, images: np.ndarray, labels: np.ndarray, class_names: list[str], folder: Path) -> None:
    """Draws the encodings of test images, and beside them the images decoded from a grid of points."""
    figure = Figure(figsize=(13, 6.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    plots.latent_plane(sae.encode(images), labels, class_names, left)
    left.set_title("encodings of test images")
    # The coordinates are quantiles: the standard normal is equally likely to fall between any two neighbours.
    coordinates = [NormalDist().inv_cdf((index + 0.5) / GRID_SIDE) for index in range(GRID_SIDE)]
    points = np.array([(x, y) for y in reversed(coordinates) for x in coordinates], np.float32)
    plots.grid(sae.decode(points), GRID_SIDE, (0, 1), right)
    right.set_title("images decoded at quantiles of the standard normal")
    figure.savefig(folder / "plane.png", dpi=110)


def draw_losses(histories: Mapping[str, keras.callbacks.History], folder: Path) -> None:
    """Draws the validation loss and its two terms, one panel per network."""
    figure = Figure(figsize=(4 * len(histories), 3), layout="constrained")
    for ax, (name, history) in zip(figure.subplots(1, len(histories)), histories.items(), strict=True):
        for term in ("loss", "reconstruction", "kl"):
            ax.plot(np.arange(1, len(history.epoch) + 1), history.history[f"val_{term}"], label=term)
        ax.axhline(history.start_loss, color="0.5", linestyle="--", linewidth=1, label="before training")
        ax.set(title=name, xlabel="epoch", ylim=(0, None))
        ax.legend(fontsize=7, frameon=False)
    figure.savefig(folder / "losses.png", dpi=110)


if __name__ == "__main__":
    main()
