"""Photographs for examples and first trials, without a download.

The photographs come with the package scikit-image: six for training and two others for validation. They need the extra
`examples`: `pip install "stacked_autoencoder[examples]"`.

Example:
    >>> from stacked_autoencoder import Autoencoder, datasets
    >>> images = datasets.random_crops(datasets.load_photographs(), count=4000, side=64)  # (4000, 64, 64, 3) uint8
    >>> valid = datasets.tiles(datasets.load_photographs("validation"), side=64)          # (82, 64, 64, 3) uint8
    >>> sae = Autoencoder()
    >>> sae.train(images, epochs=10, validation_data=valid)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stacked_autoencoder.utils.checks import positive_int
from stacked_autoencoder.utils.files import LARGEST_FILE, expanded, open_regular

try:
    import skimage
    from PIL import Image, ImageOps
except ImportError as error:
    raise ImportError('The photographs need an extra: `pip install "stacked_autoencoder[examples]"`.') from error

__all__ = [
    "HELD_OUT",
    "TRAINING",
    "load_photographs",
    "open_picture",
    "photograph",
    "random_crops",
    "save_photographs",
    "tiles",
]

TRAINING = (
    "astronaut.png",
    "rocket.jpg",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "ihc.png",
    "motorcycle_left.png",
)
"""Names of the six photographs for training."""

# Other photographs, not other crops of the same ones: a crop next to a training crop is too easy.
HELD_OUT = ("coffee.png", "chelsea.png")
"""Names of the two photographs for validation."""


def load_photographs(subset: str = "training") -> list[np.ndarray]:
    """Loads the photographs for training or validation.

    Args:
        subset: `"training"` for six photographs, `"validation"` for two others.

    Returns:
        List of uint8 arrays `(height, width, 3)` with values from 0 to 255. Their sizes differ.

    Raises:
        ValueError: `subset` is neither `"training"` nor `"validation"`.

    Example:
        >>> images = random_crops(load_photographs(), count=4000, side=64)  # (4000, 64, 64, 3) uint8
    """
    subsets = {"training": TRAINING, "validation": HELD_OUT}
    if subset not in subsets:
        raise ValueError(f'`subset` must be "training" or "validation". Received: subset={subset!r}')
    return [photograph(name) for name in subsets[subset]]


def save_photographs(folder: str | os.PathLike[str]) -> Path:
    """Copies all eight photographs to a folder, as a sample for code that reads a folder of pictures.

    Args:
        folder: path of the folder. It is created if it does not exist. Files with the same names are overwritten.

    Returns:
        The path of the folder.

    Example:
        >>> sae.train(ImageFolder(save_photographs("photos"), crop=64), epochs=10)
    """
    folder = Path(expanded(folder))
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*TRAINING, *HELD_OUT):
        shutil.copyfile(_path_of(name), folder / name)
    return folder


def photograph(name: str) -> np.ndarray:
    """Loads one photograph.

    Args:
        name: one of the names in `TRAINING` and `HELD_OUT`, or another picture file of scikit-image.

    Returns:
        uint8 array `(height, width, 3)` with values from 0 to 255.

    Raises:
        FileNotFoundError: scikit-image has no such file.

    Example:
        >>> photograph("coffee.png").shape
        (400, 600, 3)
    """
    if not _path_of(name).is_file():
        known = ", ".join((*TRAINING, *HELD_OUT))
        raise FileNotFoundError(f"`name` must be the name of a photograph, such as {known}. Received: name={name!r}")
    return open_picture(_path_of(name))


def open_picture(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a picture file with Pillow, upright according to its EXIF orientation.

    Args:
        path: path of the file.

    Returns:
        uint8 array `(height, width, 3)` with values from 0 to 255.

    Raises:
        OSError: the file is not a picture or not a regular file, for example a named pipe.
    """
    with open_regular(path, LARGEST_FILE) as stream, Image.open(stream) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def random_crops(
    pictures: Sequence[np.ndarray], count: int, side: int, seed: int = 0, swap_colours: bool = True
) -> np.ndarray:
    """Cuts random square crops out of pictures, about the same number from each picture.

    A crop is a random square of one to two times `side`, resized to `side`, rotated by a multiple of 90 degrees and
    mirrored at random.

    Args:
        pictures: uint8 arrays `(height, width, 3)` of any sizes.
        count: total number of crops.
        side: height and width of a crop.
        seed: seed of all random choices.
        swap_colours: whether to permute the colour channels at random for half of the crops. Use it if there are only a
            few pictures, which show only some of all colours.

    Returns:
        uint8 array `(count, side, side, 3)` with values from 0 to 255.

    Raises:
        ValueError: there are no pictures, or one is not `(height, width, 3)` uint8 or smaller than `side`.

    Example:
        >>> images = random_crops(load_photographs(), count=4000, side=64)  # (4000, 64, 64, 3) uint8
    """
    count, side = positive_int("count", count), positive_int("side", side)
    _check_pictures(pictures)
    _check_croppable(pictures, side)
    rng = np.random.default_rng(seed)
    crops = np.empty((count, side, side, 3), np.uint8)
    for index in range(count):
        picture = pictures[index % len(pictures)]
        width = rng.integers(side, min(2 * side, *picture.shape[:2]) + 1)
        top, left = rng.integers(picture.shape[0] - width + 1), rng.integers(picture.shape[1] - width + 1)
        crop = picture[top : top + width, left : left + width]
        crop = np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.LANCZOS))
        crop = np.rot90(crop, rng.integers(4))
        crop = crop[:, ::-1] if rng.integers(2) else crop
        order = rng.permutation(3) if rng.integers(2) else [0, 1, 2]
        crops[index] = crop[..., order] if swap_colours else crop
    return crops


