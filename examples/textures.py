"""Photographs of textures from scikit-image, with painted defects, for the examples and benchmarks of anomalies."""

from itertools import pairwise

import numpy as np
import skimage.data
from scipy.ndimage import gaussian_filter
from skimage.draw import line

TEXTURES = ("brick", "grass", "gravel")
DEFECTS = ("scratch", "stain", "missing part")
SIDE = 128  # of a crop


def load_halves(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the left and the right half of a texture, each uint8 `(512, 256)`."""
    texture = getattr(skimage.data, name)()
    middle = texture.shape[1] // 2
    return texture[:, :middle], texture[:, middle:]


def crops_of(texture: np.ndarray, stride: int) -> np.ndarray:
    """Returns crops whose distance is `stride` pixels, uint8 `(N, 128, 128, 1)`. They overlap if it is below 128."""
    rows, columns = (range(0, side - SIDE + 1, stride) for side in texture.shape)
    return np.stack([texture[row : row + SIDE, column : column + SIDE] for row in rows for column in columns])[
        ..., None
    ]


def painted_crops(texture: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paints defects into random crops. The result is the same at each call.

    Args:
        texture: uint8 `(H, W)`, with sides of at least 128 pixels.
        count: number of crops with each kind of defect, and of crops without a defect.

    Returns:
        The crops, uint8 `(4 * count, 128, 128, 1)`; the masks of the defects, bool `(4 * count, 128, 128)`; and the
        kinds, one of `DEFECTS` or `"none"`, `(4 * count,)`.
    """
    rng = np.random.default_rng(0)
    images, masks, kinds = [], [], []
    for kind in (*DEFECTS, "none"):
        for _ in range(count):
            row, column = (rng.integers(0, side - SIDE + 1) for side in texture.shape)
            crop = texture[row : row + SIDE, column : column + SIDE].astype(np.float64)
            image, mask = painted(crop, kind, rng) if kind != "none" else (crop, np.zeros(crop.shape, bool))
            images.append(np.clip(np.rint(image), 0, 255).astype(np.uint8)[..., None])
            masks.append(mask)
            kinds.append(kind)
    return np.stack(images), np.stack(masks), np.array(kinds)


def painted(image: np.ndarray, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paints a defect into an image.

    Args:
        image: float64 `(128, 128)` with values in [0, 255].
        kind: one of `DEFECTS`.
        rng: source of the position, the shape and the colour of the defect.

    Returns:
        The image, float64, and the mask of the defect, bool.
    """
    if kind == "scratch":
        mask = curve(rng)
        return np.where(mask, 0.2 * image + 0.8 * rng.choice([20, 235]), image), mask
    mask = spot(rng)
    if kind == "stain":
        weight, value = gaussian_filter(mask.astype(float), 1.5) * rng.uniform(0.6, 0.8), rng.choice([30.0, 225.0])
    else:
        weight = gaussian_filter(mask.astype(float), 0.7)
        value = rng.uniform(20, 120) + rng.normal(0, 2, image.shape)
    return image * (1 - weight) + weight * value, mask


def curve(rng: np.random.Generator) -> np.ndarray:
    """Returns the mask of a bent line, two or three pixels wide."""
    angle, bend, length = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6), rng.uniform(0.25, 0.6) * SIDE
    middle = rng.uniform(0.3 * SIDE, 0.7 * SIDE, 2)
    positions = np.linspace(-0.5, 0.5, 9)[:, None]
    directions = angle + bend * positions
    points = np.rint(middle + length * positions * np.hstack([np.sin(directions), np.cos(directions)])).astype(int)
    mask = np.zeros((SIDE, SIDE), bool)
    for start, stop in pairwise(points):
        rows, columns = line(*start, *stop)
        inside = (rows >= 0) & (columns >= 0) & (rows < SIDE) & (columns < SIDE)
        mask[rows[inside], columns[inside]] = True
    return gaussian_filter(mask.astype(float), rng.choice([0.5, 0.8])) > 0.1


def spot(rng: np.random.Generator) -> np.ndarray:
    """Returns the mask of a round spot with an irregular edge."""
    radius = rng.uniform(0.07, 0.16) * SIDE
    noise = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 6)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    row, column = rng.uniform(radius, SIDE - radius, 2)
    return np.hypot(rows - row, columns - column) / radius + 0.25 * noise / noise.std() < 1
