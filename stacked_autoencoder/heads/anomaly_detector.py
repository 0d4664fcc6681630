"""`AnomalyDetector`: finds images that are unlike normal images, in closed form on the encodings of a stack."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stacked_autoencoder.data.adapters import Images, as_source
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
from stacked_autoencoder.levels.stack import BATCH, Stack
from stacked_autoencoder.saving.arrays import read_arrays
from stacked_autoencoder.saving.load import load_stack
from stacked_autoencoder.saving.save import save_stack
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.checks import is_number
from stacked_autoencoder.utils.errors import LoadError, printable
from stacked_autoencoder.utils.files import expanded, is_regular, write_folder
from stacked_autoencoder.utils.images import Shape, fitting, gather, padded_shape

if TYPE_CHECKING:
    from stacked_autoencoder.autoencoder import Autoencoder

FOLDS = 5  # of the cross-validation
LARGEST_WORK = 1 << 31  # places * features**3, above which there are only two folds
SAMPLED_VALUES = 1 << 25  # features that are kept for the cross-validation: 128 MB
MOST_SAMPLED = 2048  # images
FEWEST_IMAGES = 20
LEAST_SIDE = 2  # of encodings; windows reach two places beyond the border
FEWEST_ABOVE = 5  # scores above a quantile that is used as the threshold
LEAST_GAIN = 1.0  # nats per place by which a Gaussian at each place must be more likely than one for all
WINDOW = 3  # side of the windows of a Gaussian at each place
LARGEST_SUMS = 1 << 25  # numbers in the sums of products: 256 MB
STACK, STATISTICS, MODEL = "autoencoder", "statistics.npz", "model.keras"  # in a saved folder
MOST_RESIDUALS = 1024  # errors of a decoded vector that are features of their own


class AnomalyDetector:
    """Detects images, vectors and sequences that are unlike normal ones.

    The detector compares the encodings of an image with Gaussian distributions of the encodings of normal images. For
    image-shaped encodings, it averages the magnitudes of the features over small windows, and measures their squared
    Mahalanobis distance from the Gaussian of normal images at the same place. If places are interchangeable, as in
    textures, all places share one Gaussian. The detector chooses between both by cross-validated likelihood. For
    encodings that are vectors, it uses one Gaussian of the encodings and of the errors of the decoder.

    All of this has a closed form, so `fit` needs one pass over the images and no training. The first 2,048 normal
    images (fewer if they are large) are also scored by cross-validation, that is, by Gaussians of the other images.
    Scores are relative to the mean of these scores, and the threshold is a quantile of them. If only a few of them are
    above this quantile, the threshold is the larger one of it and that of a log-normal distribution.

    If you train the stack further, fit the detector again.

    Args:
        sae: the trained Autoencoder. `train(normal, epochs=0)`, which is PCA, is often sufficient.
        levels: indices of the levels whose encodings are compared; by default all.

    Attributes:
        threshold: score above which an image is an anomaly. You can set it after `fit` or `update`.
        levels: list of the level indices.
        stack: the levels as a `Stack` object, for functions of this package.

    Raises:
        ValueError: the stack has not been trained, or a level index is out of range.

    Example:
        >>> sae = Autoencoder(shape=(64, 64, 3), n_out=12, n_scalings=1)
        >>> sae.train(normal, epochs=0)                     # (N, 64, 64, 3), without anomalies
        >>> detector = heads.AnomalyDetector(sae).fit(normal, contamination=0.01)
        >>> detector.score(images)                          # (M,), about 1 for normal images
        >>> detector.predict(images)                        # (M,), True for anomalies
        >>> detector.score_map(images)                      # (M, 64, 64)

    Reference:
        Zhang et al. 2021, "AnomalyHop", arXiv:2105.03797; Defard et al. 2020, "PaDiM", arXiv:2011.08785.
    """

    def __init__(self, sae: Autoencoder, levels: int | Sequence[int] | None = None) -> None:
        self._set_up(sae.stack, sae.stack.indices_of(levels))

    def _set_up(self, stack: Stack, levels: list[int]) -> None:
        self.stack, self.levels = stack, levels
        for index in self.levels:
            level = self.stack.levels[index]
            if level.mean is None:
                raise ValueError(
                    "`sae` must be trained first. `sae.train(normal, epochs=0)` takes seconds. Received: level "
                    f"{index}, which has not been trained"
                )
            if level.linear_code is None and level.is_image:
                raise ValueError(
                    "The detector uses PCA of the images, which is not known for a level that was trained on a store. "
                    f"Choose other `levels`, such as `levels=[0]`, or train on images. Received: level {index}"
                )
        self._clear(contamination=0.01)

    def _clear(self, contamination: float) -> None:
        self._parts = [_LevelDetector(self.stack, index) for index in self.levels]
        self._count = 0
        self._sampled = 0
        self._contamination = contamination
        self._fingerprint = self.stack.fingerprint(self.levels[-1])
        self._is_fitted = False
        self.threshold: float | None = None

    def fit(self, normal: Images, contamination: float = 0.01) -> AnomalyDetector:
        """Fits the Gaussians to normal images, and sets the threshold.

        Args:
            normal: normal images, in any form that `train` accepts, at least 20.
            contamination: share of normal images with a score above the threshold, above 0 and below 1.

        Returns:
            The detector.

        Raises:
            ValueError: there are too few images, they don't fit the stack, or `contamination` is not between 0 and 1.
        """
        if not is_number(contamination) or not 0 < contamination < 1:
            raise ValueError(
                f"`contamination` must be a number between 0 and 1, such as 0.01. Received: {contamination!r}"
            )
        self._clear(float(contamination))
        return self.update(normal)

    def update(self, normal: Images) -> AnomalyDetector:
        """Adds more normal images and sets the threshold again, as `fit` with all images in this order does.

        Args:
            normal: normal images, in any form that `train` accepts.

        Returns:
            The detector.

        Raises:
            ValueError: the images don't fit the stack, or there are fewer than 20 together with those of earlier calls.
        """
        self._check_stack()
        for _, inputs in self._batches(normal):
            features = [part.features(*values) for part, values in zip(self._parts, inputs, strict=True)]
            for part, values in zip(self._parts, features, strict=True):
                part.prepare(values.shape[1:])
            left = max(0, min(part.most_sampled for part in self._parts) - self._sampled)
            for part, values in zip(self._parts, features, strict=True):
                part.add(values, left)
            self._count += len(features[0])
            self._sampled += min(left, len(features[0]))
        if self._count < FEWEST_IMAGES:
            raise ValueError(
                f"At least {FEWEST_IMAGES} normal images are needed. Add more with `update`. Received: {self._count}"
            )
        self._finish()
        return self

    def _finish(self) -> None:
        """Fits the Gaussians to the sums, and sets the threshold."""
        for part in self._parts:
            part.finish()
        scores = np.mean([part.sample_scores for part in self._parts], axis=0)
        threshold = float(np.quantile(scores, 1 - self._contamination))
        if len(scores) * self._contamination < FEWEST_ABOVE:  # the quantile is uncertain
            logarithms = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
            deviations = -NormalDist().inv_cdf(self._contamination)
            threshold = max(threshold, float(np.exp(logarithms.mean() + deviations * logarithms.std())))
        self.threshold = threshold
        self._is_fitted = True

    def score(self, images: Images, level: int | None = None) -> np.ndarray:
        """Returns how unlike normal images each image is.

        Args:
            images: images, in any form that `train` accepts.
            level: index of a level to use alone; by default the mean over all `levels` of the detector.

        Returns:
            `(N,)` float64, at least 0. The score is about 1 for normal images, and larger for anomalies.

        Raises:
            ValueError: the detector has not been fitted, or the images don't fit the stack.
        """
        parts, scores = self._chosen(level), []
        for _, inputs in self._batches(images):
            scores.append(
                np.mean([self._parts[index].scores(self._parts[index].distances(*inputs[index])) for index in parts], 0)
            )
        return np.concatenate(scores) if scores else np.zeros(0)

    def score_map(self, images: Images, level: int | None = None) -> np.ndarray | list[np.ndarray]:
        """Returns how unlike normal images each image is at each pixel.

        Args:
            images: images, in any form that `train` accepts.
            level: index of a level to use alone; by default the mean over all `levels` of the detector that have
                image-shaped encodings.

        Returns:
            `(N, H, W)` float32, about 1 where an image is normal. A list of arrays if the sizes of the images differ.

        Raises:
            ValueError: the detector has not been fitted, the images don't fit the stack, or the encodings are vectors,
                which have no places.
        """
        parts = [index for index in self._chosen(level) if not self._parts[index].is_vector]
        if not parts:
            raise ValueError(
                "`score_map` needs a level whose encodings have places, such as image-shaped ones. Use `score`, or "
                "`sae.error_maps(images)`. Received: levels whose encodings are vectors"
            )

        def maps() -> Iterator[np.ndarray]:
            for shape, inputs in self._batches(images):
                size = padded_shape(shape, self.stack.factor)[:-1]
                found = [self._parts[index].maps(*inputs[index], size) for index in parts]
                yield np.mean(found, axis=0)[(..., *(slice(side) for side in shape[:-1]))]

        return gather(maps())

    def predict(self, images: Images) -> np.ndarray:
        """Returns which images are anomalies.

        Args:
            images: images, in any form that `train` accepts.

        Returns:
            `(N,)` bool: whether the score is above `threshold`.

        Raises:
            ValueError: the detector has not been fitted, or the images don't fit the stack.
        """
        return self.score(images) > self.threshold

    @property
    def has_maps(self) -> bool:
        """Whether `score_map` is available: whether a level has image-shaped encodings."""
        return not all(part.is_vector for part in self._parts)

    @property
    def model(self) -> keras.Model:
        """The detector as a Keras model of built-in layers, for programs without this package.

        The input is a batch of images, scaled like the input of `encoder0`, whose height and width are multiples of
        the factor of the stack. The output is a dict with `"score"` `(N,)` and, for image-shaped encodings of images of
        one known size, `"map"` `(N, H, W)`, as `score` and `score_map` return them.

        Raises:
            ValueError: the detector has not been fitted.

        Example:
            >>> detector.model.save("detector.keras")
            >>> keras.models.load_model("detector.keras").predict(images)["score"]
        """
        self._chosen(None)
        inputs = layers.Input(self.stack.levels[0].input_shape)
        scores, maps = [], []
        for index, part in zip(self.levels, self._parts, strict=True):
            below = inputs if index == 0 else self.stack.encoder_to(index - 1)(inputs)
            distances = part.connected(below, inputs)
            scores.append(ops.sqrt(ops.mean(ops.square(distances), axis=(1, 2))) / part.scale)
            if not part.is_vector and None not in inputs.shape[1:]:
                maps.append(part.connected_map(distances, inputs.shape[1:-1]))
        outputs = {"score": _mean(scores)} | ({"map": _mean(maps)} if maps else {})
        return keras.Model(inputs, outputs)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Saves the detector to a new folder.

        The folder contains the stack (`autoencoder`), the statistics of the normal images (`statistics.npz`), and the
        Keras model of `model` (`model.keras`).

        Args:
            path: a new or empty folder.

        Returns:
            The path of the folder.

        Raises:
            ValueError: the detector has not been fitted.
            FileExistsError: the folder exists and is not empty.
        """
        model, arrays = self.model, self._arrays()

        def write(folder: Path) -> None:
            save_stack(self.stack, folder.resolve() / STACK)
            np.savez(folder / STATISTICS, **arrays)
            model.save(folder / MODEL)

        return write_folder(path, write)

    def _arrays(self) -> dict[str, Any]:
        """Returns everything but the stack as arrays."""
        arrays: dict[str, Any] = {"levels": np.array(self.levels), "count": np.array(self._count)}
        arrays |= {"contamination": np.array(self._contamination), "threshold": np.array(self.threshold)}
        for index, part in enumerate(self._parts):
            arrays |= {f"{name}{index}": array for name, array in part.state().items()}
        return arrays

    def _restore(self, stack: Stack, arrays: dict[str, Any]) -> None:
        """Sets the stack and what `_arrays` returned."""
        if arrays["levels"].ndim != 1:
            raise ValueError("`levels` must be a list")
        self._set_up(stack, stack.indices_of(arrays["levels"].tolist()))
        self._clear(float(arrays["contamination"]))
        self._count = int(arrays["count"])
        if self._count < FEWEST_IMAGES or not 0 < self._contamination < 1:
            raise ValueError("`count` or `contamination` is out of range")
        for index, part in enumerate(self._parts):
            part.restore({name: arrays[f"{name}{index}"] for name in part.STATE})
        self._sampled = sum(map(len, self._parts[0].sample))
        self._finish()
        self.threshold = float(arrays["threshold"])

    def __getstate__(self) -> dict[str, Any]:
        if not self._is_fitted:
            return {"stack": self.stack, "levels": self.levels}
        return {"stack": self.stack, "arrays": self._arrays()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "arrays" in state:
            self._restore(state["stack"], state["arrays"])
        else:
            self._set_up(state["stack"], state["levels"])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AnomalyDetector:
        """Loads a detector that `save` has written. It runs no code from the folder.

        Args:
            path: the folder.

        Raises:
            FileNotFoundError: there is no saved detector.
            LoadError: the folder does not contain a saved detector, or its files have been changed.
        """
        path = expanded(path)
        file = path / STATISTICS
        if not os.path.lexists(file):
            raise FileNotFoundError(
                f"There is no saved detector here: {STATISTICS} is missing. Received: {str(path)!r}"
            )
        if not is_regular(file):
            raise LoadError(
                f"{STATISTICS} must be a regular file, not a link. Received: {printable(repr(str(path)), 300)}"
            )
        detector = cls.__new__(cls)
        stack, arrays = load_stack(path / STACK), read_arrays(file)
        try:
            detector._restore(stack, arrays)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise LoadError(
                f"{STATISTICS} isn't one that `AnomalyDetector.save` wrote: {printable(error, 200)}. "
                f"Received: {printable(repr(str(path)), 300)}"
            ) from None
        return detector

    def _check_stack(self) -> None:
        """Raises `ValueError` if the stack was trained after the detector had been created or fitted."""
        if self._count and self.stack.fingerprint(self.levels[-1]) != self._fingerprint:
            raise ValueError(
                "The stack was trained after the detector was fitted: call `fit(normal)` again. Received: a stack with "
                "other weights"
            )

    def _chosen(self, level: int | None) -> list[int]:
        """Returns the positions of the levels to use, after checking that the detector is fitted."""
        if not self._is_fitted:
            raise ValueError("The detector has not been fitted: call `fit(normal)` first.")
        self._check_stack()
        if level is None:
            return [*range(len(self.levels))]
        index = self.stack.index_of(level)
        if index not in self.levels:
            raise ValueError(f"`level` must be one of the levels of the detector, {self.levels}. Received: {level!r}")
        return [self.levels.index(index)]

    def _batches(self, images: Images) -> Iterator[tuple[Shape, list[tuple[np.ndarray, ...]]]]:
        """Yields the shape of the images of each batch and, for each level, the arguments of `features`."""
        stack = self.stack
        source = as_source(images, **stack.source_options, finite="images")
        for batch in source.in_order(fitting(BATCH, source.shape), scale=False):
            values = stack.pad(source.values.to_level(batch).numpy())
            images, found = stack.levels[0].filled(values), {}
            for index, level in enumerate(stack.levels[: self.levels[-1] + 1]):
                inputs = level.filled(level.encoder_inputs(values))
                values = level.encode(inputs)
                found[index] = values, inputs, images
                if values.ndim == 4 and min(values.shape[1:3]) < LEAST_SIDE:
                    raise ValueError(
                        f"Images must have at least {LEAST_SIDE} encodings in height and width, which is "
                        f"{LEAST_SIDE * stack.factor_at(index)} pixels at level {index}. Use larger images, or leave "
                        "out this level, for example with `AnomalyDetector(sae, levels=[0])`. "
                        f"Received: an image of shape {batch.shape[1:]}"
                    )
            yield batch.shape[1:], [found[index] for index in self.levels]


class _LevelDetector:
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

    def __init__(self, stack: Stack, index: int) -> None:
        self.level, self.factor = stack.levels[index], stack.factor_at(index)
        self.image_shape = stack.levels[0].input_shape
        self.is_vector = len(self.level.encoding_shape) == 1
        self.sums: FeatureSums | None = None
        self.window_sums: FeatureSums | None = None
        self.sample: list[np.ndarray] = []
        self.sample_scores = np.empty(0)
        self.scale = 1.0
        self.is_shared = False

    STATE = ("count", "first", "second", "window_first", "window_second", "sample", "sizes")

    @cached_property
    def network(self) -> keras.Model:
        scale = float(np.mean(self.level.std))
        return feature_network(self.level.encoding_shape, self.image_shape, self.level.linear_code, self.factor, scale)

    @cached_property
    def _compute_features(self) -> Callable[..., tf.Tensor]:
        return compiled(self.network)

    def state(self) -> dict[str, np.ndarray]:
        """Returns what is known of normal images as arrays; empty arrays without windows."""
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
        if not self.is_vector:
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
        if not self.is_vector:
            return self.network.output_shape[1:]
        residuals = math.prod(self.level.input_shape)
        return (1, 1, self.level.encoding_shape[0] + (residuals if residuals <= MOST_RESIDUALS else 1))

    def prepare(self, shape: Shape) -> None:
        """Creates empty sums for features of a shape `(h, w, D)`, in the first call."""
        if self.sums is not None:
            return
        *sides, features = shape
        self.is_open = None in self.level.encoding_shape
        self.has_places = not self.is_open and math.prod(sides) > 1 and _size(sides, features) <= LARGEST_SUMS
        self.sums = FeatureSums(math.prod(sides) if self.has_places else 1, features)
        self.shape = (*[None if self.is_open else side for side in sides], features)
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
            left_out = FeatureSums(*self.sums.first.shape)
            for features, chosen in zip(self.sample, fold, strict=True):
                left_out.add(_flat(features[chosen]))
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
            left_out = FeatureSums(*sums.first.shape)
            for each in vectors:
                left_out.add(each)
            whitening = sums.without(left_out).whitening()
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
        if not self.is_vector:
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


def _mean(values: list[keras.KerasTensor]) -> keras.KerasTensor:
    return sum(values[1:], values[0]) / len(values)


def _flat(features: np.ndarray) -> np.ndarray:
    """Returns features `(N, h, w, D)` as `(N, h * w, D)`."""
    return features.reshape(len(features), math.prod(features.shape[1:3]), features.shape[-1])


def _size(sides: Sequence[int], features: int) -> int:
    """Returns how many numbers the sums of products of features at these places have."""
    return math.prod(sides) * features**2
