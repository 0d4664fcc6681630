"""The part of `AnomalyDetector` for one level: distances of its encodings from Gaussians of normal ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.heads.anomaly_features import (
    distance_network,
    feature_network,
    map_network,
    strides_of,
    window_network,
)
from stacked_autoencoder.heads.place_gaussians import FeatureSums
from stacked_autoencoder.levels.base import EXACT
from stacked_autoencoder.levels.inference import compiled
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.images import Shape

FOLDS = 5  # of the cross-validation
LARGEST_WORK = 1 << 31  # places * features**3, above which there are only two folds
SAMPLED_VALUES = 1 << 25  # features that are kept for the cross-validation: 128 MB
MOST_SAMPLED = 2048  # images
FEWEST_IMAGES = 20
LEAST_GAIN = 1.0  # nats per place by which a Gaussian at each place must be more likely than one for all
WINDOW = 3  # side of the windows of a Gaussian at each place
LARGEST_SUMS = 1 << 25  # numbers in the sums of products: 256 MB
MOST_RESIDUALS = 1024  # errors of a decoded vector that are features of their own


class LevelDetector:
    """The distances of the encodings of one level from Gaussians of normal ones.

    Args:
        stack: the stack.
        index: index of the level.

    Attributes:
        sums: sums of the features of normal images.
        window_sums: sums of the features of windows, `None` if windows have one place or take too much memory.
        sample: features of the first images, for the cross-validation.
        sample_scores: their cross-validated scores.
        scale: mean of their cross-validated distances.
        is_shared: whether all places have the same Gaussian.
    """

    STATE = ("count", "first", "second", "window_first", "window_second", "sample", "sizes")

    def __init__(self, stack: Stack, index: int) -> None:
        self.level, self.factor = stack.levels[index], stack.factor_at(index)
        self.image_shape = stack.levels[0].input_shape
        self.sums: FeatureSums | None = None
        self.window_sums: FeatureSums | None = None
        self.sample: list[np.ndarray] = []
        self.sample_scores = np.empty(0)
        self.scale = 1.0
        self.is_shared = False

    @cached_property
    def network(self) -> keras.Model:
        scale = float(np.mean(self.level.std))
        return feature_network(self.level.encoding_shape, self.image_shape, self.level.linear_code, self.factor, scale)

    @cached_property
    def _compute_features(self) -> Callable[..., tf.Tensor]:
        return compiled(self.network)

    def state(self) -> dict[str, np.ndarray]:
        """Returns the sums and the sample as arrays, which are empty for windows that are not used."""
        windows = self.window_sums
        return {
            "count": np.array(self.sums.count),
            "first": self.sums.first,
            "second": self.sums.second,
            "window_first": np.empty(0) if windows is None else windows.first,
            "window_second": np.empty(0) if windows is None else windows.second,
            "sample": np.concatenate([each.reshape(-1, each.shape[-1]) for each in self.sample]),
            "sizes": np.array([each.shape[:3] for each in self.sample]),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Sets what `state` returned. Raises `ValueError` if it does not belong to this level."""
        vectors, sizes = state["sample"], state["sizes"]
        expected = self.feature_shape
        fits = sizes.ndim == 2 and sizes.shape[1:] == (3,) and sizes.dtype == np.int64 and len(sizes) > 0
        fits = fits and sizes.min() >= 1 and sizes.max() <= len(vectors)
        fits = fits and all(side is None or set(sizes[:, axis]) == {side} for axis, side in enumerate(expected[:2], 1))
        counts = [math.prod(size) for size in sizes.tolist()] if fits else []
        if vectors.dtype != np.float32 or vectors.shape != (sum(counts), expected[-1]) or not counts:
            raise ValueError("the features of the sample are not those of this level")
        self.prepare((*sizes[0, 1:].tolist(), expected[-1]))
        pieces = np.split(vectors, np.cumsum(counts)[:-1])
        self.sample = [piece.reshape(*size, -1) for piece, size in zip(pieces, sizes.tolist(), strict=True)]
        sums = [(self.sums, "")] + ([] if self.window_sums is None else [(self.window_sums, "window_")])
        for each, name in sums:
            for array, received in ((each.first, state[f"{name}first"]), (each.second, state[f"{name}second"])):
                if received.shape != array.shape or received.dtype != np.float64:
                    raise ValueError("the sums have other shapes than those of this level")
                array[...] = received
            each.count = int(state["count"])
            if each.count < 1:
                raise ValueError("the sums have no images")

    def features(self, encodings: np.ndarray, inputs: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Returns feature vectors, float32 `(N, h, w, D)`.

        Args:
            encodings: encodings of this level.
            inputs: what they encode.
            images: the input of level 0.
        """
        if self.level.is_image:
            return np.asarray(self._compute_features(tf.constant(encodings), tf.constant(images)))
        residuals = (self.level.decode(encodings) - inputs).reshape(len(inputs), -1)
        if residuals.shape[1] > MOST_RESIDUALS:
            residuals = np.sqrt(np.square(residuals).mean(axis=1, keepdims=True))
        return np.concatenate([encodings, residuals], axis=1)[:, None, None].astype(np.float32)

    def add(self, features: np.ndarray, sampled: int) -> None:
        """Adds the features of normal images, after `prepare`. Keeps those of the first `sampled` ones."""
        if sampled:
            self.sample.append(features[:sampled])
        self.sums.add(self._by_place(features))
        if self.window_sums is not None:
            self.window_sums.add(_flat(np.asarray(self.windows(features))))

    @property
    def feature_shape(self) -> Shape:
        """Shape of the features of an image, `(h, w, D)`, with `None` for open sides."""
        if self.level.is_image:
            return self.network.output_shape[1:]
        residuals = math.prod(self.level.input_shape)
        return (1, 1, self.level.encoding_shape[0] + (residuals if residuals <= MOST_RESIDUALS else 1))

    def prepare(self, shape: Shape) -> None:
        """Creates empty sums for features of a shape `(h, w, D)`, in the first call."""
        if self.sums is not None:
            return
        *sides, features = shape
        is_open = None in self.level.encoding_shape
        self.has_places = not is_open and math.prod(sides) > 1 and _size(sides, features) <= LARGEST_SUMS
        self.sums = FeatureSums(math.prod(sides) if self.has_places else 1, features)
        self.shape = (*[None if is_open else side for side in sides], features)
        self.most_sampled = min(MOST_SAMPLED, max(FEWEST_IMAGES, SAMPLED_VALUES // math.prod(shape)))
        window = [min(WINDOW, side) for side in sides]
        inner = [side - size + 1 for side, size in zip(sides, window, strict=True)]
        in_window = features * math.prod(window)
        if self.has_places and in_window > features and _size(inner, in_window) <= LARGEST_SUMS:
            self.window = window
            self.windows = window_network(self.shape, window)
            self.window_sums = FeatureSums(math.prod(inner), in_window)

    def _by_place(self, features: np.ndarray) -> np.ndarray:
        return _flat(features) if self.has_places else features.reshape(-1, 1, features.shape[-1])

    def finish(self) -> None:
        """Fits the Gaussians to the sums, and scores the sample by cross-validation."""
        self.is_shared = not self.has_places or self._gain_of_places() < LEAST_GAIN
        distances = self._cross_validated()
        self.scale = float(np.mean(np.concatenate([each.ravel() for each in distances]), dtype=np.float64)) or 1.0
        self.sample_scores = np.concatenate([self.scores(each) for each in distances])
        inputs = values = layers.Input(self.shape)
        self.margins = ((0, 0), (0, 0))
        if self._has_windows:
            values = self.windows(values)
            self.margins = tuple(((size - 1) // 2, size // 2) for size in self.window)
        distances = distance_network(values.shape[1:], self._used_sums().whitening())(values)
        self.scorer = keras.Model(inputs, distances)
        self._compute_distances = compiled(self.scorer)

    @property
    def _has_windows(self) -> bool:
        return self.window_sums is not None and not self.is_shared

    def _used_sums(self) -> FeatureSums:
        """Returns the sums whose Gaussians are used."""
        if self._has_windows:
            return self.window_sums
        return self.sums.of_all_places() if self.is_shared else self.sums

    def _used_vectors(self, features: np.ndarray) -> np.ndarray:
        """Returns the vectors whose sums are used, `(N, places, D)`, or `(N * places, 1, D)` if places share them."""
        if self.is_shared:
            return features.reshape(-1, 1, features.shape[-1])
        return _flat(np.asarray(self.windows(features))) if self._has_windows else _flat(features)

    def _gain_of_places(self) -> float:
        """Returns by how much more likely images are with a Gaussian at each place than with one for all places.

        It is cross-validated, in nats per place.
        """
        gains = []
        for fold in self._folds(self.sums):
            left_out = FeatureSums.of([_flat(each[chosen]) for each, chosen in zip(self.sample, fold, strict=True)])
            others = self.sums.without(left_out)
            likelihoods = [
                each.whitening().negative_log_likelihood(left_out) for each in (others.of_all_places(), others)
            ]
            gains.append(likelihoods[0] - likelihoods[1])
        return float(np.mean(gains))

    def _cross_validated(self) -> list[np.ndarray]:
        """Returns the distances of the sample `(N, places)` from Gaussians of the other images."""
        sums = self._used_sums()
        places = [self._used_vectors(features[:1]).size // sums.first.shape[1] for features in self.sample]
        distances = [np.empty((len(features), count)) for features, count in zip(self.sample, places, strict=True)]
        for fold in self._folds(sums):
            vectors = [self._used_vectors(features[chosen]) for features, chosen in zip(self.sample, fold, strict=True)]
            whitening = sums.without(FeatureSums.of(vectors)).whitening()
            for results, each, chosen in zip(distances, vectors, fold, strict=True):
                results[chosen] = whitening.distances(each).reshape(len(chosen), results.shape[1])
        return distances

    def _folds(self, sums: FeatureSums) -> Iterator[list[np.ndarray]]:
        """Yields the indices of the images of a fold in each array of the sample."""
        places, features = sums.first.shape
        count = FOLDS if places * features**3 <= LARGEST_WORK else 2
        firsts = np.cumsum([0, *map(len, self.sample)])
        numbers = [np.arange(first, first + len(each)) for first, each in zip(firsts, self.sample, strict=False)]
        for fold in range(count):
            yield [np.flatnonzero(each % count == fold) for each in numbers]

    def _distances(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self._compute_distances(tf.constant(features)))

    def distances(self, encodings: np.ndarray, inputs: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Returns the distances of the places of each image, `(N, h, w)`; the arguments are those of `features`."""
        return self._distances(self.features(encodings, inputs, images))

    def connected(self, inputs: keras.KerasTensor, images: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the distances as a function of the inputs of the level and of the images, in a Keras model."""
        encodings = self.level.encoder(inputs)
        if self.level.is_image:
            return self.scorer(self.network([encodings, images]))
        residuals = ops.subtract(self.level.decoder(encodings), inputs)
        residuals = layers.Reshape((math.prod(inputs.shape[1:]),), dtype=EXACT)(residuals)
        if residuals.shape[1] > MOST_RESIDUALS:
            residuals = ops.sqrt(ops.mean(ops.square(residuals), axis=1, keepdims=True))
        values = layers.Concatenate(dtype=EXACT)([encodings, residuals])
        return self.scorer(layers.Reshape((1, 1, values.shape[1]), dtype=EXACT)(values))

    def connected_map(self, distances: keras.KerasTensor, size: Shape) -> keras.KerasTensor:
        """Returns a map as a function of distances, in a Keras model for images of a size."""
        network = map_network(distances.shape[1:], self.margins, self._step(self.level.encoding_shape[:-1], size))
        values = network(distances) / self.scale
        return values[:, : size[0], : size[1]]

    def _step(self, sides: Shape, size: Shape) -> tuple[int, int]:
        """Returns the pixels between neighbouring feature vectors of encodings of images of a size."""
        factors = [
            self.factor if None in (pixels, side) else -(-pixels // side)
            for pixels, side in zip(size, sides, strict=True)
        ]
        rows, columns = (
            factor * stride
            for factor, stride in zip((*factors, 1)[:2], strides_of(self.level.encoding_shape), strict=True)
        )
        return rows, columns

    def scores(self, distances: np.ndarray) -> np.ndarray:
        """Returns the root mean square of the distances of each image, relative to the mean distance."""
        places = tuple(range(1, distances.ndim))
        return np.sqrt(np.square(distances, dtype=np.float64).mean(axis=places)) / self.scale

    def maps(self, encodings: np.ndarray, inputs: np.ndarray, images: np.ndarray, size: Shape) -> np.ndarray:
        """Returns the distances, relative to their mean, at each pixel of images of a size: `(N, *size)`."""
        distances = self.distances(encodings, inputs, images)
        network = map_network(distances.shape[1:], self.margins, self._step(encodings.shape[1:-1], size))
        return np.asarray(network(distances, training=False))[:, : size[0], : size[1]] / np.float32(self.scale)


def _flat(features: np.ndarray) -> np.ndarray:
    """Returns features `(N, h, w, D)` as `(N, h * w, D)`."""
    return features.reshape(len(features), math.prod(features.shape[1:3]), features.shape[-1])


def _size(sides: Sequence[int], features: int) -> int:
    """Returns how many numbers the sums of products of features at these places have."""
    return math.prod(sides) * features**2
