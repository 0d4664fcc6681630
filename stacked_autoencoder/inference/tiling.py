"""Large images through the levels of a stack tile by tile, with the numbers that they would have whole.

┌──────┬──────┐   A tile is read with a halo: as many pixels around it as its values depend on. What comes out is
│ ┌──┬─┼──┐   │   cut back to the tile. At the border of the image there is no halo, so that a convolution pads
├─┼──┼─┼──┼───┤   with zeros where it would in the whole image.
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

TILE = 2048  # default side: as many pixels as a batch of small images
POINTWISE = (layers.Activation, layers.Add, layers.Multiply)


Window = tuple[slice, slice]  # rows and columns


class ReceptiveField(NamedTuple):
    """The receptive field along one side: the value at `i` depends on the inputs from `i * step + low` to
    `i * step + high`. Fractions where the step is smaller than one.
    """

    step: Fraction = Fraction(1)
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)

    def through(self, layer: layers.Layer) -> ReceptiveField:
        """That of the layer's outputs, if this is that of its inputs.

        Reference:
            Araujo et al. 2019, "Computing receptive fields of convolutional neural networks", Distill.

        Raises:
            ValueError: the layer's reach isn't known.
        """
        if isinstance(layer, POINTWISE):
            return self
        if isinstance(layer, layers.UpSampling2D) and len(set(layer.size)) == 1:
            if layer.interpolation != "nearest":
                raise ValueError(
                    f"Keras's {layer.interpolation} UpSampling2D needs images of one known size, so there are no "
                    'tiles: give `tile=None` for whole images, or take `upsampling="nearest"`.'
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
        raise ValueError(f"How far the layer {layer.name!r} ({type(layer).__name__}) looks isn't known.")

    @property
    def halo(self) -> tuple[int, int]:
        """How many encodings on each side of a tile it takes to compute the tile's, or its pixels'."""
        if self.step >= 1:  # down, `step` pixels per encoding
            return math.ceil(-self.low / self.step), math.ceil((self.high + 1) / self.step) - 1
        return math.floor(-self.low), math.floor(self.high + 1 - self.step)


def opened(model: keras.Model, reach: ReceptiveField) -> tuple[keras.Model, ReceptiveField]:
    """The same layers on images of any size, and the reach of the outputs, if `reach` is that of the inputs."""
    reaches: dict[int, ReceptiveField] = {}

    def call(layer: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        seen = [reaches.get(id(tensor), reach) for tensor in tree.flatten(args)]
        (step,) = {one.step for one in seen}
        widest = ReceptiveField(step, min(one.low for one in seen), max(one.high for one in seen))
        reaches[id(outputs)] = widest.through(layer)
        return outputs

    inputs = keras.Input((None, None, model.input_shape[-1]), dtype=model.inputs[0].dtype)
    twin = keras.models.clone_model(model, inputs, clone_function=lambda layer: layer, call_function=call)
    return twin, reaches[id(twin.output)]


def default_side(size: Shape) -> int | None:
    """Side of the tiles of an image of `(height, width)`, `None` to take it whole."""
    return None if math.prod(size) <= PIXELS else TILE


class Tiler:
    """Encoders, or decoders, one after the other, on one tile at a time.

    Args:
        models: in the order in which they are called. They may have been built for one size.

    Attributes:
        factor: by how much they divide height and width, or multiply.
    """

    def __init__(self, models: Sequence[keras.Model]) -> None:
        self.calls = []
        reach = ReceptiveField()
        for model in models:
            model, reach = opened(model, reach)
            self.calls.append(compiled(patch_by_patch(model)))
        self.factor = int(max(reach.step, 1 / reach.step))
        self.before, self.after = reach.halo

    def __call__(self, tile: tf.Tensor) -> np.ndarray:
        """`(height, width, channels)` → the same of the last model's outputs."""
        values = tf.convert_to_tensor(tile)[None]
        for call in self.calls:
            values = call(values)
        return np.asarray(values)[0]

    def tiles(self, size: tuple[int, int], side: int) -> Iterator[tuple[Window, Window, Window]]:
        """Each tile of `size` encodings: where it is, where it is with its halo, and where in that.

        Args:
            side: of a tile, in pixels; no tile is smaller than one encoding.
        """
        step = max(1, side // self.factor)
        rows, columns = ([self._span(start, step, end) for start in range(0, end, step)] for end in size)
        for row in rows:
            for column in columns:
                yield tuple(zip(row, column, strict=True))

    def _span(self, start: int, step: int, end: int) -> tuple[slice, slice, slice]:
        stop = min(start + step, end)
        first, last = max(0, start - self.before), min(end, stop + self.after)
        return slice(start, stop), slice(first, last), slice(start - first, stop - first)


tiler = lru_cache(maxsize=4)(Tiler)  # of the same models; tracing takes as long as a few tiles


def encode_tiles(
    tiler: Tiler, image: np.ndarray, multiple: int, side: int, scale: Callable[[np.ndarray], tf.Tensor]
) -> np.ndarray:
    """Encodes one image.

    Args:
        image: `(H, W, C)` as it is, unscaled; may be memory-mapped, since it is read tile by tile.
        multiple: what height and width are padded to.
        side: of a tile, in pixels.
        scale: makes float32 on the scale of level 0 of a part of the image.

    Returns:
        `(h, w, features)` float32.
    """
    height, width, _ = (length // tiler.factor for length in padded_shape(image.shape, multiple))
    encodings = None
    for there, with_halo, within in tiler.tiles((height, width), side):
        tile = tiler(scale(_reflected(image, *_times(with_halo, tiler.factor))))[within]
        if encodings is None:
            encodings = np.empty((height, width, tile.shape[-1]), np.float32)
        encodings[there] = tile
    return encodings


def decode_tiles(tiler: Tiler, encodings: np.ndarray, side: int) -> np.ndarray:
    """Decodes the encodings `(h, w, features)` of one image, by tiles of `side` pixels, to `(H, W, C)` float32."""
    image = None
    for there, with_halo, within in tiler.tiles(encodings.shape[:2], side):
        values = tiler(encodings[with_halo])[_times(within, tiler.factor)]
        if image is None:
            image = np.empty((*(length * tiler.factor for length in encodings.shape[:2]), values.shape[-1]), np.float32)
        image[_times(there, tiler.factor)] = values
    return image


def _times(window: Window, factor: int) -> Window:
    """From encodings to pixels."""
    return tuple(slice(span.start * factor, span.stop * factor) for span in window)


def _reflected(image: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """A part of an image that may go over its end, where it is reflected as `pad_by_reflection` does."""
    if rows.stop <= image.shape[0] and columns.stop <= image.shape[1]:
        return image[rows, columns]
    indices = [np.arange(span.start, span.stop) for span in (rows, columns)]
    last = [length - 1 for length in image.shape[:2]]
    return image[np.ix_(*(end - abs(end - index) for index, end in zip(indices, last, strict=True)))]
