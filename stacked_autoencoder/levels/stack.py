"""The levels of an autoencoder, one on top of the other: their shapes, factors and joint models."""

from __future__ import annotations

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
from stacked_autoencoder.utils.console import aligned, show
from stacked_autoencoder.utils.forks import check_not_forked
from stacked_autoencoder.utils.images import Shape, pad_by_reflection, padded_shape
from stacked_autoencoder.utils.value_range import Range, ValueRange

BATCH = 256  # small images at once where nothing is trained: of 64x64x3, 64 at once take a fifth longer


class Stack:
    """Levels that fit onto each other.

    Args:
        shape: of one image, `(height, width, channels)`; `None` for a side that may differ. Sequences have
            `(timesteps, features)`, vectors `(features,)`.
        check_range: whether images must lie in `value_range`, or floats in [-1, 1].
        value_range: `(low, high)`, lowest and highest value that images may have, which are scaled for level 0.
        missing: what NaN in images is: `"error"`, or `"ignore"` for missing values, which level 0 sees as its
            `fill_values` and leaves out of its loss.

    Attributes:
        levels: list of `Level`, each with its `encoder` and `decoder`.
        values: the range of the images, and its scale inside the levels.
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

    @property
    def value_range(self) -> Range:
        """`(low, high)` of the images, as users pass and get them."""
        return self.values.ends

    @property
    def missing(self) -> Literal["error", "ignore"]:
        """What NaN in images is: an error, or a missing value."""
        return self.values.missing

    @property
    def factor(self) -> int:
        """By how much the whole stack divides height and width."""
        return self.factor_at(len(self.levels) - 1)

    @property
    def encoding_shape(self) -> Shape:
        """Shape of the deepest encoding, `None` where it follows the image's size."""
        return self.levels[-1].encoding_shape

    @property
    def encoder(self) -> keras.Model:
        """All encoders as one Keras model: images, sides multiples of `factor` → the deepest encodings.

        It shares its weights with the levels, so a model stacked on it can fine-tune them.
        """
        return self.encoder_to(len(self.levels) - 1)

    @property
    def decoder(self) -> keras.Model:
        """All decoders as one Keras model: the deepest encodings → images."""
        return self.decoder_from(len(self.levels) - 1)

    @property
    def source_options(self) -> dict[str, Any]:
        """What `data.adapters.as_source` is told of the images that the stack takes."""
        return {"shape": self.shape, "factor": self.factor, "values": self.values}

    def encoder_to(self, level: int) -> keras.Model:
        """The encoders down to a level as one Keras model."""
        return chain([each.encoder for each in self.levels[: level + 1]])

    def decoder_from(self, level: int) -> keras.Model:
        """The decoders from a level up as one Keras model."""
        return chain([each.decoder for each in self.levels[level::-1]])

    def add(self, level: Level) -> None:
        """Puts one more level on top; `train(images, levels=[-1])` then trains it alone."""
        if not isinstance(level, Level):
            raise ValueError(f"A level such as `ConvLevel(n_out=32)` was expected. Received: {level!r}")
        if any(level is other for other in self.levels):
            raise ValueError("This level is in the stack already; make a new one with the same arguments.")
        sees_gaps = self.missing == "ignore" and not self.levels
        if sees_gaps:
            level.objective.check_by_value()
        if not self.levels and self.values.is_scaled and getattr(level, "mask_value", None) is not None:
            raise ValueError(
                "`mask_value` marks steps on the scale that level 0 sees, and `value_range` scales the sequences. "
                "Leave `value_range` out, and scale the sequences yourself. "
                f"Received: mask_value={level.mask_value!r}, value_range={self.value_range}"
            )
        if self.levels:
            self.levels[-1].prepare_for(level)
        level.fill_values = np.zeros(self.shape[-1]) if sees_gaps else None
        level.build(self._room_for(level), len(self.levels))
        self.levels.append(level)

    def count_params(self) -> int:
        """Number of weights of all encoders and decoders."""
        return sum(level.count_params() for level in self.levels)

    def fingerprint(self, level: int, multiple: int | None = None) -> str:
        """SHA-256 of all that decides encodings: the encoders' arguments and weights, and what images are padded to.

        Args:
            multiple: what they are padded to, the factor of the whole stack by default.
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
        """Index of the level whose encodings have this fingerprint, `None` if none has.

        Encodings from before other levels were put on top count, too: their images may have been padded to less.
        """
        for index in range(len(self.levels)):
            for multiple in sorted({self.factor_at(top) for top in range(index, len(self.levels))}):
                if self.fingerprint(index, multiple) == fingerprint:
                    return index
        return None

    def summary(self, print_fn: Callable[[str], None] = print) -> None:
        """Prints a line per level: what it sees, its encoding, its factor, values per image and how many times fewer
        these are than the image's, its weights."""
        rows = [["level", "kind", "input", "encoding", "factor", "values", "ratio", "weights"]]
        for index, level in enumerate(self.levels):
            shapes = (show(level.input_shape), show(level.encoding_shape))
            values, ratio = self.values_at(index)
            sizes = ("?" if values is None else f"{values:,}", "?" if ratio is None else f"{ratio:.4g}")
            rows.append([str(index), level.kind, *shapes, str(level.factor), *sizes, f"{level.count_params():,}"])
        for line in aligned(rows, str.ljust):
            print_fn(line)
        print_fn(f"Total weights: {self.count_params():,}")

    # === Single levels, by index ===

    def factor_at(self, level: int) -> int:
        """By how much the levels down to `level` divide height and width."""
        return math.prod(each.factor for each in self.levels[: level + 1])

    def shape_at(self, level: int, images: Shape) -> Shape:
        """Shape of a level's encodings of images of such a shape, `None` where the images' is open."""
        shape = self.levels[level].encoding_shape
        if not self.levels[level].is_image:
            return shape
        height, width, _ = padded_shape(images, self.factor)
        return (*(side if side is None else side // self.factor_at(level) for side in (height, width)), shape[-1])

    def values_at(self, level: int) -> tuple[int | None, float | None]:
        """Numbers per image at a level, and input values for each of them; `None` where open sides decide."""
        shape = self.levels[level].encoding_shape
        values = None if None in shape else math.prod(shape)
        if values is not None and None not in self.shape:
            return values, math.prod(self.shape) / values
        is_image = self.levels[level].is_image
        return values, self.factor_at(level) ** 2 * self.shape[-1] / shape[-1] if is_image else None

    def index_of(self, level: int | None, name: str = "level") -> int:
        """An index as users give it (`None` for the deepest, negative from the end) → the index of a level."""
        count = len(self.levels)
        index = count - 1 if level is None else whole(level)
        if index is None or not -count <= index < count:
            raise ValueError(f"`{name}` must be an index from 0 to {count - 1} (or negative). Received: {level!r}")
        return index % count

    def indices_of(self, levels: int | Sequence[int] | None) -> list[int]:
        """The same for several levels, sorted; `None` for all."""
        if levels is None:
            levels = range(len(self.levels))
        several = levels if isinstance(levels, Iterable) else [levels]
        indices = sorted({self.index_of(index, "levels") for index in several})
        if not indices:
            raise ValueError("`levels` names the levels to train by index, at least one. Received: levels=[]")
        return indices

    def pad(self, images: np.ndarray) -> np.ndarray:
        """Height and width as multiples of the stack's factor, by reflection."""
        if not any(side % self.factor for side in images.shape[1:3]):
            return images
        return pad_by_reflection(tf.constant(images), self.factor).numpy()

    def _room_for(self, level: Level) -> Shape:
        """The shape that one more level would see.

        Sides that the whole stack doesn't divide are padded, so a new factor can change what the levels below see.
        """
        if self.levels and not self.levels[-1].is_image:
            return self.encoding_shape
        factor = self.factor * level.factor
        check_size(self.shape, factor)
        shape = padded_shape(self.shape, factor)
        if self.levels and self.levels[0].input_shape == shape:
            return self.encoding_shape
        for index, lower in enumerate(self.levels):
            shape = lower.rebuild(shape, index)
        return shape


def _image_shape(shape: Shape) -> Shape:
    sides = tuple(None if side is None else whole(side) or 0 for side in shape)  # 0 is refused like what is no number
    if len(sides) not in AXES or sides[-1] is None or any(side is not None and side < 1 for side in sides):
        raise ValueError(
            "`shape` is the shape of one image, (height, width, channels), with `None` for a side that may differ, "
            "such as (None, None, 3); (timesteps, features) of a sequence, or (features,) of a vector. "
            f"Received: shape={shape!r}"
        )
    return sides


def chain(models: list[keras.Model]) -> keras.Model:
    """Models called one after the other, as one Functional model that shares their weights."""
    if len(models) == 1:
        return models[0]
    inputs = outputs = layers.Input(models[0].input_shape[1:])
    for model in models:
        outputs = model(outputs)
    return keras.Model(inputs, outputs)


KINDS = {level.kind: level for level in (ConvLevel, DenseLevel, SequenceLevel)}  # by the name in autoencoder.json