def tiles(pictures: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Cuts pictures into square tiles that do not overlap.

    Remainders at the bottom and on the right, and pictures smaller than a tile, are left out.

    Args:
        pictures: arrays `(height, width, channels)` of any sizes, with the same number of channels.
        side: height and width of a tile.

    Returns:
        Array `(N, side, side, channels)` with the values and the dtype of the pictures, picture by picture and row by
        row.

    Raises:
        ValueError: there are no pictures, or all of them are smaller than a tile.

    Example:
        >>> valid = tiles(load_photographs("validation"), side=64)  # (82, 64, 64, 3) uint8
    """
    side = positive_int("side", side)
    _check_pictures(pictures)
    parts = [
        picture[top : top + side, left : left + side]
        for picture in pictures
        for top in range(0, picture.shape[0] - side + 1, side)
        for left in range(0, picture.shape[1] - side + 1, side)
    ]
    if not parts:
        largest = max(min(picture.shape[:2]) for picture in pictures)
        raise ValueError(
            f"All pictures are smaller than a tile: use a `side` of at most {largest}. Received: side={side}"
        )
    return np.stack(parts)


def _path_of(name: str) -> Path:
    return Path(skimage.__file__).parent / "data" / name


def _check_pictures(pictures: Sequence[np.ndarray]) -> None:
    """Raises `ValueError` unless this is a list of pictures."""
    if len(pictures) == 0:
        raise ValueError("`pictures` must hold at least one picture. Received: an empty list")
    for index, picture in enumerate(pictures):
        if np.ndim(picture) != 3:
            raise ValueError(
                "`pictures` must be a list of arrays (height, width, channels): pass a single picture as `[picture]`. "
                f"Received: shape={np.shape(picture)} at index {index}"
            )


def _check_croppable(pictures: Sequence[np.ndarray], side: int) -> None:
    """Raises `ValueError` unless these are uint8 colour pictures of at least `side` pixels in height and width."""
    for index, picture in enumerate(pictures):
        if picture.shape[-1] != 3 or picture.dtype != np.uint8:
            raise ValueError(
                "`pictures` must be uint8 arrays (height, width, 3). Convert grey pictures with "
                "`np.repeat(picture, 3, axis=-1)`, and floats in [0, 1] with `np.rint(255 * picture).astype('uint8')`. "
                f"Received: {picture.dtype} of shape {picture.shape} at index {index}"
            )
        if min(picture.shape[:2]) < side:
            raise ValueError(
                f"`side` must not exceed the height and width of a picture: use a `side` of at most "
                f"{min(picture.shape[:2])}, or leave out this picture. Received: side={side}, and shape "
                f"{picture.shape} at index {index}"
            )
