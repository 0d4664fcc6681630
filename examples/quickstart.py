"""Quickstart: train two levels on photographs, look at the reconstructions, save the stack and load it again.

Level 0 encodes 64x64x3 pixels as 16x16x32, and level 1 encodes these as 4x4x32. The script trains both, prints the
error budget, with the loss of each level beside that of principal component analysis (PCA) with the same number of
values, and saves the stack.

    python examples/quickstart.py                     # photographs from the scikit-image package
    python examples/quickstart.py --data FOLDER       # your own pictures

Expected time: one to three minutes on two cores.
Expected score: the loss of level 0 is about 13 % below that of PCA, and that of level 1 about 7 %. Both continue to
decrease with more epochs.

Files written to ./quickstart:

    reconstructions.png    validation images and their reconstructions from each level
    losses.png             loss curves of both levels
    model/                 encoder0, decoder0, encoder1 and decoder1, for `keras.models.load_model`
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from stacked_autoencoder import Autoencoder, ImageFolder, plots
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.datasets import load_photographs, random_crops, tiles
from stacked_autoencoder.inference.evaluation import table

# === Data ===
SIDE = 64
CROPS = 4000
VALIDATION_SPLIT = 0.25  # of the pictures in `--data`

# === Network and training, for level 0 and level 1 ===
SIZE = 48
EPOCHS = (3, 6)

# === Pictures ===
N_SHOWN = 8


def main(argv: list[str] | None = None) -> dict[int, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of pictures; a quarter of them is used for validation")
    parser.add_argument("--out", type=Path, default=Path("quickstart"), help="output folder for pictures and model")
    parser.add_argument("--epochs", type=int, nargs=2, default=EPOCHS, help="number of epochs of level 0 and level 1")
    parser.add_argument("--crops", type=int, default=CROPS, help="number of 64x64 training crops")
    parser.add_argument("--size", type=int, default=SIZE, help="width of the network")
    arguments = parser.parse_args(argv)
    keras.utils.set_random_seed(0)

    # === Load photographs: crops for training, tiles of other photographs for validation ===
    if arguments.data is None:
        training, validation = load_photographs("training"), load_photographs("validation")
    else:
        training, validation = (load_pictures(arguments.data, subset) for subset in ("training", "validation"))
    images = random_crops(training, arguments.crops, SIDE)  # (4000, 64, 64, 3) uint8
    valid = tiles(validation, SIDE)  # (82, 64, 64, 3) uint8

    # === Train two levels, one after the other ===
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

    # === Print the error budget of the validation images ===
    budget = sae.evaluate(valid, return_dict=True)
    print("\n" + "\n".join(table(budget)))

    # === Draw the reconstructions and the loss curves ===
    shown = valid[np.linspace(0, len(valid) - 1, N_SHOWN).astype(int)]
    rows = {
        f"level {index}\n{row['values']:.0f} values": sae.reconstruct(shown, level=index)
        for index, row in budget.items()
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    plots.reconstructions(shown / 127.5 - 1, rows).savefig(arguments.out / "reconstructions.png", dpi=110)
    plots.loss_curves(histories).savefig(arguments.out / "losses.png", dpi=110)

    # === Save the stack, and load one part of it with Keras alone ===
    path = sae.save()
    encoder = keras.models.load_model(path / "encoder0")
    print(f"\nSaved to {path}. encoder0, loaded by Keras: {encoder.input_shape} -> {encoder.output_shape}")
    return budget


def load_pictures(folder: Path, subset: str) -> list[np.ndarray]:
    """Loads the training or validation pictures of a folder, each `(H, W, 3)` uint8.

    Pictures smaller than a crop are skipped, and their names are printed.
    """
    images = ImageFolder(folder, validation_split=VALIDATION_SPLIT, subset=subset)
    source = as_source(images, (None, None, 3))
    pictures = [picture for batch in source.in_order(1, scale=False) for picture in batch]
    large_pictures = []
    for name, picture in zip(images.names, pictures, strict=True):
        if min(picture.shape[:2]) < SIDE:
            print(f"Skipped, smaller than {SIDE} pixels: {name}")
        else:
            large_pictures.append(picture)
    if not large_pictures:
        raise SystemExit(
            f"`--data` must contain pictures whose sides have at least {SIDE} pixels, for training and for validation. "
            "Add more pictures of that size. "
            f"Received: --data={folder}, where the {subset} subset has no picture of that size"
        )
    return large_pictures


if __name__ == "__main__":
    main()
