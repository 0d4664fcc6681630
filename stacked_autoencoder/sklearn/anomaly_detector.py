"""`AnomalyDetector`: the head of the same name as an outlier detector of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from stacked_autoencoder import heads
from stacked_autoencoder.heads.gaussian_detector import FEWEST_IMAGES
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.conv import ConvLevel
from stacked_autoencoder.sklearn.networks import (
    WIDTH,
    check_no_hidden_layers,
    checked_components,
    dense_level,
    split,
    trained,
    trained_or_pca,
)
from stacked_autoencoder.sklearn.samples import DTYPES, as_samples, by_sample, checked_image_shape, unit_range
from stacked_autoencoder.utils.checks import is_real, positive_int
from stacked_autoencoder.utils.seeds import seeded

# With the default of the head, 0.01, `fit_predict` marks no rows at all in some data sets of a few hundred rows.
AUTO_CONTAMINATION = 0.02
# The default of `n_components`. With PCA, the number hardly matters. After training, few components are better: if five
# digits are normal, the AUROC is 0.96 with an eighth of the features, and 0.93 with half of them.
FEATURES_PER_COMPONENT = 8
MOST_COMPONENTS = 128
FEWEST_PIXELS = 3  # per side, with which encodings of half the size have two places
VALIDATION_FRACTION = 0.1  # the default of `StackedAutoencoder`


class AnomalyDetector(OutlierMixin, BaseEstimator):
    """Detection of anomalies with an autoencoder, as a scikit-learn outlier detector.

    The detector needs normal samples only. It fits an autoencoder, which is PCA with `epochs=0`, and Gaussian
    distributions of the encodings and of the errors of the reconstruction. The score of a sample is its squared
    Mahalanobis distance from them, relative to that of normal samples. See `heads.AnomalyDetector`.

    As with `PCA`, standardise features with different units, for example with `sklearn.preprocessing.StandardScaler`.

    Args:
        n_components: number of values of the encoding of a row, at most the number of features. By default, it is an
            eighth of the number of features, but at most 128. It can't be combined with `image_shape`.
        hidden_layer_sizes: units of the hidden layers of the encoder; the decoder has the same layers in reverse order.
            By default, there is one hidden layer with 128 units, or `2 * n_components` if that is more. It can't be
            combined with `image_shape`, and has no effect with `epochs=0`.
        image_shape: `(height, width, channels)` if each row of `X` is a flattened image, in the order of NumPy's
            `reshape`. The encodings are then image-shaped, with half of the height and width and all values of the
            image, and the detector compares each place with the same place of normal images.
        epochs: passes over the training data. With 0, the autoencoder is PCA: of rows, or of the patches of images.
            Training, for example for 20 epochs, improves the detection if normal rows form several groups. A tenth of
            the samples is left out of the training and selects the weights. If the loss of rows is higher than that of
            PCA on these samples, the estimator uses PCA instead.
        batch_size: samples per training step.
        contamination: `"auto"`, or the share of the samples in `fit` that `predict` marks as anomalies, above 0 and at
            most 0.5. With `"auto"`, it marks about 2 % of new normal samples, estimated by cross-validation. After
            training, it marks more, often 5 to 7 %, because the network is not cross-validated.
        random_state: an int, a `numpy.random.RandomState` or `None`, which uses NumPy's global random state. An int
            gives the same result in each call of `fit`. It has no effect with `epochs=0`.
        verbose: as in `Autoencoder.train`: 0 prints nothing, 1 a progress bar, 2 one line per epoch.

    Attributes:
        detector_: the fitted `heads.AnomalyDetector`, whose threshold is `-offset_`. Its samples have the shape
            `(n_features,)` or `image_shape`.
        autoencoder_: the fitted `Autoencoder`.
        offset_: score below which a sample is an anomaly.
        n_features_in_: number of features of `X` in `fit`.
        feature_names_in_: `(n_features,)`, names of the features, if `X` was a DataFrame whose column names are all
            strings.

    Raises:
        ValueError: an argument is invalid, or the data don't fit. Raised by the methods, not by the constructor.

    Example:
        >>> from sklearn.datasets import load_breast_cancer
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> from stacked_autoencoder.sklearn import AnomalyDetector
        >>> X, y = load_breast_cancer(return_X_y=True)      # X: (569, 30); y: 0 for malignant
        >>> model = make_pipeline(StandardScaler(), AnomalyDetector())
        >>> model.fit(X[y == 1]).predict(X)                 # (569,), 1 for normal rows and -1 for anomalies

    Reference:
        Defard et al. 2020, "PaDiM", arXiv:2011.08785; Ledoit and Wolf 2004, "A well-conditioned estimator for
        large-dimensional covariance matrices".
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        hidden_layer_sizes: Sequence[int] | None = None,
        image_shape: tuple[int, int, int] | None = None,
        epochs: int = 0,
        batch_size: int = 32,
        contamination: float | Literal["auto"] = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.image_shape = image_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.contamination = contamination
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> AnomalyDetector:
        """Fits the autoencoder and the detector to normal samples. Each call starts anew.

        While it runs, the global random states of Python and NumPy are seeded, and they are restored at the end. With
        `random_state=None`, one number is drawn from NumPy's global random state.

        Args:
            X: `(n_samples, n_features)`, an array or DataFrame of numbers, at least 10 samples. A few anomalies among
                them do not matter.
            y: not used.

        Returns:
            The estimator.

        Raises:
            ValueError: an argument of the estimator is invalid or doesn't fit `X`, or `X` is not a matrix of at least
                ten rows of finite numbers.
            FloatingPointError: the loss is no longer a finite number.

        If the network is worse than PCA, so that PCA is used, `fit` issues a `sklearn.exceptions.ConvergenceWarning`.
        """
        X = validate_data(self, X, dtype=DTYPES, ensure_min_samples=FEWEST_IMAGES)
        shape, levels = self._design(X.shape[1])
        samples = as_samples(X, shape)
        options = {"epochs": self.epochs, "batch_size": self.batch_size, "verbose": self.verbose}
        options["value_range"] = unit_range(X)  # otherwise, scores would depend on the unit of `X`
        fraction = VALIDATION_FRACTION if self.epochs else 0.0
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        with seeded(seed):
            order = np.random.default_rng(seed).permutation(len(samples))
            if self.image_shape is None:
                options |= {"n_components": levels[0].units[-1], "validation_fraction": fraction}
                self.autoencoder_ = trained_or_pca(shape, levels, samples, order, **options)
            else:
                self.autoencoder_ = trained(shape, levels, *split(samples, order, fraction), **options)
            # The cross-validation uses the first samples, so rows that are sorted by class must be shuffled.
            shuffled = samples[np.random.default_rng(0).permutation(len(samples))]
            self.detector_ = heads.AnomalyDetector(self.autoencoder_).fit(shuffled, AUTO_CONTAMINATION)
        if self.contamination != "auto":
            self.detector_.threshold = float(np.quantile(self._scores(samples), 1 - self.contamination))
        self.offset_ = -self.detector_.threshold
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Returns how normal each sample is.

        Args:
            X: `(n_samples, n_features)`, as in `fit`.

        Returns:
            `(n_samples,)` float64, at most 0. It is about -1 for normal samples, and lower for anomalies.

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
            ValueError: `X` has other features than in `fit`.
        """
        return -self._scores(self._samples(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Returns `score_samples(X) - offset_`, which is below 0 for anomalies.

        Args:
            X: `(n_samples, n_features)`, as in `fit`.

        Returns:
            `(n_samples,)` float64.

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
            ValueError: `X` has other features than in `fit`.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Returns which samples are anomalies.

        Args:
            X: `(n_samples, n_features)`, as in `fit`.

        Returns:
            `(n_samples,)` int64: -1 for anomalies, whose `decision_function` is below 0, and 1 for normal samples.

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
            ValueError: `X` has other features than in `fit`.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def score_map(self, X: Any) -> np.ndarray:
        """Returns where each sample is unlike normal samples: in which features, or at which pixels of an image.

        Args:
            X: `(n_samples, n_features)`, as in `fit`.

        Returns:
            `(n_samples, n_features)` float32, or `(n_samples, height, width)` with `image_shape`. It is about 1 where a
            sample is normal, and larger where it is not. All values are finite.

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
            ValueError: `X` has other features than in `fit`.
        """
        return _finite(by_sample(self.detector_.score_map, self._samples(X)))

    def _scores(self, samples: np.ndarray) -> np.ndarray:
        """Returns the scores of the head, `(n_samples,)` float64."""
        return _finite(by_sample(self.detector_.score, samples))

    def _samples(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return as_samples(validate_data(self, X, dtype=DTYPES, reset=False), self.autoencoder_.shape)

    def _design(self, n_features: int) -> tuple[tuple[int, ...], list[Level]]:
        """Checks the arguments. Returns the shape of one sample, and the levels of the network."""
        positive_int("epochs", self.epochs, least=0)
        positive_int("batch_size", self.batch_size)
        is_share = is_real(self.contamination) and 0 < self.contamination <= 0.5
        if not is_share and self.contamination != "auto":
            raise ValueError(
                '`contamination` must be "auto", or a number above 0 and at most 0.5, such as 0.01. '
                f"Received: contamination={self.contamination!r}"
            )
        if self.image_shape is None:
            n_components = min(-(-n_features // FEATURES_PER_COMPONENT), MOST_COMPONENTS)
            if self.n_components is not None:
                n_components = checked_components(self.n_components, n_features)
            return (n_features,), [dense_level(n_components, self.hidden_layer_sizes)]
        if self.n_components is not None:
            raise ValueError(
                "`n_components` can't be combined with `image_shape`, whose encodings have all values of the image. "
                f"Remove one of them. Received: n_components={self.n_components!r}, image_shape={self.image_shape!r}"
            )
        check_no_hidden_layers(self.hidden_layer_sizes, self.image_shape)
        shape = checked_image_shape(self.image_shape, n_features)
        if min(shape[:2]) < FEWEST_PIXELS:
            raise ValueError(
                f"Images must be at least {FEWEST_PIXELS} pixels high and wide. Leave out `image_shape`, so that the "
                f"rows of `X` are not treated as images. Received: image_shape={self.image_shape!r}"
            )
        return shape, [ConvLevel(4 * shape[-1], n_scalings=1, size=WIDTH)]  # encodings with all values of the image


def _finite(scores: np.ndarray) -> np.ndarray:
    """Returns scores with the largest finite number in place of those that are too large, as for huge values."""
    largest = np.finfo(scores.dtype).max
    return np.nan_to_num(scores, nan=largest, posinf=largest)
