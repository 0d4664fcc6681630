"""Data of the benchmarks, which need no download.

There are three sets of different photographs. Crops of the first are for training. Tiles of the second select the
weights to keep, and have selected the default settings of this library. Tiles of the third are used only for the test
loss.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from examples import clothes
from stacked_autoencoder.datasets import HELD_OUT, TRAINING, open_picture, photograph, random_crops, tiles

SIDE = 64
CROPS = 40_000  # a few passes in five minutes; with fewer crops, networks overfit
DEBIAN_PHOTOGRAPHS = Path("/usr/share/wallpapers")
# The photographs of this size in Debian's package plasma-workspace-wallpapers; its drawings are left out.
TEST = (
    "BytheWater",
    "ColdRipple",
    "ColorfulCups",
    "DarkestHour",
    "EveningGlow",
    "FallenLeaf",
    "Grey",
    "Kite",
    "OneStandsOut",
    "Path",
    "summer_1am",
)
TEST_FILE = "contents/images/2560x1600.jpg"
TEST_SIDE = 512  # of the shorter side, as in the other sets; at full size, photographs are blurred by the camera


def add_test_photographs(parser: argparse.ArgumentParser) -> None:
    """Adds the argument for the folder of `test_pictures`."""
    text = "the folder usr/share/wallpapers of Debian's package plasma-workspace-wallpapers"
    parser.add_argument("--test-photographs", type=Path, default=DEBIAN_PHOTOGRAPHS, help=text)


def add_count(parser: argparse.ArgumentParser) -> None:
    """Adds the argument for the number of `training_crops`."""
    parser.add_argument("--count", type=int, default=CROPS, help="number of training crops")


def training_crops(count: int = CROPS, swap_colours: bool = True, side: int = SIDE) -> np.ndarray:
    """`(count, side, side, 3)` uint8, from six photographs of scikit-image."""
    return random_crops([photograph(name) for name in TRAINING], count, side, swap_colours=swap_colours)


def validation_crops(count: int, side: int) -> np.ndarray:
    """`(count, side, side, 3)` uint8, from the photographs of `validation_tiles`, for sides with few whole tiles."""
    return random_crops([photograph(name) for name in HELD_OUT], count, side, swap_colours=False)


def validation_tiles() -> np.ndarray:
    """`(N, 64, 64, 3)` uint8, from two other photographs of scikit-image."""
    return tiles([photograph(name) for name in HELD_OUT], SIDE)


def test_pictures(folder: Path) -> list[np.ndarray]:
    """The tiles `(N, 64, 64, 3)` uint8 of eleven photographs by other photographers and cameras, in `folder`."""
    paths = [folder / name / TEST_FILE for name in TEST]
    if not all(path.is_file() for path in paths):
        raise SystemExit(
            "`--test-photographs` must be a folder with the photographs of Debian's package "
            "plasma-workspace-wallpapers. Install them with `apt-get install plasma-workspace-wallpapers`, or unpack "
            f"the package and pass its folder usr/share/wallpapers. Received: --test-photographs={str(folder)!r}"
        )
    pictures = []
    for path in paths:
        picture = Image.fromarray(open_picture(path))
        shrink = TEST_SIDE / min(picture.size)
        size = tuple(round(side * shrink) for side in picture.size)
        picture = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
        pictures.append(tiles([picture], SIDE))
    return pictures


def test_tiles(folder: Path) -> np.ndarray:
    """All tiles of `test_pictures`, `(N, 64, 64, 3)` uint8."""
    return np.concatenate(test_pictures(folder))


def fashion_mnist() -> tuple[np.ndarray, np.ndarray]:
    """Training `(55000, 28, 28, 1)` and validation `(5000, 28, 28, 1)` images, float32 in [0, 1]."""
    data = clothes.load()
    return data.images, data.valid_images
