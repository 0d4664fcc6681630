"""What a level has to compute, counted from its layers."""

import math

import keras
from keras import layers

from stacked_autoencoder.levels.base import Level

FLOAT = 4  # bytes
COUNTED = (layers.Conv2D, layers.Conv2DTranspose, layers.Dense)


def forward_operations(model: keras.Model) -> int:
    """Multiplications and additions in the convolutions and dense layers for one input of known size."""
    return sum(_operations(layer) for layer in model.layers if isinstance(layer, COUNTED))


def training_operations(level: Level) -> int:
    """The same for a training step, per image: products again for the gradients of inputs and for those of weights.

    Nobody needs the gradient of the data. What activations and the optimizer compute isn't counted: they are there to
    learn faster, and time without them is what a step is held against.
    """
    forward = forward_operations(level.encoder) + forward_operations(level.decoder)
    (data,) = level.encoder.inputs
    return 3 * forward - sum(
        _operations(layer) for layer in level.encoder.layers if isinstance(layer, COUNTED) and layer.input is data
    )


def forward_bytes(model: keras.Model) -> int:
    """Bytes that go between processor and memory for one input of known size, where caches keep nothing: the output of
    every layer is written once, and read once by what comes after it, in single precision."""
    return sum(2 * FLOAT * math.prod(layer.output.shape[1:]) for layer in model.layers)


def training_bytes(level: Level) -> int:
    """The same for a training step, per image: outputs once more for the gradients, and as many gradients."""
    return 3 * (forward_bytes(level.encoder) + forward_bytes(level.decoder))


def _operations(layer: layers.Layer) -> int:
    """Each weight of a kernel is used at every place of the output; of the input, where the layer is transposed."""
    places = layer.input if isinstance(layer, layers.Conv2DTranspose) else layer.output
    return 2 * math.prod(layer.kernel.shape) * math.prod(places.shape[1:-1])


MATRIX = 2048
