"""Two levels on real photographs: train, look, save, load.

    python examples/quickstart.py                     # photographs that come with scikit-image
    python examples/quickstart.py --data FOLDER       # your own pictures

It trains level 0 (64x64x3 to 16x16x32) and level 1 (to 4x4x32), one to three minutes on two cores, prints what each
level loses beside principal component analysis (PCA) of the same size, and writes to ./quickstart:

    reconstructions.png    originals over what comes back from each level
    losses.png             the loss of each level over the epochs
    model/                 encoder0, decoder0, encoder1, decoder1 for `tf.keras.models.load_model`

Expect level 0 about a tenth below PCA's loss and level 1 about five percent; both go on falling with more epochs.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from stacked_autoencoder import Autoencoder, ImageFolder, plots
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.datasets import HELD_OUT, TRAINING, photograph, random_crops, tiles
from stacked_autoencoder.inference.evaluation import table

SIDE = 64
CROPS = 4000
SHOWN = 8


def main(argv: list[str] | None = None) -> dict[int, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of pictures; a quarter of them is held out")
    parser.add_argument("--out", type=Path, default=Path("quickstart"), help="folder for pictures and model")
    parser.add_argument("--epochs", type=int, nargs=2, default=(3, 6), help="for level 0 and level 1")
    parser.add_argument("--crops", type=int, default=CROPS, help="number of 64x64 training crops")
    parser.add_argument("--size", type=int, default=48, help="width of the network")
    arguments = parser.parse_args(argv)
    keras.utils.set_random_seed(0)

    # === Data: crops of some pictures to train on, tiles of others to judge by ===
    if arguments.data is None:
        training, held_out = ([photograph(name) for name in names] for names in (TRAINING, HELD_OUT))
    else:
        training, held_out = (pictures_of(arguments.data, subset) for subset in ("training", "validation"))
    images = random_crops(training, arguments.crops, SIDE)  # (4000, 64, 64, 3) uint8
    valid = tiles(held_out, SIDE)  # (82, 64, 64, 3) uint8, of pictures that training never sees

    # === Train ===
    sae = Autoencoder(
        shape=(SIDE, SIDE, 3),
        size=arguments.size,
        n_out=32,
        n_scalings=2,
        n_levels=2,
        save_path=arguments.out / "model",
    )
    sae.summary()
    histories = sae.train(images, epochs=arguments.epochs, validation_data=valid, verbose=2)

    # === What it loses, on the held-out pictures ===
    budget = sae.evaluate(valid, return_dict=True)
    print("\n" + "\n".join(table(budget)))

    # === Look ===
    shown = valid[np.linspace(0, len(valid) - 1, SHOWN).astype(int)]
    rows = {
        f"level {index}\n{row['values']:.0f} values": sae.reconstruct(shown, level=index)
        for index, row in budget.items()
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    plots.reconstructions(shown / 127.5 - 1, rows).savefig(arguments.out / "reconstructions.png", dpi=110)
    plots.loss_curves(histories).savefig(arguments.out / "losses.png", dpi=110)

    # === Save, and load without this package ===
    path = sae.save()
    encoder = keras.models.load_model(path / "encoder0")  # plain Keras from here on
    print(f"\nSaved to {path}. encoder0 alone: {encoder.input_shape} -> {encoder.output_shape}")
    return budget


def pictures_of(folder: Path, subset: str) -> list[np.ndarray]:
    """The pictures of a subset, each `(H, W, 3)` uint8; those too small for a crop are left out, and named."""
    images = ImageFolder(folder, validation_split=0.25, subset=subset)
    source = as_source(images, (None, None, 3))
    pictures = [picture for batch in source.in_order(1, scale=False) for picture in batch]
    large = []
    for name, picture in zip(images.names, pictures, strict=True):
        if min(picture.shape[:2]) < SIDE:
            print(f"Left out, smaller than {SIDE} pixels: {name}")
        else:
            large.append(picture)
    if not large:
        raise SystemExit(
            f"--data needs at least two pictures of {SIDE} pixels or more a side, one of them in each subset. "
            f"Received: none in the {subset} subset of {folder}"
        )
    return large


if __name__ == "__main__":
    main()
