"""The levels that `Autoencoder` creates from sizes."""

from __future__ import annotations

from stacked_autoencoder.levels.conv import ConvLevel
from stacked_autoencoder.utils.images import Shape

# Largest side of the features from which a level computes a vector. With smaller features, the loss is higher: 0.0101
# instead of 0.0074 on Fashion-MNIST with 30 values.
VECTOR_SIDE = 8
VECTOR_DEPTH = 3  # residual blocks of a vector level on encodings that are not halved, where a block is cheap


def default_levels(
    shape: Shape,
    *,
    n_out: int,
    n_scalings: int,
    n_levels: int,
    latent_dim: int | None,
    size: int,
    depth: int | None = None,
) -> list[ConvLevel]:
    """Creates the levels of a stack.

    All levels have the same width. Image-shaped levels divide height and width by `2**n_scalings`. A level that encodes
    encodings as vectors halves height and width only as long as they are larger than `VECTOR_SIDE`, and has more blocks
    if it halves nothing.

    Args:
        shape: shape of one image.
        n_out, n_scalings, n_levels, latent_dim: as in `Autoencoder`.
        size, depth: as in `ConvLevel`.

    Raises:
        ValueError: the shape is not that of an image, or an argument is invalid.
    """
    if len(shape) != 3:
        kind, level = ("sequences", "SequenceLevel(16)") if len(shape) == 2 else ("vectors", "DenseLevel(16)")
        raise ValueError(
            f"`shape` is the shape of {kind}, and the default levels are convolutional levels, which need images. Pass "
            f"`levels=[{level}]`, or `shape=(height, width, channels)` for images, with one channel if they are grey. "
            f"Received: shape={tuple(shape)}"
        )
    levels = [ConvLevel(n_out, n_scalings, size, depth) for _ in range(n_levels)]
    if latent_dim is not None:
        if n_levels > 1:
            factor = levels[0].factor ** (n_levels - 1)
            n_scalings = _halvings([-(-side // factor) for side in shape[:-1] if side is not None])
            if depth is None and n_scalings == 0:
                depth = VECTOR_DEPTH
        levels[-1] = ConvLevel(n_out, n_scalings, size, depth, latent_dim=latent_dim)
    return levels


def _halvings(sides: list[int]) -> int:
    """Returns the number of halvings after which no side is larger than `VECTOR_SIDE`."""
    largest, halvings = max(sides, default=1), 0
    while largest > VECTOR_SIDE << halvings:
        halvings += 1
    return halvings
