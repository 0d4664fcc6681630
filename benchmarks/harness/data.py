"""What the benchmarks run on, without the internet.

Photographs come in three sets of different *pictures*: crops of one train, tiles of the second choose (the epoch that
is kept, and this library's own default settings), tiles of the third are looked at only by the final figure.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from examples import clothes
from stacked_autoencoder.datasets import HELD_OUT, TRAINING, open_picture, photograph, random_crops, tiles

SIDE = 64
CROPS = 40_000  # so that five minutes are a few passes: fewer crops are learnt by heart
DEBIAN_PHOTOGRAPHS = Path("/usr/share/wallpapers")
# What is a photograph, and not a drawing, of those that have this size in Debian's package plasma-workspace-wallpapers.
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
TEST_SIDE = 512  # the shorter one, about that of the others: a camera blurs and compresses its single pixels


def add_test_photographs(parser: argparse.ArgumentParser) -> None:
    """The argument that says where those of `test_tiles` are."""
    text = "usr/share/wallpapers of Debian's package plasma-workspace-wallpapers"
    parser.add_argument("--test-photographs", type=Path, default=DEBIAN_PHOTOGRAPHS, help=text)


def add_count(parser: argparse.ArgumentParser) -> None:
    """The argument that says how many of `training_crops`."""
    parser.add_argument("--count", type=int, default=CROPS, help="of crops to train on; fewer, to try it out")


def training_crops(count: int = CROPS, swap_colours: bool = True, side: int = SIDE) -> np.ndarray:
    """`(count, side, side, 3)` uint8, of six photographs in scikit-image's wheel."""
    return random_crops([photograph(name) for name in TRAINING], count, side, swap_colours=swap_colours)


def validation_crops(count: int, side: int) -> np.ndarray:
    """`(count, side, side, 3)` uint8, of the two of `validation_tiles`, for sides of which few tiles fit in."""
    return random_crops([photograph(name) for name in HELD_OUT], count, side, swap_colours=False)


def validation_tiles() -> np.ndarray:
    """`(N, 64, 64, 3)` uint8, of two others in the wheel."""
    return tiles([photograph(name) for name in HELD_OUT], SIDE)


def test_tiles(folder: Path) -> np.ndarray:
    """`(N, 64, 64, 3)` uint8, of eleven photographs by other people and cameras, in a folder."""
    paths = [folder / name / TEST_FILE for name in TEST]
    if not all(path.is_file() for path in paths):
        raise SystemExit(
            "The benchmark judges by photographs in Debian's package plasma-workspace-wallpapers: install it with "
            "`apt-get install plasma-workspace-wallpapers`, or unpack it and name its usr/share/wallpapers with "
            f"--test-photographs. Received: {str(folder)!r}"
        )
    pictures = []
    for path in paths:
        picture = Image.fromarray(open_picture(path))
        shrink = TEST_SIDE / min(picture.size)
        size = tuple(round(side * shrink) for side in picture.size)
        pictures.append(np.asarray(picture.resize(size, Image.Resampling.LANCZOS)))
    return tiles(pictures, SIDE)


def fashion_mnist() -> tuple[np.ndarray, np.ndarray]:
    """Training `(55000, 28, 28, 1)` and validation `(5000, 28, 28, 1)` images, float32 in [0, 1]."""
    data = clothes.load()
    return data.images, data.valid_images
