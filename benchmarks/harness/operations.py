"""Operations and bytes of a level, counted from its layers."""

import math

import keras
from keras import layers

from stacked_autoencoder.levels.base import Level

FLOAT = 4  # bytes
COUNTED = (layers.Conv2D, layers.Conv2DTranspose, layers.Dense)


def forward_operations(model: keras.Model) -> int:
    """Multiplications and additions of convolutions and dense layers, for one input of fixed size."""
    return sum(_operations(layer) for layer in model.layers if isinstance(layer, COUNTED))


def training_operations(level: Level) -> int:
    """Operations of a training step per image: forward, and the gradients of inputs and weights.

    The gradient of the images is not needed. Activations and the optimizer are not counted.
    """
    forward = forward_operations(level.encoder) + forward_operations(level.decoder)
    (data,) = level.encoder.inputs
    return 3 * forward - sum(
        _operations(layer) for layer in level.encoder.layers if isinstance(layer, COUNTED) and layer.input is data
    )


def forward_bytes(model: keras.Model) -> int:
    """Bytes moved between processor and memory for one input of fixed size, without caches.

    The output of each layer is written once and read once, in single precision.
    """
    return sum(2 * FLOAT * math.prod(layer.output.shape[1:]) for layer in model.layers)


def training_bytes(level: Level) -> int:
    """Bytes of a training step per image: three times as many, because of the gradients."""
    return 3 * (forward_bytes(level.encoder) + forward_bytes(level.decoder))


def _operations(layer: layers.Layer) -> int:
    """Each kernel weight is used once per output position; in a transposed convolution, once per input position."""
    positions = layer.input if isinstance(layer, layers.Conv2DTranspose) else layer.output
    return 2 * math.prod(layer.kernel.shape) * math.prod(positions.shape[1:-1])


MATRIX = 2048
