"""`StackedAutoencoder`: an autoencoder as a transformer of scikit-learn, in place of `PCA`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from stacked_autoencoder.autoencoder import Autoencoder
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.defaults import default_levels
from stacked_autoencoder.sklearn.networks import (
    WIDTH,
    check_no_hidden_layers,
    checked_components,
    dense_level,
    trained_or_pca,
)
from stacked_autoencoder.sklearn.samples import DTYPES, as_samples, by_sample, checked_image_shape
from stacked_autoencoder.utils.checks import SMALLEST, non_negative, positive_int
from stacked_autoencoder.utils.seeds import seeded

CHANNELS = 32  # of encodings, the default of `Autoencoder`
MEASURED_ROWS = 10_000  # for `explained_variance_ratio_`, which decodes them once per component


class StackedAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Dimensionality reduction with an autoencoder, as a scikit-learn transformer that can replace `PCA`.

    With `epochs=0`, the autoencoder is PCA. Otherwise, a nonlinear network is initialised close to PCA and then
    trained. If its validation loss is higher than that of PCA, the estimator uses PCA instead.

    ```
    X (n_samples, n_features) ─transform─▶ (n_samples, n_components) ─inverse_transform─▶ (n_samples, n_features)
    ```

    The loss is the mean squared error over all values, so features with a large variance dominate it. As with `PCA`,
    standardise features with different units, for example with `sklearn.preprocessing.StandardScaler`.

    Args:
        n_components: number of values per sample that `transform` returns, at most the number of features.
        hidden_layer_sizes: units of the hidden layers of the encoder; the decoder has the same layers in reverse order.
            By default, there is one hidden layer with 128 units, or `2 * n_components` if that is more. It can't be
            combined with `image_shape`.
        image_shape: `(height, width, channels)` if each row of `X` is a flattened image, in the order of NumPy's
            `reshape`. The network is then convolutional.
        n_levels: number of levels of the convolutional network, which are trained one after the other. It can only be
            larger than 1 with `image_shape`.
        nested: whether to train the network so that the first components are a good encoding by themselves, for any
            number of them. They are then ordered by importance, approximately as in PCA. The loss with all components
            is a little higher.
        epochs: passes over the training data. With 0, the autoencoder is PCA, and `hidden_layer_sizes`, `n_levels`,
            `nested`, `batch_size` and `validation_fraction` have no effect.
        batch_size: samples per training step.
        validation_fraction: share of the samples, at least 0 and below 1, that is left out of the training. The
            estimator keeps the weights with the lowest loss on these samples. With 0, or if the share is less than one
            sample, it compares losses on the training data.
        random_state: an int, a `numpy.random.RandomState` or `None`, which uses NumPy's global random state. An int
            gives the same result in each call of `fit`.
        verbose: as in `Autoencoder.train`: 0 prints nothing, 1 a progress bar, 2 one line per epoch.

    Attributes:
        autoencoder_: the fitted `Autoencoder`, for samples of shape `(n_features,)` or `image_shape`.
        n_components_: number of components.
        explained_variance_ratio_: `(n_components,)` float64, the share of the variance of the training data that each
            component explains: by how much the mean squared error of the reconstruction from the first `k` components,
            divided by the variance, is lower than that from the first `k - 1`. The remaining components are replaced by
            their means. The sum is 1 minus the error of the reconstruction divided by the variance. With `epochs=0`,
            the values are those of PCA. After training without `nested`, they need not be sorted, and can be
            negative. At most 10,000 samples, drawn at random, are used.
        n_features_in_: number of features of `X` in `fit`.
        feature_names_in_: `(n_features,)`, names of the features, if `X` was a DataFrame whose column names are all
            strings.

    Raises:
        ValueError: an argument is invalid, or the data don't fit. Raised by the methods, not by the constructor.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> from stacked_autoencoder.sklearn import StackedAutoencoder
        >>> X, y = load_digits(return_X_y=True)             # X: (1797, 64)
        >>> model = make_pipeline(StackedAutoencoder(8, random_state=0), LogisticRegression())
        >>> model.fit(X, y).score(X, y)

    Reference:
        Hinton and Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks"; Baldi and Hornik
        1989, "Neural networks and principal component analysis".
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        hidden_layer_sizes: Sequence[int] | None = None,
        image_shape: tuple[int, int, int] | None = None,
        n_levels: int = 1,
        nested: bool = False,
        epochs: int = 20,
        batch_size: int = 32,
        validation_fraction: float = 0.1,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.image_shape = image_shape
        self.n_levels = n_levels
        self.nested = nested
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> StackedAutoencoder:
        """Fits the autoencoder. Each call starts anew.

        While it runs, the global random states of Python and NumPy are seeded, and they are restored at the end. With
        `random_state=None`, one number is drawn from NumPy's global random state. Threads share these states, so fits
        in several threads at the same time are not reproducible.

        Args:
            X: `(n_samples, n_features)`, an array or DataFrame of numbers. All computations are in float32.
            y: not used.

        Returns:
            The estimator.

        Raises:
            ValueError: an argument of the estimator is invalid or doesn't fit `X`, or `X` is not a matrix of at least
                two rows of finite numbers.
            FloatingPointError: the loss is no longer a finite number.

        If the network is worse than PCA, so that PCA is used, `fit` issues a `sklearn.exceptions.ConvergenceWarning`.
        """
        X = validate_data(self, X, dtype=DTYPES, ensure_min_samples=2)
        shape, levels = self._design(X.shape[1])
        samples = as_samples(X, shape).astype(np.float32)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        with seeded(seed):
            order = np.random.default_rng(seed).permutation(len(samples))
            self.autoencoder_ = trained_or_pca(
                shape,
                levels,
                samples,
                order,
                n_components=self.n_components,
                epochs=self.epochs,
                batch_size=self.batch_size,
                validation_fraction=self.validation_fraction,
                verbose=self.verbose,
            )
        self.n_components_ = self.autoencoder_.encoding_shape[0]
        self.explained_variance_ratio_ = _explained_variance_ratio(self.autoencoder_, samples[order[:MEASURED_ROWS]])
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Encodes samples.

        Args:
            X: `(n_samples, n_features)`, as in `fit`.

        Returns:
            `(n_samples, n_components)` encodings, float32 if `X` is float32 and float64 otherwise. Their scale is not
            that of `PCA`: with `epochs=0`, they are the principal components divided by one common number.

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
            ValueError: `X` has other features than in `fit`.
        """
        X = self._checked(X)
        return by_sample(self.autoencoder_.encode, self._as_samples(X)).astype(X.dtype)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decodes encodings.

        Args:
            X: `(n_samples, n_components)`, as `transform` returns them.

        Returns:
            `(n_samples, n_features)` reconstructions, float32 if `X` is float32 and float64 otherwise.

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
            ValueError: `X` doesn't have `n_components` columns.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=DTYPES, input_name="X")
        if X.shape[1] != self.n_components_:
            raise ValueError(
                f"`X` must be encodings as `transform` returns them, with {self.n_components_} columns. "
                f"Received: shape={X.shape}"
            )
        return by_sample(self.autoencoder_.decode, X.astype(np.float32)).reshape(len(X), -1).astype(X.dtype)

    def score(self, X: Any, y: Any = None) -> float:
        """Returns the negative mean squared error of the reconstructions, so that larger is better.

        Args:
            X: `(n_samples, n_features)`, as in `fit`.
            y: not used.

        Returns:
            The mean squared error over all values, times -1.

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
            ValueError: `X` has other features than in `fit`.
        """
        return -self.autoencoder_.evaluate(self._as_samples(self._checked(X)))

    @property
    def _n_features_out(self) -> int:
        """Number of columns that `transform` returns, for `get_feature_names_out`."""
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = [np.dtype(each).name for each in DTYPES]
        return tags

    def _checked(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, dtype=DTYPES, reset=False)

    def _as_samples(self, X: np.ndarray) -> np.ndarray:
        return as_samples(X, self.autoencoder_.shape).astype(np.float32)

    def _design(self, n_features: int) -> tuple[tuple[int, ...], list[Level]]:
        """Checks the arguments. Returns the shape of one sample, and the levels of the network."""
        n_components = checked_components(self.n_components, n_features)
        n_levels = positive_int("n_levels", self.n_levels)
        positive_int("epochs", self.epochs, least=0)
        positive_int("batch_size", self.batch_size)
        if non_negative("validation_fraction", self.validation_fraction) >= 1:
            raise ValueError(
                "`validation_fraction` must be below 1, so that samples for the training are left. "
                f"Received: validation_fraction={self.validation_fraction!r}"
            )
        if self.image_shape is None:
            if n_levels > 1:
                raise ValueError(
                    "Several levels need images. Pass `image_shape=(height, width, channels)`, or use more hidden "
                    f"layers, such as `hidden_layer_sizes=(128, 64)`. Received: n_levels={n_levels}"
                )
            return (n_features,), [dense_level(n_components, self.hidden_layer_sizes, self.nested)]
        check_no_hidden_layers(self.hidden_layer_sizes, self.image_shape)
        shape = checked_image_shape(self.image_shape, n_features)
        levels = default_levels(
            shape,
            n_out=CHANNELS,
            n_scalings=2,
            n_levels=n_levels,
            latent_dim=n_components,
            size=WIDTH,
            nested=self.nested,
        )
        return shape, levels


def _explained_variance_ratio(sae: Autoencoder, samples: np.ndarray) -> np.ndarray:
    """Returns the share of the variance that each value of the encodings explains, `(n_components,)` float64.

    Args:
        sae: the autoencoder, whose encodings are vectors.
        samples: `(N, *shape)`, the data.
    """
    rows = samples.reshape(len(samples), -1).astype(np.float64)
    encodings = sae.encode(samples)
    means = encodings.mean(axis=0, dtype=np.float64).astype(np.float32)
    variance = float(rows.var(axis=0).mean())
    losses = [variance]  # without any components, the reconstruction is the mean
    for count in range(1, len(means) + 1):
        kept = np.concatenate(
            [encodings[:, :count], np.broadcast_to(means[count:], encodings[:, count:].shape)], axis=1
        )
        losses.append(float(np.mean(np.square(rows - sae.decode(kept).reshape(rows.shape)))))
    return np.subtract(losses[:-1], losses[1:]) / max(variance, SMALLEST)
