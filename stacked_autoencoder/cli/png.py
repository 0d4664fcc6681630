"""Pictures as PNG files, and on a sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow as tf

MARGIN = 4  # white pixels between pictures on a sheet
CELL = 192  # pixels, to which larger pictures are shrunk there


def write_png(file: Path, image: np.ndarray) -> None:
    """Writes one picture, `(H, W, C)` `uint8` or `uint16`."""
    if image.shape[-1] not in (1, 3):
        raise ValueError(f"Pictures have 1 or 3 channels, and these have {image.shape[-1]}: they can't be PNG files.")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(tf.io.encode_png(image).numpy())


def destinations(names: Sequence[str], folder: Path, taken: str = "") -> list[Path]:
    """A PNG file in `folder` for each picture, by its path below the folder that it came from.

    A name keeps its suffix, `a.jpg.png`, if its file would else be that of another picture as well, or what is `taken`.

    Raises:
        ValueError: a name leads out of the folder, or is there twice; a store can come from a stranger.
    """
    paths = [PurePosixPath(name) for name in names]
    for path in paths:
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise ValueError(f"A picture's name must stay below its folder. Received: {str(path)!r}")
    files = [path.with_suffix(".png") for path in paths]
    is_long = [False] * len(paths)
    while True:  # a longer name can be the short one of another picture
        count = Counter([PurePosixPath(taken), *files])
        clashing = [index for index, file in enumerate(files) if count[file] > 1]
        if not clashing:
            return [folder / file for file in files]
        if all(is_long[index] for index in clashing):
            raise ValueError(f"Each picture needs a name of its own. Received twice: {files[clashing[0]].stem!r}")
        for index in clashing:
            files[index], is_long[index] = paths[index].with_name(f"{paths[index].name}.png"), True


def sheet(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Pictures in rows, `(H, W, C)` `uint8` of any sizes, on white: `(height, width, C)`."""
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
