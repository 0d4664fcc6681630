"""`AnomalyDetector`: finds images that are unlike normal images, in closed form on the encodings of a stack."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from stacked_autoencoder.data.adapters import Images, as_source
from stacked_autoencoder.heads.level_detector import FEWEST_IMAGES, LevelDetector
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

LEAST_SIDE = 2  # of encodings; windows reach two places beyond the border
FEWEST_ABOVE = 5  # scores above a quantile that is used as the threshold
STACK, STATISTICS, MODEL = "autoencoder", "statistics.npz", "model.keras"  # in a saved folder


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
        self._parts = [LevelDetector(self.stack, index) for index in self.levels]
        self._count = 0
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
            sampled = sum(map(len, self._parts[0].sample))  # the same images at all levels
            left = max(0, min(part.most_sampled for part in self._parts) - sampled)
            for part, values in zip(self._parts, features, strict=True):
                part.add(values, left)
            self._count += len(features[0])
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
        positions, scores = self._chosen(level), []
        for _, inputs in self._batches(images):
            of_levels = [(self._parts[position], inputs[position]) for position in positions]
            scores.append(np.mean([part.scores(part.distances(*values)) for part, values in of_levels], axis=0))
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
        positions = [position for position in self._chosen(level) if self._parts[position].level.is_image]
        if not positions:
            raise ValueError(
                "`score_map` needs a level whose encodings have places, such as image-shaped ones. Use `score`, or "
                "`sae.error_maps(images)`. Received: levels whose encodings are vectors"
            )

        def maps() -> Iterator[np.ndarray]:
            for shape, inputs in self._batches(images):
                size = padded_shape(shape, self.stack.factor)[:-1]
                of_levels = [self._parts[position].maps(*inputs[position], size) for position in positions]
                yield np.mean(of_levels, axis=0)[(..., *(slice(side) for side in shape[:-1]))]

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
        return any(part.level.is_image for part in self._parts)

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
            if part.level.is_image and None not in inputs.shape[1:]:
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
            images, of_levels = stack.levels[0].filled(values), {}
            for index, level in enumerate(stack.levels[: self.levels[-1] + 1]):
                inputs = level.filled(level.encoder_inputs(values))
                values = level.encode(inputs)
                of_levels[index] = values, inputs, images
                if values.ndim == 4 and min(values.shape[1:3]) < LEAST_SIDE:
                    raise ValueError(
                        f"Images must have at least {LEAST_SIDE} encodings in height and width, which is "
                        f"{LEAST_SIDE * stack.factor_at(index)} pixels at level {index}. Use larger images, or leave "
                        "out this level, for example with `AnomalyDetector(sae, levels=[0])`. "
                        f"Received: an image of shape {batch.shape[1:]}"
                    )
            yield batch.shape[1:], [of_levels[index] for index in self.levels]


def _mean(values: list[keras.KerasTensor]) -> keras.KerasTensor:
    return sum(values[1:], values[0]) / len(values)
