"""Pictures as PNG files, and as an overview in one picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow as tf

MARGIN = 4  # white pixels between the pictures of an overview
CELL = 192  # largest side of a picture in an overview, in pixels


def write_png(file: Path, image: np.ndarray) -> None:
    """Writes one picture, `(H, W, C)` `uint8` or `uint16`."""
    if image.shape[-1] not in (1, 3):
        raise ValueError(f"PNG files have 1 or 3 channels. Received: pictures with {image.shape[-1]} channels")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(tf.io.encode_png(image).numpy())


def destinations(names: Sequence[str], folder: Path, taken: str = "") -> list[Path]:
    """Returns a PNG file in `folder` for each picture, by its path relative to the folder of pictures.

    If two pictures would share a file, or a picture would be written to `taken`, the name keeps its suffix, as in
    `a.jpg.png`.

    Raises:
        ValueError: a name points outside of the folder, or occurs twice. Names in a store can be hostile.
    """
    paths = [PurePosixPath(name) for name in names]
    for path in paths:
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise ValueError(f"The name of a picture must not point outside of its folder. Received: {str(path)!r}")
    files = [path.with_suffix(".png") for path in paths]
    is_long = [False] * len(paths)
    while True:  # a longer name can be the short one of another picture
        count = Counter([PurePosixPath(taken), *files])
        clashing = [index for index, file in enumerate(files) if count[file] > 1]
        if not clashing:
            return [folder / file for file in files]
        if all(is_long[index] for index in clashing):
            raise ValueError(f"Names of pictures must be unique. Received twice: {files[clashing[0]].stem!r}")
        for index in clashing:
            files[index], is_long[index] = paths[index].with_name(f"{paths[index].name}.png"), True


def sheet(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Returns rows of pictures, `(H, W, C)` `uint8` of any sizes, as one picture on white, `(height, width, C)`."""
    cells = [[_shrunk(picture) for picture in row] for row in rows]
    height = max(cell.shape[0] for row in cells for cell in row) + MARGIN
    width = max(cell.shape[1] for row in cells for cell in row) + MARGIN
    columns = max(map(len, cells))
    whole = np.full((len(cells) * height + MARGIN, columns * width + MARGIN, cells[0][0].shape[-1]), 255, np.uint8)
    for line, row in enumerate(cells):
        for column, cell in enumerate(row):
            top, left = line * height + MARGIN, column * width + MARGIN
            whole[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return whole


def _shrunk(picture: np.ndarray) -> np.ndarray:
    longest = max(picture.shape[:2])
    if longest <= CELL:
        return picture
    size = [max(1, round(side * CELL / longest)) for side in picture.shape[:2]]
    return np.rint(tf.image.resize(picture, size, method="area").numpy()).astype(np.uint8)
