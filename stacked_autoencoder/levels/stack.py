"""The levels of an autoencoder: their shapes, factors and joint Keras models."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.conv import ConvLevel
from stacked_autoencoder.levels.dense import DenseLevel
from stacked_autoencoder.levels.sequence import SequenceLevel
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.checks import AXES, MISSING, check_size, did_you_mean, whole
from stacked_autoencoder.utils.console import aligned, shape_text
from stacked_autoencoder.utils.forks import check_not_forked
from stacked_autoencoder.utils.images import Shape, pad_by_reflection, padded_shape
from stacked_autoencoder.utils.value_range import Range, ValueRange, Values

BATCH = 256  # batch size without training. With 64 instead, 64x64x3 images take 20 % longer.


class Stack:
    """The levels of an `Autoencoder`. Each level encodes the encodings of the level below.

    Args:
        shape: shape of one image, `(height, width, channels)`, with `None` for a side that may differ between images.
            Sequences have the shape `(timesteps, features)`, vectors `(features,)`.
        check_range: whether images must lie in `value_range`, or in [-1, 1] without a `value_range`.
        value_range: `(low, high)`, the lowest and highest possible value of the images. They are scaled for level 0.
        missing: meaning of NaN in images: `"error"`, or `"ignore"` for missing values. Level 0 then receives
            `fill_values` in their place and leaves them out of its loss.

    Attributes:
        levels: list of `Level`.
        values: `ValueRange` of the images and its scale inside the levels.
    """

    def __init__(
        self,
        shape: Shape,
        check_range: bool = True,
        value_range: Range | None = None,
        missing: Literal["error", "ignore"] = "error",
    ) -> None:
        check_not_forked()
        if missing not in MISSING:
            raise ValueError(
                f"`missing` must be one of {', '.join(map(repr, MISSING))}: {did_you_mean(missing, MISSING)}"
                f"Received: missing={missing!r}"
            )
        self.shape = _image_shape(shape)
        if value_range is None:
            is_checked = check_range and len(self.shape) == 3  # other data aren't pixels
            self.values = ValueRange(is_checked=is_checked, missing=missing)
        else:
            self.values = ValueRange.given(value_range, check_range, missing)
        self.levels: list[Level] = []
        self._chains: dict[tuple[int, ...], keras.Model] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_chains": {}}  # Keras would pickle their weights again

    @property
    def value_range(self) -> Range:
        """`(low, high)`: value range of the images that users pass and receive."""
        return self.values.ends

    @property
    def missing(self) -> Literal["error", "ignore"]:
        """Meaning of NaN in images: `"error"`, or `"ignore"` for missing values."""
        return self.values.missing

    @property
    def factor(self) -> int:
        """Factor by which the whole stack divides height and width."""
        return self.factor_at(len(self.levels) - 1)

    @property
    def encoding_shape(self) -> Shape:
        """Shape of one encoding of the last level. `None` marks sides that depend on the image."""
        return self.levels[-1].encoding_shape

    @property
    def encoder(self) -> keras.Model:
        """All encoders as one Keras model, from images to the encodings of the last level.

        Height and width of the images must be multiples of `factor`. The model shares its weights with the levels, so
        you can fine-tune them in a larger model. It is the same object at each access, until a level is added.
        """
        return self.encoder_to(len(self.levels) - 1)

    @property
    def decoder(self) -> keras.Model:
        """All decoders as one Keras model, from the encodings of the last level to images."""
        return self.decoder_from(len(self.levels) - 1)

    @property
    def source_options(self) -> dict[str, Any]:
        """Arguments of `data.adapters.as_source` that describe the images of this stack."""
        return {"shape": self.shape, "factor": self.factor, "values": self.values}

    def encoder_to(self, level: int) -> keras.Model:
        """Returns the encoders from level 0 to `level` as one Keras model."""
        return self._chain([each.encoder for each in self.levels[: level + 1]])

    def decoder_from(self, level: int) -> keras.Model:
        """Returns the decoders from `level` to level 0 as one Keras model."""
        return self._chain([each.decoder for each in self.levels[level::-1]])

    def _chain(self, models: list[keras.Model]) -> keras.Model:
        key = tuple(map(id, models))  # of models that the chain refers to, so they stay unique
        if key not in self._chains:
            self._chains[key] = chain(models)
        return self._chains[key]

    def add(self, level: Level) -> None:
        """Adds a level on top. `train(images, levels=[-1])` then trains only this level.

        Args:
            level: a new level, such as `ConvLevel(n_out=32)`.

        Raises:
            ValueError: it is not a level, is in a stack already, or does not fit onto the levels below.
        """
        if not isinstance(level, Level):
            raise ValueError(f"`level` must be a level, such as `ConvLevel(n_out=32)`. Received: level={level!r}")
        if any(level is other for other in self.levels):
            raise ValueError(
                "`level` is in the stack already. Create a new level with the same arguments. Received: "
                f"level={level!r}"
            )
        sees_gaps = self.missing == "ignore" and not self.levels
        if sees_gaps:
            level.objective.check_by_value()
        if not self.levels and self.values.is_scaled and getattr(level, "mask_value", None) is not None:
            raise ValueError(
                "`mask_value` marks padding by its value, but `value_range` scales all values. Leave `value_range` "
                f"out, and scale the sequences yourself. Received: mask_value={level.mask_value!r}, "
                f"value_range={self.value_range}"
            )
        if self.levels:
            self.levels[-1].prepare_for(level)
        level.fill_values = np.zeros(self.shape[-1]) if sees_gaps else None
        level.build(self._input_shape_for(level), len(self.levels))
        self.levels.append(level)
        self._chains.clear()

    def count_params(self) -> int:
        """Returns the number of weights of all levels."""
        return sum(level.count_params() for level in self.levels)

    def fingerprint(self, level: int, multiple: int | None = None) -> str:
        """Returns a SHA-256 digest of everything that determines the encodings of a level.

        That is: the arguments and weights of the encoders, the value range, and the multiple to which images are
        padded.

        Args:
            level: level index.
            multiple: height and width are padded to multiples of this number; by default the factor of the whole stack.
        """
        digest = hashlib.sha256(f"{multiple or self.factor}{self.values.key}".encode())
        for each in self.levels[: level + 1]:
            digest.update(json.dumps([each.kind, each.get_config(), each.input_shape], sort_keys=True).encode())
            for weight in each.encoder.get_weights():
                digest.update(np.ascontiguousarray(weight).data)
            if each.fill_values is not None:
                digest.update(np.float32(each.fill_values).data)
        return digest.hexdigest()

    def level_of(self, fingerprint: str) -> int | None:
        """Returns the index of the level whose encodings have this fingerprint, or `None` if there is none.

        Fingerprints from the time before further levels were added are recognised as well. Images were then padded to
        smaller multiples.
        """
        for index in range(len(self.levels)):
            for multiple in sorted({self.factor_at(top) for top in range(index, len(self.levels))}):
                if self.fingerprint(index, multiple) == fingerprint:
                    return index
        return None

    def truncated(self, n_out: int) -> Stack:
        """Creates a copy of the stack in which the encodings of the last level have only the leading features."""
        last = self.levels[-1].truncated(n_out)
        stack = copy.copy(self)
        stack.levels = [*copy.deepcopy(self.levels[:-1]), last]
        stack._chains = {}
        return stack

    def summary(self, print_fn: Callable[[str], None] = print) -> None:
        """Prints one line per level.

        The columns are: input shape, encoding shape, factor, values per image, ratio (values of the image divided by
        values of the encoding), network, and number of weights.

        Args:
            print_fn: function that receives each line.
        """
        for line in aligned(self.summary_table(), str.ljust):
            print_fn(line)
        print_fn(f"Total weights: {self.count_params():,}")

    def summary_table(self) -> list[list[str]]:
        """Returns the table that `summary` prints: the names of the columns, then one row per level."""
        rows = [["level", "kind", "input", "encoding", "factor", "values", "ratio", "network", "weights"]]
        for index, level in enumerate(self.levels):
            shapes = (shape_text(level.input_shape), shape_text(level.encoding_shape))
            values, ratio = self.values_at(index)
            sizes = ("?" if values is None else f"{values:,}", "?" if ratio is None else f"{ratio:.4g}")
            rows.append(
                [str(index), level.kind, *shapes, str(level.factor), *sizes, level.network, f"{level.count_params():,}"]
            )
        return rows

    # === Single levels, by index ===

    def factor_at(self, level: int) -> int:
        """Returns the factor by which levels 0 to `level` together divide height and width."""
        return math.prod(each.factor for each in self.levels[: level + 1])

    def shape_at(self, level: int, images: Shape) -> Shape:
        """Returns the encoding shape of a level for images of this shape. `None` marks sides that are open."""
        shape = self.levels[level].encoding_shape
        if not self.levels[level].is_image:
            return shape
        height, width, _ = padded_shape(images, self.factor)
        return (*(side if side is None else side // self.factor_at(level) for side in (height, width)), shape[-1])

    def values_at(self, level: int) -> tuple[int | None, float | None]:
        """Returns the values per encoding, and image values for each of them. `None` if they depend on open sides."""
        shape = self.levels[level].encoding_shape
        values = None if None in shape else math.prod(shape)
        if values is not None and None not in self.shape:
            return values, math.prod(self.shape) / values
        is_image = self.levels[level].is_image
        return values, self.factor_at(level) ** 2 * self.shape[-1] / shape[-1] if is_image else None

    def index_of(self, level: int | None, name: str = "level") -> int:
        """Returns the index of a level. `None` stands for the last level; negative numbers count from the end."""
        count = len(self.levels)
        index = count - 1 if level is None else whole(level)
        if index is None or not -count <= index < count:
            raise ValueError(f"`{name}` must be an index from 0 to {count - 1} (or negative). Received: {level!r}")
        return index % count

    def indices_of(self, levels: int | Sequence[int] | None) -> list[int]:
        """Returns sorted level indices for one index, several or `None` (all levels)."""
        if levels is None:
            levels = range(len(self.levels))
        indices_given = levels if isinstance(levels, Iterable) else [levels]
        indices = sorted({self.index_of(index, "levels") for index in indices_given})
        if not indices:
            raise ValueError(
                "`levels` must contain at least one index of a level, such as `levels=[-1]` for the last. "
                "Received: levels=[]"
            )
        return indices

    def pad(self, images: Values) -> Values:
        """Pads height and width of an array or a tensor by reflection to multiples of the stack's factor."""
        if not any(side % self.factor for side in images.shape[1:3]):
            return images
        padded = pad_by_reflection(tf.convert_to_tensor(images), self.factor)
        return padded.numpy() if isinstance(images, np.ndarray) else padded

    def _input_shape_for(self, level: Level) -> Shape:
        """Returns the input shape of a level on top of the stack.

        Images are padded to multiples of the factor of the whole stack, so an additional factor can change the input
        shapes of the levels below. They are then rebuilt.
        """
        if self.levels and not self.levels[-1].is_image:
            return self.encoding_shape
        factor = self.factor * level.factor
        check_size(self.shape, factor)
        shape = padded_shape(self.shape, factor)
        if self.levels and self.levels[0].input_shape == shape:
            return self.encoding_shape
        for index, level_below in enumerate(self.levels):
            shape = level_below.rebuild(shape, index)
        return shape


def _image_shape(shape: Shape) -> Shape:
    sides = tuple(None if side is None else whole(side) or 0 for side in shape)
    if len(sides) not in AXES or sides[-1] is None or any(side is not None and side < 1 for side in sides):
        raise ValueError(
            "`shape` must be the shape of one image, (height, width, channels), with `None` for a side that may "
            "differ, such as (None, None, 3). For sequences use (timesteps, features), for vectors (features,). "
            f"Received: shape={shape!r}"
        )
    return sides


def chain(models: list[keras.Model]) -> keras.Model:
    """Returns one Functional model that calls the given models one after the other and shares their weights."""
    if len(models) == 1:
        return models[0]
    inputs = outputs = layers.Input(models[0].input_shape[1:])
    for model in models:
        outputs = model(outputs)
    return keras.Model(inputs, outputs)


KINDS = {level.kind: level for level in (ConvLevel, DenseLevel, SequenceLevel)}  # name in autoencoder.json → class
