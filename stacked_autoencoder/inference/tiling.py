"""Encoding and decoding large images tile by tile, with the same results as for whole images.

┌──────┬──────┐   A tile is read with a halo: the pixels around it that its values depend on. The output is cropped
│ ┌──┬─┼──┐   │   to the tile. At the border of the image there is no halo, so that convolutions pad with zeros as
├─┼──┼─┼──┼───┤   they do for the whole image.
│ └──┴─┼──┘   │
└──────┴──────┘
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, tree

from stacked_autoencoder.layers.patches import patch_by_patch
from stacked_autoencoder.levels.inference import compiled
from stacked_autoencoder.utils.images import PIXELS, Shape, padded_shape

TILE = 2048  # default side, with as many pixels as a batch of small images
POINTWISE = (layers.Activation, layers.Add, layers.Multiply)


Window = tuple[slice, slice]  # rows and columns


class ReceptiveField(NamedTuple):
    """The receptive field along one axis.

    The value at `i` depends on the inputs from `i * step + low` to `i * step + high`. The numbers are fractions, since
    decoders have steps smaller than 1.
    """

    step: Fraction = Fraction(1)
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)

    def through(self, layer: layers.Layer) -> ReceptiveField:
        """Returns the receptive field of the outputs of a layer, if `self` is that of its inputs.

        Raises:
            ValueError: the receptive field of this kind of layer isn't known.

        Reference:
            Araujo et al. 2019, "Computing receptive fields of convolutional neural networks", Distill.
        """
        if isinstance(layer, POINTWISE):
            return self
        if isinstance(layer, layers.UpSampling2D) and len(set(layer.size)) == 1:
            if layer.interpolation != "nearest":
                raise ValueError(
                    f"Keras's {layer.interpolation} UpSampling2D needs images of one size, and can't process tiles. "
                    'Pass `tile=None` to process whole images, or create the level with `upsampling="nearest"`. '
                    f"Received: layer {layer.name!r}"
                )
            step = self.step / layer.size[0]
            return ReceptiveField(step, self.low - self.step + step, self.high)
        kernel, stride = (set(getattr(layer, name, (0,))) for name in ("kernel_size", "strides"))
        if len(kernel) == len(stride) == 1:
            (kernel,), (stride,) = kernel, stride
            if isinstance(layer, layers.Conv2D) and layer.dilation_rate == (1, 1):
                before = (kernel - stride) // 2 if layer.padding == "same" and kernel > stride else 0
                return ReceptiveField(
                    self.step * stride, self.low - before * self.step, self.high + (kernel - 1 - before) * self.step
                )
            if isinstance(layer, layers.Conv2DTranspose) and kernel == stride:
                step = self.step / stride
                return ReceptiveField(step, self.low - self.step + step, self.high)
        raise ValueError(
            "Tiles need layers whose receptive field is known. Pass `tile=None` to process whole images. "
            f"Received: layer {layer.name!r} ({type(layer).__name__})"
        )

    @property
    def halo(self) -> tuple[int, int]:
        """The number of encodings before and after a tile that its values, or its pixels, depend on."""
        if self.step >= 1:  # an encoder, with `step` pixels per encoding
            return math.ceil(-self.low / self.step), math.ceil((self.high + 1) / self.step) - 1
        return math.floor(-self.low), math.floor(self.high + 1 - self.step)


def for_any_size(model: keras.Model, field: ReceptiveField) -> tuple[keras.Model, ReceptiveField]:
    """Returns a model with the same layers for images of any size, and the receptive field of its outputs.

    Args:
        model: the model.
        field: receptive field of the inputs.
    """
    fields: dict[int, ReceptiveField] = {}

    def call(layer: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        of_inputs = [fields.get(id(tensor), field) for tensor in tree.flatten(args)]
        (step,) = {one.step for one in of_inputs}
        widest = ReceptiveField(step, min(one.low for one in of_inputs), max(one.high for one in of_inputs))
        fields[id(outputs)] = widest.through(layer)
        return outputs

    inputs = keras.Input((None, None, model.input_shape[-1]), dtype=model.inputs[0].dtype)
    twin = keras.models.clone_model(model, inputs, clone_function=lambda layer: layer, call_function=call)
    return twin, fields[id(twin.output)]


def default_side(size: Shape) -> int | None:
    """Returns the side of the tiles for an image of `(height, width)`; `None` to process it whole."""
    return None if math.prod(size) <= PIXELS else TILE


class Tiler:
    """Applies encoders, or decoders, to one tile at a time.

    Args:
        models: the models, in the order of their calls. They may have been built for one image size.

    Attributes:
        factor: factor by which encoders divide height and width, and decoders multiply them.
    """

    def __init__(self, models: Sequence[keras.Model]) -> None:
        self.calls = []
        field = ReceptiveField()
        for model in models:
            model, field = for_any_size(model, field)
            self.calls.append(compiled(patch_by_patch(model)))
        self.factor = int(max(field.step, 1 / field.step))
        self.before, self.after = field.halo

    def __call__(self, tile: tf.Tensor) -> np.ndarray:
        """Applies the models to one tile, `(height, width, channels)`."""
        values = tf.convert_to_tensor(tile)[None]
        for call in self.calls:
            values = call(values)
        return np.asarray(values)[0]

    def tiles(self, size: tuple[int, int], side: int) -> Iterator[tuple[Window, Window, Window]]:
        """Yields three windows per tile, in encodings: the tile, the tile with its halo, and the tile within the halo.

        Args:
            size: height and width of the image, in encodings.
            side: side of a tile, in pixels; a tile has at least one encoding.
        """
        return windows(size, max(1, side // self.factor), self.before, self.after)


def windows(size: tuple[int, int], step: int, before: int, after: int) -> Iterator[tuple[Window, Window, Window]]:
    """Yields three windows per tile: the tile, the tile with its halo, and the tile within the halo.

    Args:
        size: height and width of the whole.
        step: side of a tile.
        before: width of the halo before a tile, along both axes.
        after: width of the halo after a tile.
    """

    def span(start: int, end: int) -> tuple[slice, slice, slice]:
        stop = min(start + step, end)
        first, last = max(0, start - before), min(end, stop + after)
        return slice(start, stop), slice(first, last), slice(start - first, stop - first)

    rows, columns = ([span(start, end) for start in range(0, end, step)] for end in size)
    for row in rows:
        for column in columns:
            yield tuple(zip(row, column, strict=True))


tiler = lru_cache(maxsize=4)(Tiler)  # tracing takes as long as encoding a few tiles


def encode_tiles(
    tiler: Tiler, image: np.ndarray, multiple: int, side: int, scale: Callable[[np.ndarray], tf.Tensor]
) -> np.ndarray:
    """Encodes one image.

    Args:
        tiler: the encoders.
        image: `(H, W, C)`, unscaled. It may be memory-mapped, since it is read tile by tile.
        multiple: height and width are padded to a multiple of it.
        side: side of a tile, in pixels.
        scale: converts a part of the image to float32 on the scale of level 0.

    Returns:
        `(h, w, features)` float32.
    """
    height, width, _ = (length // tiler.factor for length in padded_shape(image.shape, multiple))
    encodings = None
    for window, with_halo, within in tiler.tiles((height, width), side):
        tile = tiler(scale(reflected(image, *magnified(with_halo, tiler.factor))))[within]
        if encodings is None:
            encodings = np.empty((height, width, tile.shape[-1]), np.float32)
        encodings[window] = tile
    return encodings


def decode_tiles(tiler: Tiler, encodings: np.ndarray, side: int) -> np.ndarray:
    """Decodes the encodings `(h, w, features)` of one image to `(H, W, C)` float32, in tiles of `side` pixels."""
    image = None
    for window, with_halo, within in tiler.tiles(encodings.shape[:2], side):
        values = tiler(encodings[with_halo])[magnified(within, tiler.factor)]
        if image is None:
            image = np.empty((*(length * tiler.factor for length in encodings.shape[:2]), values.shape[-1]), np.float32)
        image[magnified(window, tiler.factor)] = values
    return image


def magnified(window: Window, factor: int) -> Window:
    """Returns a window in units that are `factor` times as small, such as pixels for a window in encodings."""
    return tuple(slice(span.start * factor, span.stop * factor) for span in window)


def reflected(image: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Returns a part of an image. Beyond its end, the image is reflected, as in `pad_by_reflection`."""
    if rows.stop <= image.shape[0] and columns.stop <= image.shape[1]:
        return image[rows, columns]
    indices = [np.arange(span.start, span.stop) for span in (rows, columns)]
    last = [length - 1 for length in image.shape[:2]]
    return image[np.ix_(*(end - abs(end - index) for index, end in zip(indices, last, strict=True)))]
