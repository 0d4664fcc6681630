"""`GaussianDetector`: the distances of feature vectors from Gaussian distributions of those of normal images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.heads.anomaly_features import distance_network, window_network
from stacked_autoencoder.heads.place_gaussians import FeatureSums
from stacked_autoencoder.levels.inference import compiled
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.images import Shape

FOLDS = 5  # of the cross-validation
LARGEST_WORK = 1 << 31  # places * features**3, above which there are only two folds
SAMPLED_VALUES = 1 << 25  # features that are kept for the cross-validation: 128 MB
MOST_SAMPLED = 2048  # images
FEWEST_IMAGES = 10
LEAST_GAIN = 1.0  # nats per place by which a Gaussian at each place must be more likely than one for all
WINDOW = 3  # side of the windows of a Gaussian at each place
LARGEST_SUMS = 1 << 25  # numbers in the sums of products: 256 MB
LARGEST_COUNT = 1 << 53  # vectors in a sum, above which a float64 does not have all whole numbers


class Snapshot(NamedTuple):
    """The sums of a `GaussianDetector`, and the number of arrays in its sample."""

    sums: FeatureSums
    window_sums: FeatureSums | None
    sampled: int


class GaussianDetector:
    """The distances of the feature vectors of images from Gaussians of those of normal images.

    Args:
        shape: shape `(h, w, D)` of the features of an image, with `None` for open sides.
        is_table: whether places are the columns of a table. Each of them then has its own Gaussian, and windows, which
            join neighbouring places, are not used.

    Attributes:
        sums: sums of the features of normal images.
        window_sums: sums of the features of windows, `None` if windows have one place or take too much memory.
        sample: features of the first images, for the cross-validation. Of large images, only some places are kept.
        sizes: height and width of the features that each array of `sample` was taken from.
        sample_scores: their cross-validated scores.
        scale: mean of their cross-validated distances.
        is_shared: whether all places have the same Gaussian.
        margins: places before and after each axis where windows do not fit.
    """

    STATE = ("count", "first", "second", "window_first", "window_second", "sample", "sizes")

    def __init__(self, shape: Shape, is_table: bool = False) -> None:
        *sides, features = shape
        self.shape = tuple(shape)
        self.is_table = is_table
        self.has_places = None not in sides and math.prod(sides) > 1 and _size(sides, features) <= LARGEST_SUMS
        self.sums = FeatureSums(math.prod(sides) if self.has_places else 1, features)
        self.window_sums: FeatureSums | None = None
        if self.has_places and not is_table:
            self._use_windows()
        self.sample: list[np.ndarray] = []
        self.sizes: list[tuple[int, ...]] = []
        self.sample_scores = np.empty(0)
        self.scale = 1.0
        self.is_shared = False
        self.margins = ((0, 0), (0, 0))

    def _use_windows(self) -> None:
        *sides, features = self.shape
        window = [min(WINDOW, side) for side in sides]
        inner = [side - size + 1 for side, size in zip(sides, window, strict=True)]
        in_window = features * math.prod(window)
        if in_window > features and _size(inner, in_window) <= LARGEST_SUMS:
            self.window = window
            self.windows = window_network(self.shape, window)
            self.window_sums = FeatureSums(math.prod(inner), in_window)

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
            "sizes": np.array([(len(each), *size) for each, size in zip(self.sample, self.sizes, strict=True)]),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Sets what `state` returned. Raises `ValueError` if it does not fit the shape."""
        vectors, sizes = state["sample"], state["sizes"]
        expected = self.shape
        fits = sizes.ndim == 2 and sizes.shape[1:] == (3,) and sizes.dtype == np.int64 and len(sizes) > 0
        fits = fits and sizes.min() >= 1
        fits = fits and all(side is None or set(sizes[:, axis]) == {side} for axis, side in enumerate(expected[:2], 1))
        shapes = [(count, *self._kept(size)) for count, *size in sizes.tolist()] if fits else []
        counts = [math.prod(shape) for shape in shapes]
        if vectors.dtype != np.float32 or vectors.shape != (sum(counts), expected[-1]) or not counts:
            raise ValueError("the features of the sample have another shape")
        pieces = np.split(vectors, np.cumsum(counts)[:-1])
        self.sample = [piece.reshape(*shape, -1) for piece, shape in zip(pieces, shapes, strict=True)]
        self.sizes = [tuple(size) for _, *size in sizes.tolist()]
        count = int(state["count"])
        sampled = sum(images * (1 if self.has_places else math.prod(size)) for images, *size in sizes.tolist())
        if not sampled <= count < LARGEST_COUNT:
            raise ValueError("the number of images is out of range")
        sums = [(self.sums, "")] + ([] if self.window_sums is None else [(self.window_sums, "window_")])
        for each, name in sums:
            for array, received in ((each.first, state[f"{name}first"]), (each.second, state[f"{name}second"])):
                if received.shape != array.shape or received.dtype != np.float64:
                    raise ValueError("the sums have another shape")
                array[...] = received
            each.count = count

    def snapshot(self) -> Snapshot:
        """Returns copies of the sums and the length of the sample, for `restore_snapshot`."""
        windows = self.window_sums
        return Snapshot(self.sums.copy(), None if windows is None else windows.copy(), len(self.sample))

    def restore_snapshot(self, snapshot: Snapshot) -> None:
        """Removes all images that were added since `snapshot`."""
        self.sums, self.window_sums, sampled = snapshot
        del self.sample[sampled:], self.sizes[sampled:]

    def _stride(self, size: Sequence[int]) -> int:
        """Returns the distance of the places that are kept of the features of an image of a size `(h, w)`."""
        if self.has_places:
            return 1
        return max(1, math.ceil(math.sqrt(math.prod(size) * self.shape[-1] * FEWEST_IMAGES / SAMPLED_VALUES)))

    def _kept(self, size: Sequence[int]) -> tuple[int, ...]:
        """Returns the height and width of the features that are kept of an image."""
        return tuple(-(-side // self._stride(size)) for side in size)

    def sample_room(self, size: Sequence[int]) -> int:
        """Returns how many more images with features of a size `(h, w)` can be kept for the cross-validation."""
        images, values = sum(map(len, self.sample)), sum(each.size for each in self.sample)
        fitting = (SAMPLED_VALUES - values) // (math.prod(self._kept(size)) * self.shape[-1])
        return max(0, FEWEST_IMAGES - images, min(MOST_SAMPLED - images, fitting))

    def add(self, features: np.ndarray, sampled: int) -> None:
        """Adds the features of normal images, float32 `(N, h, w, D)`. Keeps those of the first `sampled` ones."""
        if sampled:
            size = features.shape[1:3]
            stride = self._stride(size)
            self.sample.append(features[:sampled, ::stride, ::stride].copy())  # a view would keep all in memory
            self.sizes.append(size)
        self.sums.add(self._by_place(features))
        if self.window_sums is not None:
            self.window_sums.add(_flat(np.asarray(self.windows(features))))

    def _by_place(self, features: np.ndarray) -> np.ndarray:
        return _flat(features) if self.has_places else features.reshape(-1, 1, features.shape[-1])

    def finish(self) -> None:
        """Fits the Gaussians to the sums, and scores the sample by cross-validation."""
        self.is_shared = not self.has_places or (not self.is_table and self._gain_of_places() < LEAST_GAIN)
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
            vectors = [_flat(each[chosen]) for each, chosen in zip(self.sample, fold, strict=True)]
            left_out = FeatureSums.of(vectors, [1] * len(vectors))
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
        weights = [math.prod(size) / math.prod(self._kept(size)) for size in self.sizes]
        for fold in self._folds(sums):
            used = [index for index, chosen in enumerate(fold) if chosen.size]  # layers do not accept empty arrays
            vectors = [self._used_vectors(self.sample[index][fold[index]]) for index in used]
            whitening = sums.without(FeatureSums.of(vectors, [weights[index] for index in used])).whitening()
            for index, each in zip(used, vectors, strict=True):
                distances[index][fold[index]] = whitening.distances(each).reshape(len(fold[index]), -1)
        return distances

    def _folds(self, sums: FeatureSums) -> Iterator[list[np.ndarray]]:
        """Yields the indices of the images of a fold in each array of the sample."""
        places, features = sums.first.shape
        count = FOLDS if places * features**3 <= LARGEST_WORK else 2
        firsts = np.cumsum([0, *map(len, self.sample)])
        numbers = [np.arange(first, first + len(each)) for first, each in zip(firsts, self.sample, strict=False)]
        for fold in range(count):
            yield [np.flatnonzero(each % count == fold) for each in numbers]

    def distances(self, features: tf.Tensor) -> np.ndarray:
        """Returns the distances of the places of each image, `(N, h, w)`, after `finish`."""
        return np.asarray(self._compute_distances(features))

    def scores(self, distances: np.ndarray) -> np.ndarray:
        """Returns the root mean square of the distances of each image, relative to the mean distance."""
        places = tuple(range(1, distances.ndim))
        return np.sqrt(np.square(distances, dtype=np.float64).mean(axis=places)) / self.scale


def _flat(features: np.ndarray) -> np.ndarray:
    """Returns features `(N, h, w, D)` as `(N, h * w, D)`."""
    return features.reshape(len(features), math.prod(features.shape[1:3]), features.shape[-1])


def _size(sides: Sequence[int], features: int) -> int:
    """Returns how many numbers the sums of products of features at these places have."""
    return math.prod(sides) * features**2
