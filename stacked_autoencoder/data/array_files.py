"""Reads TIFF and NumPy files as arrays `(H, W, C)` with the values in the file, of any dtype and number of bands."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

TIFF_SUFFIXES = (".tif", ".tiff")
NUMPY_SUFFIXES = (".npy",)
NEEDS_TIFFFILE = 'TIFF files need the package tifffile: pip install "stacked_autoencoder[tiff]"'
# TIFF 6.0: PhotometricInterpretation, ExtraSamples and Orientation.
MOST_BANDS = 16  # of a picture with `max_pixels` pixels; smaller pictures may have more
WHITE_IS_ZERO, RGB, PALETTE, YCBCR = 0, 2, 3, 6
ALPHA = (1, 2)
PAGE = re.compile(r"(?i:(?<=\.tif)|(?<=\.tiff))#(\d+)$")  # after the name of a file
ORIENTATION_TAG = "Orientation"


def read_array(
    path: str | os.PathLike[str], channels: int, max_pixels: int | None, page: int | None = None
) -> np.ndarray:
    """Reads a TIFF or NumPy file.

    Args:
        path: path of the file.
        channels: number of channels that the picture must have. For 1 and 3, an alpha channel of a TIFF is blended onto
            white.
        max_pixels: maximum height times width, `None` for no limit. It is checked before the values are read.
        page: page of a TIFF; `None` reads all pages as bands of one picture.

    Returns:
        `(H, W, channels)` in the dtype of the file, `uint8` for a TIFF in black and white. A TIFF is turned upright
        according to its orientation.

    Raises:
        ValueError: the file is not such a picture. The message is a reason that can follow the name of the file.
        OSError: it cannot be read.
    """
    is_numpy = Path(path).suffix.lower() in NUMPY_SUFFIXES
    array = _from_numpy(path, max_pixels) if is_numpy else _from_tiff(path, channels, max_pixels, page)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"its values are {array.dtype}, not numbers")
    if array.shape[-1] != channels:
        raise ValueError(f"it has {array.shape[-1]} channels, the model was made for {channels}")
    return array


def split_page(name: str) -> tuple[str, int | None]:
    """Splits the name of a page of a TIFF file: `"scan.tif#3"` → `("scan.tif", 3)`. Other names get the page `None`."""
    match = PAGE.search(name)
    return (name, None) if match is None else (name[: match.start()], int(match[1]))


def count_pages(path: str | os.PathLike[str]) -> int:
    """Returns the number of pages of a TIFF file."""
    with _tifffile().TiffFile(path) as file:
        return len(file.pages)


def _from_numpy(path: str | os.PathLike[str], max_pixels: int | None) -> np.ndarray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)  # reads only the header
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3):
        raise ValueError(f"it must hold an array (H, W) or (H, W, C), not {getattr(array, 'shape', type(array))}")
    _check_size(array.shape[:2], max_pixels)
    return np.array(array if array.ndim == 3 else array[..., None])


def _from_tiff(path: str | os.PathLike[str], channels: int, max_pixels: int | None, page: int | None) -> np.ndarray:
    with _tifffile().TiffFile(path) as file:
        if not len(file.pages):
            raise ValueError("this TIFF file contains no picture")
        first = file.pages[page or 0]
        pages = file.pages if page is None else [first]
        if len({(each.shape, each.dtype) for each in pages}) > 1:
            raise ValueError('its pages differ in size or dtype; `pages="pictures"` takes each page as a picture')
        _check_size((first.imagelength, first.imagewidth), max_pixels)
        most_values = None if max_pixels is None else MOST_BANDS * max_pixels
        _check_size((math.prod(first.shape), len(pages)), most_values)
        convert_to = channels if len(pages) == 1 else None
        return np.concatenate([_upright(_bands_of(each, convert_to), each) for each in pages], axis=-1)


def _bands_of(page: Any, channels: int | None) -> np.ndarray:
    """Returns the values of a page, `(H, W, C)`, with `channels` channels if they can be converted."""
    array = page.asarray()
    axes = page.axes
    rest = [axis for axis, name in enumerate(axes) if name not in "YX"]
    array = array.transpose(axes.index("Y"), axes.index("X"), *rest)
    array = array.reshape(*array.shape[:2], -1)
    if page.photometric == PALETTE:
        array = (page.colormap[:, array[..., 0]].transpose(1, 2, 0) >> 8).astype(np.uint8)
    elif page.photometric == YCBCR and page.compression == 1:
        raise ValueError("its colours are YCbCr without compression, which isn't supported")
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if page.photometric == WHITE_IS_ZERO and array.dtype.kind == "u":
        array = np.iinfo(array.dtype).max - array
    has_alpha = page.extrasamples and int(page.extrasamples[-1]) in ALPHA and array.dtype.kind == "u"
    if has_alpha and channels in (1, 3) and array.shape[-1] == channels + 1:
        white = np.iinfo(array.dtype).max
        opacity = array[..., -1:] / white
        array = np.rint(white + (array[..., :-1] - float(white)) * opacity).astype(array.dtype)
    if page.photometric == RGB and channels == 1 and array.shape[-1] == 3:
        array = np.rint(array @ np.array([0.299, 0.587, 0.114]))[..., None].astype(array.dtype)  # ITU-R BT.601
    if channels == 3 and array.shape[-1] == 1:
        array = np.repeat(array, 3, axis=-1)
    return array


def _upright(array: np.ndarray, page: Any) -> np.ndarray:
    tag = page.tags.get(ORIENTATION_TAG)
    number = 1 if tag is None else int(tag.value)
    if number >= 5:
        array = array.transpose(1, 0, 2)
    return array[:: -1 if number in (3, 4, 7, 8) else 1, :: -1 if number in (2, 3, 6, 7) else 1]


def _check_size(size: tuple[int, ...], max_pixels: int | None) -> None:
    if max_pixels is not None and math.prod(size) > max_pixels:
        raise ValueError(f"{' x '.join(map(str, size))} pixels are more than `max_pixels={max_pixels}`")


def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError:
        raise ValueError(NEEDS_TIFFFILE) from None
    return tifffile
