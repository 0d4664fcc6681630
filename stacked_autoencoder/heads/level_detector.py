"""`LevelDetector`: the features of one level of a stack, and their distances from those of normal images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.heads.anomaly_features import (
    error_network,
    feature_network,
    map_network,
    strides_of,
    vector_feature_network,
)
from stacked_autoencoder.heads.gaussian_detector import GaussianDetector
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.inference import compiled
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.utils.images import Shape


class LevelFeatures(NamedTuple):
    """The features of a batch of images at one level.

    They are tensors, since TensorFlow copies NumPy arrays.

    Attributes:
        features: float32 `(N, h, w, D)`, for scores.
        errors: float32 `(N, H, W, C)`, errors of the reconstruction for maps; `None` if maps use `features`.
    """

    features: tf.Tensor
    errors: tf.Tensor | None


class LevelDetector:
    """The features of one level, and their Gaussians.

    Encodings with places, that is, images and sequences, have a feature vector at each place. For other encodings,
    the encoding and the errors of the decoder are one feature vector, and maps show the errors of the reconstruction.

    Args:
        stack: the stack.
        index: index of the level.
        uses_errors: whether errors of the reconstruction are features. They are not known for encodings of a store.

    Attributes:
        uses_images: whether the features of an image-shaped level include errors of PCA.
        gaussians: `GaussianDetector` of the features.
        error_gaussians: `GaussianDetector` of the errors, for maps; `None` if maps use the features, or there are none.
    """

    def __init__(self, stack: Stack, index: int, uses_errors: bool) -> None:
        self.level, self.index, self.factor = stack.levels[index], index, stack.factor_at(index)
        self.uses_errors, self.below = uses_errors, stack.levels[:index]
        self.first = first = stack.levels[0]
        if self.level.is_image:
            code = self.level.linear_code if uses_errors else None
            if code is not None and code.components.shape[0] == code.components.shape[1]:
                code = None  # it has no errors
            self.uses_images = code is not None
            scale = float(np.mean(self.level.std))
            self.network = feature_network(self.level.encoding_shape, first.input_shape, code, self.factor, scale)
        else:
            self.network = vector_feature_network(self.level, _error_unit(self.level) if uses_errors else None)
        self._compute_features = compiled(self.network)
        self.gaussians = GaussianDetector(self.network.output_shape[1:])
        self.error_gaussians: GaussianDetector | None = None
        has_errors = len(self.level.encoding_shape) == 1 and uses_errors and not first.is_image
        if has_errors:
            self.error_network = error_network(first)
            self._compute_errors = compiled(self.error_network)
            is_table = len(first.input_shape) == 1
            self.error_gaussians = GaussianDetector(self.error_network.output_shape[1:], is_table)

    @property
    def has_map(self) -> bool:
        """Whether `maps` is available."""
        return self.map_gaussians is not None

    @property
    def map_gaussians(self) -> GaussianDetector | None:
        """The Gaussians whose distances are shown in maps."""
        has_places = len(self.level.encoding_shape) > 1
        return self.gaussians if has_places else self.error_gaussians

    @property
    def detectors(self) -> dict[str, GaussianDetector]:
        """The Gaussians, by the prefix of the names of their arrays in a saved detector."""
        errors = {} if self.error_gaussians is None else {"error_": self.error_gaussians}
        return {"": self.gaussians} | errors

    def state(self) -> dict[str, np.ndarray]:
        """Returns the sums and the samples of all Gaussians as arrays. Their names end with the index of the level."""
        return {
            f"{prefix}{name}{self.index}": array
            for prefix, gaussians in self.detectors.items()
            for name, array in gaussians.state().items()
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Sets what `state` returned.

        Raises:
            ValueError: the arrays do not belong to this level.
            KeyError: an array is missing.
        """
        for prefix, gaussians in self.detectors.items():
            gaussians.restore({name: state[f"{prefix}{name}{self.index}"] for name in gaussians.STATE})

    def _network_inputs(
        self, encodings: Any, inputs: Any, images: Any, decode: Callable[[Level, Any], Any]
    ) -> tuple[list[Any], list[Any]]:
        """Returns the inputs of `network`, and those of `error_network`, which are empty without such a network.

        Args:
            encodings, inputs, images: as in `features`.
            decode: function that decodes encodings of a level.
        """
        if self.level.is_image:
            return [encodings, self.first.filled(images)] if self.uses_images else [encodings], []
        if not self.uses_errors:
            return [encodings], []
        decoded = decode(self.level, encodings)
        of_network = [encodings, decoded, inputs]
        if self.error_gaussians is None:
            return of_network, []
        for level in reversed(self.below):
            decoded = decode(level, decoded)
        return of_network, [decoded, images]

    def features(
        self, encodings: np.ndarray, inputs: np.ndarray | None, images: np.ndarray | tf.Tensor | None
    ) -> LevelFeatures:
        """Returns the features of a batch.

        Args:
            encodings: encodings of this level.
            inputs: what they encode; `None` for encodings of a store.
            images: the padded images, on the scale of level 0; `None` for encodings of a store.
        """
        of_network, of_errors = self._network_inputs(encodings, inputs, images, lambda level, each: level.decode(each))
        features = self._compute_features(*map(tf.convert_to_tensor, of_network))
        errors = self._compute_errors(*map(tf.convert_to_tensor, of_errors)) if of_errors else None
        return LevelFeatures(features, errors)

    def sample_room(self, features: LevelFeatures) -> int:
        """Returns how many more images of this size can be kept for the cross-validation."""
        return min(
            gaussians.sample_room(tuple(values.shape[1:3]))
            for gaussians, values in zip(self.detectors.values(), features, strict=False)
        )

    def add(self, features: LevelFeatures, sampled: int) -> None:
        """Adds the features of normal images. Keeps those of the first `sampled` ones."""
        for gaussians, values in zip(self.detectors.values(), features, strict=False):
            gaussians.add(np.asarray(values), sampled)

    def finish(self) -> None:
        """Fits the Gaussians."""
        for gaussians in self.detectors.values():
            gaussians.finish()

    def scores(self, features: LevelFeatures) -> np.ndarray:
        """Returns the scores of a batch, float64 `(N,)`."""
        return self.gaussians.scores(self.gaussians.distances(features.features))

    def maps(self, features: LevelFeatures, size: Shape) -> np.ndarray:
        """Returns the distances, relative to their mean, at each place of images of a size: float32 `(N, *size)`."""
        gaussians = self.map_gaussians
        distances = gaussians.distances(features.features if features.errors is None else features.errors)
        network = map_network(distances.shape[1:], gaussians.margins, self._step(size))
        maps = np.asarray(network(distances, training=False)) / np.float32(gaussians.scale)
        return _with_size(maps, size)

    def connected(
        self, encodings: keras.KerasTensor, inputs: keras.KerasTensor, images: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor | None]:
        """Returns the scores and, if images have a known size, the maps as functions of Keras tensors."""
        of_network, of_errors = self._network_inputs(encodings, inputs, images, lambda level, each: level.decoder(each))
        distances = self.gaussians.scorer(self.network(of_network))
        scores = ops.sqrt(ops.mean(ops.square(distances), axis=(1, 2))) / self.gaussians.scale
        size = places_of(images.shape[1:])
        if not self.has_map or None in size:
            return scores, None
        gaussians = self.map_gaussians
        if gaussians is self.error_gaussians:
            distances = gaussians.scorer(self.error_network(of_errors))
        network = map_network(distances.shape[1:], gaussians.margins, self._step(size))
        return scores, _with_size(network(distances) / gaussians.scale, size)

    def _step(self, size: Shape) -> tuple[int, int]:
        """Returns the pixels between neighbouring feature vectors of images of a size."""
        if not self.level.is_image:
            return 1, 1
        sides = self.level.encoding_shape[:-1]
        factors = [
            self.factor if None in (pixels, side) else -(-pixels // side)
            for pixels, side in zip(size, sides, strict=True)
        ]
        rows, columns = (
            factor * stride for factor, stride in zip(factors, strides_of(self.level.encoding_shape), strict=True)
        )
        return rows, columns


def _error_unit(level: Level) -> float:
    """Returns the standard deviation of what the encodings of a level decode to, the unit of errors of its decoder.

    In this unit, errors are comparable with encodings, whose mean square is about 1.
    """
    mean, std = (np.broadcast_to(each, level.encoding_shape) for each in (level.mean, level.std))
    channels = np.eye(level.encoding_shape[-1])
    steps = channels[(slice(None), *[None] * (len(level.encoding_shape) - 1))] * std
    decoded = level.decode(np.concatenate([mean[None], mean + steps]).astype(np.float32)).astype(np.float64)
    variance = np.square(decoded[1:] - decoded[0]).sum(axis=0).mean()
    return math.sqrt(variance) or 1.0


def _with_size(maps: np.ndarray | keras.KerasTensor, size: Shape) -> np.ndarray | keras.KerasTensor:
    """Cuts maps `(N, H, W)` to a size, which has one axis for sequences and vectors."""
    return maps[:, : size[0], : size[1]] if len(size) == 2 else maps[:, : size[0], 0]


def places_of(shape: Shape) -> Shape:
    """Returns the shape of the map of an image, a sequence or a vector of a shape."""
    return shape if len(shape) == 1 else shape[:-1]
