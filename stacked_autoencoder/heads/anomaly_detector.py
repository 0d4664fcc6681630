"""`AnomalyDetector`: finds images that are unlike normal images, in closed form on the encodings of a stack."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from stacked_autoencoder.data.adapters import Images
from stacked_autoencoder.heads.detector_inputs import FeatureReader, FeaturesByLevel, store_of
from stacked_autoencoder.heads.gaussian_detector import FEWEST_IMAGES
from stacked_autoencoder.heads.level_detector import LevelDetector, places_of
from stacked_autoencoder.levels.stack import Stack
from stacked_autoencoder.saving.arrays import read_arrays
from stacked_autoencoder.saving.load import load_stack
from stacked_autoencoder.saving.save import save_stack
from stacked_autoencoder.utils import keras_layers as layers
from stacked_autoencoder.utils.checks import is_number
from stacked_autoencoder.utils.console import Progress
from stacked_autoencoder.utils.errors import LoadError, printable
from stacked_autoencoder.utils.files import expanded, is_regular, write_folder
from stacked_autoencoder.utils.images import Shape, gather, padded_shape

if TYPE_CHECKING:
    from stacked_autoencoder.autoencoder import Autoencoder

FEWEST_ABOVE = 5  # scores above a quantile that is used as the threshold
STACK, STATISTICS, MODEL = "autoencoder", "statistics.npz", "model.keras"  # in a saved folder


class AnomalyDetector:
    """Detects images, vectors and sequences that are unlike normal ones.

    The detector compares the encodings of an image with Gaussian distributions of the encodings of normal images. For
    image-shaped encodings, it averages the magnitudes of the features over small windows, and measures their squared
    Mahalanobis distance from the Gaussian of normal images at the same place. If places are interchangeable, as in
    textures, all places share one Gaussian. The detector chooses between both by cross-validated likelihood. For
    encodings that are vectors, it uses one Gaussian of the encodings and of the errors of the decoder. For encodings
    that are sequences, it does so at each step.

    All of this has a closed form, so `fit` needs one pass over the images and no training. The first 2,048 normal
    images (fewer if they are large) are also scored by cross-validation, that is, by Gaussians of the other images.
    Scores are relative to the mean of these scores, and the threshold is a quantile of them. If only a few of them are
    above this quantile, the threshold is the larger one of it and that of a distribution whose cube root is normal.

    If you train the stack further, fit the detector again. If the sides of the stack are open, large images are
    processed tile by tile, with the same results.

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
            if self.stack.levels[index].mean is None:
                raise ValueError(
                    "`sae` must be trained first. `sae.train(normal, epochs=0)` takes seconds. Received: level "
                    f"{index}, which has not been trained"
                )
        self._clear(contamination=0.01)

    def _clear(self, contamination: float) -> None:
        self._parts: dict[int, LevelDetector] = {}  # by level index, once it is known whether images or a store follow
        self._count = 0
        self._contamination = contamination
        self._is_fitted = False
        self.threshold: float | None = None

    def _start(self, uses_errors: bool) -> None:
        """Creates the detectors of the levels, without normal images."""
        for index in self.levels:
            level = self.stack.levels[index]
            if uses_errors and level.is_image and level.linear_code is None:
                raise ValueError(
                    "The detector compares images with their PCA, which is not known for a level that was trained on a "
                    "store. Pass a store of encodings of this level, `sae.encode_to(path, normal)`, choose other "
                    f"`levels`, such as `levels=[0]`, or train on images. Received: level {index}"
                )
        self._uses_errors = uses_errors
        self._fingerprint = self.stack.fingerprint(self.levels[-1])
        self._parts = {index: LevelDetector(self.stack, index, uses_errors) for index in self.levels}

    def fit(self, normal: Images, contamination: float = 0.01, verbose: int = 0) -> AnomalyDetector:
        """Fits the Gaussians to normal images, and sets the threshold.

        Args:
            normal: normal images, in any form that `train` accepts, at least 10. An `EncodingStore` of this stack is
                accepted, too: the detector then compares encodings only, and no errors of the reconstruction.
            contamination: share of normal images with a score above the threshold, above 0 and below 1.
            verbose: 0 prints nothing, 1 shows a progress bar.

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
        return self.update(normal, verbose)

    def update(self, normal: Images, verbose: int = 0) -> AnomalyDetector:
        """Adds more normal images and sets the threshold again, as `fit` with all images in this order does.

        Args:
            normal: normal images, as in `fit`.
            verbose: as in `fit`.

        Returns:
            The detector.

        Raises:
            ValueError: the images don't fit the stack, or there are fewer than 10 together with those of earlier calls.
                If the images cannot be read to their end, none of them is added.
        """
        self._check_stack()
        if not self._count:
            self._start(uses_errors=store_of(normal) is None)
        count, snapshots = self._count, []
        if count:
            detectors = [each for part in self._parts.values() for each in part.detectors.values()]
            snapshots = [(gaussians, gaussians.snapshot()) for gaussians in detectors]
        try:
            self._add(normal, verbose)
        except BaseException:
            self._count = count
            for gaussians, snapshot in snapshots:
                gaussians.restore_snapshot(snapshot)
            raise
        if self._count < FEWEST_IMAGES:
            raise ValueError(
                f"At least {FEWEST_IMAGES} normal images are needed. Add more with `update`. Received: {self._count}"
            )
        self._finish()
        return self

    def _add(self, normal: Images, verbose: int) -> None:
        """Adds normal images to the sums and to the samples of all levels."""
        reader = self._reader(self._parts)
        source, store_level = reader.source_of(normal)
        with Progress(source.count(), verbose) as progress:
            for _, by_level in reader.read(source, store_level):
                pairs = [(self._parts[index], features) for index, features in by_level.items()]
                sampled = min(part.sample_room(features) for part, features in pairs)  # the same images at all levels
                for part, features in pairs:
                    part.add(features, sampled)
                count = len(pairs[0][1].features)
                self._count += count
                progress.add(count)

    def _finish(self) -> None:
        """Fits the Gaussians to the sums, and sets the threshold."""
        for part in self._parts.values():
            part.finish()
        scores = np.mean([part.gaussians.sample_scores for part in self._parts.values()], axis=0)
        threshold = float(np.quantile(scores, 1 - self._contamination))
        if len(scores) * self._contamination < FEWEST_ABOVE:  # the quantile is uncertain
            roots = np.cbrt(scores)  # of squared distances, these are nearly normal (Wilson and Hilferty 1931)
            deviations = -NormalDist().inv_cdf(self._contamination)
            threshold = max(threshold, float(roots.mean() + deviations * roots.std()) ** 3)
        self.threshold = threshold
        self._is_fitted = True

    def score(self, images: Images, level: int | None = None) -> np.ndarray:
        """Returns how unlike normal images each image is.

        Args:
            images: images, in any form that `train` accepts. If the detector was fitted to a store, also a store.
            level: index of a level to use alone; by default the mean over all `levels` of the detector.

        Returns:
            `(N,)` float64, at least 0. The score is about 1 for normal images, and larger for anomalies.

        Raises:
            ValueError: the detector has not been fitted, or the images don't fit the stack.
        """
        parts = self._chosen(level)
        return _joined([_scores(by_level, parts) for _, by_level in self._features(images, parts)])

    def score_map(self, images: Images, level: int | None = None) -> np.ndarray | list[np.ndarray]:
        """Returns how unlike normal images each image is at each pixel, each step or each column.

        Encodings that are images or sequences are compared at each place. For vectors, the map compares the errors of
        the reconstruction, unless the stack also has image-shaped encodings.

        Args:
            images: images, as in `score`.
            level: index of a level to use alone; by default the mean over all `levels` of the detector that have maps.

        Returns:
            float32, about 1 where an image is normal: `(N, H, W)` for images, `(N, timesteps)` for sequences, and
            `(N, features)` for vectors. A list of arrays if the sizes of the images differ. Maps of a store have the
            size of the padded images if the sides of the stack are open.

        Raises:
            ValueError: the detector has not been fitted, the images don't fit the stack, or there is no map.
        """
        parts = self._with_maps(self._chosen(level))
        return gather(self._maps(shape, by_level, parts) for shape, by_level in self._features(images, parts))

    def score_and_map(self, images: Images) -> tuple[np.ndarray, np.ndarray | list[np.ndarray]]:
        """Returns what `score` and `score_map` return, and encodes the images only once.

        Args:
            images: images, as in `score`.

        Raises:
            ValueError: as in `score_map`.
        """
        parts = self._chosen(None)
        with_maps, scores, maps = self._with_maps(parts), [], []
        for shape, by_level in self._features(images, parts):
            scores.append(_scores(by_level, parts))
            maps.append(self._maps(shape, by_level, with_maps))
        return _joined(scores), gather(iter(maps))

    def _with_maps(self, parts: dict[int, LevelDetector]) -> dict[int, LevelDetector]:
        """Returns those of the levels that have maps."""
        with_maps = {index: part for index, part in parts.items() if part.has_map}
        if not with_maps:
            raise ValueError(
                "`score_map` needs a level whose encodings have places, such as image-shaped ones. Use `score`, or "
                f"`sae.error_maps(images)`. Received: level {', '.join(map(str, parts))}, whose encodings are vectors"
            )
        return with_maps

    def _maps(self, shape: Shape, by_level: FeaturesByLevel, parts: dict[int, LevelDetector]) -> np.ndarray:
        """Returns the mean of the maps of several levels for images of a shape."""
        places = places_of(shape)
        size = places_of(padded_shape(shape, self.stack.factor)) if len(shape) == 3 else places
        maps = np.mean([part.maps(by_level[index], size) for index, part in parts.items()], axis=0)
        return maps[(..., *map(slice, places))]

    def predict(self, images: Images) -> np.ndarray:
        """Returns which images are anomalies.

        Args:
            images: images, as in `score`.

        Returns:
            `(N,)` bool: whether the score is above `threshold`.

        Raises:
            ValueError: the detector has not been fitted, or the images don't fit the stack.
        """
        return self.score(images) > self.threshold

    @property
    def has_maps(self) -> bool:
        """Whether `score_map` is available after `fit`.

        It is not available if the detector only uses vectors, and these are above image-shaped encodings or were read
        from a store.
        """
        return any(part.has_map for part in self._parts.values())

    @property
    def model(self) -> keras.Model:
        """The detector as a Keras model of built-in layers, for programs without this package.

        The input is a batch of images, scaled like the input of `encoder0`, whose height and width are multiples of
        the factor of the stack. NaN marks missing values if the stack was created with `missing="ignore"`. The output
        is a dict with `"score"` `(N,)` and, if there are maps and images have one known size, `"map"`, as `score` and
        `score_map` return them.

        Raises:
            ValueError: the detector has not been fitted.

        Example:
            >>> detector.model.save("detector.keras")
            >>> keras.models.load_model("detector.keras").predict(images)["score"]
        """
        parts = self._chosen(None)
        images = inputs = layers.Input(self.stack.levels[0].input_shape)
        reader, scores, maps = self._reader(parts), [], []
        for index, level in enumerate(self.stack.levels[: max(parts) + 1]):
            encodings = level.encoder(level.filled(reader.encoder_inputs(level, inputs)))
            if index in parts:
                score, heat_map = parts[index].connected(encodings, inputs, images)
                scores.append(score)
                maps += [] if heat_map is None else [heat_map]
            inputs = encodings
        outputs = {"score": _mean(scores)} | ({"map": _mean(maps)} if maps else {})
        return keras.Model(images, outputs)

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
        arrays["uses_errors"] = np.array(int(self._uses_errors))
        for part in self._parts.values():
            arrays |= part.state()
        return arrays

    def _restore(self, stack: Stack, arrays: dict[str, Any]) -> None:
        """Sets the stack and what `_arrays` returned."""
        if arrays["levels"].ndim != 1:
            raise ValueError("`levels` must be a list")
        self._set_up(stack, stack.indices_of(arrays["levels"].tolist()))
        self._contamination = float(arrays["contamination"])
        self._count = int(arrays["count"])
        if self._count < FEWEST_IMAGES or not 0 < self._contamination < 1:
            raise ValueError("`count` or `contamination` is out of range")
        if int(arrays["uses_errors"]) not in (0, 1):
            raise ValueError("`uses_errors` must be 0 or 1")
        self._start(uses_errors=bool(arrays["uses_errors"]))
        for part in self._parts.values():
            part.restore(arrays)
        self._finish()
        self.threshold = float(arrays["threshold"])

    def __getstate__(self) -> dict[str, Any]:
        if not self._is_fitted:
            return {"stack": self.stack, "levels": self.levels}
        return {"stack": self.stack, "arrays": self._arrays(), "fingerprint": self._fingerprint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "arrays" in state:
            self._restore(state["stack"], state["arrays"])
            self._fingerprint = state["fingerprint"]  # the stack may have been trained since `fit`
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
        """Raises `ValueError` if the stack was trained after the detector was fitted."""
        if self._count and self.stack.fingerprint(self.levels[-1]) != self._fingerprint:
            raise ValueError(
                "The stack was trained after the detector was fitted: call `fit(normal)` again. Received: a stack with "
                "other weights"
            )

    def _chosen(self, level: int | None) -> dict[int, LevelDetector]:
        """Returns the detectors of the levels to use, after checking that the detector is fitted."""
        if not self._is_fitted:
            raise ValueError("The detector has not been fitted: call `fit(normal)` first.")
        self._check_stack()
        if level is None:
            return self._parts
        index = self.stack.index_of(level)
        if index not in self._parts:
            raise ValueError(f"`level` must be one of the levels of the detector, {self.levels}. Received: {level!r}")
        return {index: self._parts[index]}

    def _reader(self, parts: dict[int, LevelDetector]) -> FeatureReader:
        return FeatureReader(self.stack, parts, self._uses_errors)

    def _features(self, images: Images, parts: dict[int, LevelDetector]) -> Iterator[tuple[Shape, FeaturesByLevel]]:
        reader = self._reader(parts)
        return reader.read(*reader.source_of(images))


def _scores(by_level: FeaturesByLevel, parts: dict[int, LevelDetector]) -> np.ndarray:
    """Returns the mean of the scores of several levels for a batch, `(N,)`."""
    return np.mean([part.scores(by_level[index]) for index, part in parts.items()], axis=0)


def _joined(scores: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(scores) if scores else np.zeros(0)


def _mean(values: list[keras.KerasTensor]) -> keras.KerasTensor:
    return sum(values[1:], values[0]) / len(values)
