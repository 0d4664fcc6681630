"""Photographs without the internet: those that come inside scikit-image's wheel, cut into small pictures."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from stacked_autoencoder.utils.files import LARGEST_FILE, expanded, open_regular

try:
    import skimage
    from PIL import Image, ImageOps
except ImportError as error:
    raise ImportError('The photographs need an extra: `pip install "stacked_autoencoder[examples]"`.') from error


TRAINING = (
    "astronaut.png",
    "rocket.jpg",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "ihc.png",
    "motorcycle_left.png",
)


HELD_OUT = ("coffee.png", "chelsea.png")  # other pictures, not other crops: neighbours of a training crop are too easy


def open_picture(path: Path) -> np.ndarray:
    """`(H, W, 3)` uint8, upright; raises `OSError` for what isn't a regular file, such as a named pipe."""
    with open_regular(path, LARGEST_FILE) as stream, Image.open(stream) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def photograph(name: str) -> np.ndarray:
    """One of the pictures in scikit-image's wheel, `(H, W, 3)` uint8."""
    return open_picture(_path_of(name))


def load_photographs(subset: str = "training") -> list[np.ndarray]:
    """Returns the photographs in scikit-image's wheel, for training or for validation.

    Args:
        subset: `"training"` for six photographs, `"validation"` for two others.

    Returns:
        List of `(height, width, 3)` uint8 arrays of different sizes.

    Raises:
        ValueError: `subset` is neither of the two.

    Example:
        >>> images = random_crops(load_photographs(), count=4000, side=64)  # (4000, 64, 64, 3) uint8
    """
    subsets = {"training": TRAINING, "validation": HELD_OUT}
    if subset not in subsets:
        raise ValueError(f'`subset` must be "training" or "validation". Received: subset={subset!r}')
    return [photograph(name) for name in subsets[subset]]


def save_photographs(folder: str | os.PathLike[str]) -> Path:
    """Copies all eight photographs into a folder, to try code that reads a folder of pictures.

    Args:
        folder: a folder, which is created if it does not exist. Files of the same names are overwritten.

    Returns:
        The path of the folder.
    """
    folder = Path(expanded(folder))
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*TRAINING, *HELD_OUT):
        shutil.copyfile(_path_of(name), folder / name)
    return folder


def _path_of(name: str) -> Path:
    return Path(skimage.__file__).parent / "data" / name


def random_crops(
    pictures: list[np.ndarray], count: int, side: int, seed: int = 0, swap_colours: bool = True
) -> np.ndarray:
    """`count` crops `(side, side, 3)` in all, as many of each picture: zoomed out by up to 2, turned and mirrored.

    Args:
        swap_colours: swap the colour channels of half of them (red for blue, …): a few pictures hold only some of the
            colours that the next picture will show. Without, the crops are the same but for that.
    """
    rng = np.random.default_rng(seed)
    crops = np.empty((count, side, side, 3), np.uint8)
    for index in range(count):
        picture = pictures[index % len(pictures)]
        taken = rng.integers(side, min(2 * side, *picture.shape[:2]) + 1)
        top, left = rng.integers(picture.shape[0] - taken + 1), rng.integers(picture.shape[1] - taken + 1)
        crop = picture[top : top + taken, left : left + taken]
        crop = np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.LANCZOS))
        crop = np.rot90(crop, rng.integers(4))
        crop = crop[:, ::-1] if rng.integers(2) else crop
        order = rng.permutation(3) if rng.integers(2) else [0, 1, 2]
        crops[index] = crop[..., order] if swap_colours else crop
    return crops


def tiles(pictures: list[np.ndarray], side: int) -> np.ndarray:
    """Every whole tile `(side, side, 3)` of every picture, side by side."""
    return np.stack(
        [
            picture[top : top + side, left : left + side]
            for picture in pictures
            for top in range(0, picture.shape[0] - side + 1, side)
            for left in range(0, picture.shape[1] - side + 1, side)
        ]
    )
