"""Estimators for scikit-learn.

Scikit-learn is an extra: `pip install "stacked_autoencoder[sklearn]"`. `import stacked_autoencoder` doesn't import this
module. Import its names with `from stacked_autoencoder.sklearn import StackedAutoencoder`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        'The estimators need scikit-learn 1.6 or later: `pip install "stacked_autoencoder[sklearn]"`.'
    ) from error

from stacked_autoencoder.autoencoder import Autoencoder
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.defaults import default_levels
from stacked_autoencoder.levels.dense import DenseLevel
from stacked_autoencoder.levels.stack import BATCH
from stacked_autoencoder.utils.checks import SMALLEST, non_negative, positive_int, positive_ints
from stacked_autoencoder.utils.seeds import seeded

__all__ = ["StackedAutoencoder"]

DTYPES = (np.float64, np.float32)
LEAST_HIDDEN = 128  # units; on data of scikit-learn, more units or layers have a higher loss on held-out rows
CHANNELS, WIDTH = 32, 64  # of encodings and of convolutions, the defaults of `Autoencoder`
ROUNDING = 1e-5  # relative difference of losses that float32 can cause
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
        samples = _as_samples(X, shape)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        with seeded(seed):
            order = np.random.default_rng(seed).permutation(len(samples))
            self.autoencoder_ = self._fitted(shape, levels, samples, order)
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
        return _by_sample(self.autoencoder_.encode, self._as_samples(X)).astype(X.dtype)

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
        return _by_sample(self.autoencoder_.decode, X.astype(np.float32)).reshape(len(X), -1).astype(X.dtype)

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
        return _as_samples(X, self.autoencoder_.shape)

    def _design(self, n_features: int) -> tuple[tuple[int, ...], list[Level]]:
        """Checks the arguments. Returns the shape of one sample, and the levels of the network."""
        n_components = positive_int("n_components", self.n_components)
        if n_components > n_features:
            raise ValueError(
                f"`n_components` must be at most the number of features. Received: n_components={n_components} and "
                f"`X` with n_features={n_features}"
            )
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
            sizes = self.hidden_layer_sizes
            hidden = [max(LEAST_HIDDEN, 2 * n_components)] if sizes is None else _hidden_units(sizes)
            activations = [*("relu" for _ in hidden), None]
            return (n_features,), [DenseLevel([*hidden, n_components], activations, nested=self.nested)]
        if self.hidden_layer_sizes is not None:
            raise ValueError(
                "`hidden_layer_sizes` can't be combined with `image_shape`, whose network is convolutional. Remove one "
                f"of them. Received: hidden_layer_sizes={self.hidden_layer_sizes!r}, image_shape={self.image_shape!r}"
            )
        shape = tuple(positive_ints("image_shape", self.image_shape))
        if len(shape) != 3 or math.prod(shape) != n_features:
            raise ValueError(
                "`image_shape` must be (height, width, channels), and each row of `X` must contain height * width * "
                f"channels values. Received: image_shape={self.image_shape!r} and `X` with n_features={n_features}"
            )
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

    def _fitted(
        self, shape: tuple[int, ...], levels: list[Level], samples: np.ndarray, order: np.ndarray
    ) -> Autoencoder:
        """Returns the trained network, or PCA if that is asked for or has a lower loss.

        Args:
            shape: shape of one sample.
            levels: the levels of the network.
            samples: `(n_samples, *shape)` float32.
            order: `(n_samples,)`, a random order of the samples. The first ones are for validation.
        """
        if self.epochs == 0:
            return self._pca(shape, samples)
        n_valid = int(self.validation_fraction * len(samples))
        valid, training = samples[order[:n_valid]], samples[np.sort(order[n_valid:])]
        options = {"validation_data": valid} if n_valid else {}
        sae = Autoencoder(shape=shape, levels=levels, check_range=False)
        with _without_advice():
            sae.train(training, self.epochs, batch_size=self.batch_size, verbose=self.verbose, **options)
        compared = valid if n_valid else training
        # Not `pca_loss` of the error budget, which is that of padded images.
        loss, pca_loss = sae.evaluate(compared), self._pca(shape, training).evaluate(compared)
        if loss <= (1 + ROUNDING) * pca_loss:
            return sae
        warnings.warn(
            f"The loss of the trained network, {loss:.3g}, is higher than the PCA loss, {pca_loss:.3g}, so the "
            "estimator uses PCA. Pass more `epochs` or another network, or `epochs=0` for PCA without training.",
            ConvergenceWarning,
            stacklevel=3,
        )
        return self._pca(shape, samples)

    def _pca(self, shape: tuple[int, ...], samples: np.ndarray) -> Autoencoder:
        pca = Autoencoder(shape=shape, levels=[DenseLevel(self.n_components, activation=None)], check_range=False)
        with _without_advice():
            pca.train(samples, epochs=0, verbose=0)
        return pca


@contextmanager
def _without_advice() -> Iterator[None]:
    """Hides a warning about features of small variance, which `PCA` doesn't raise, and whose advice is for Keras."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some columns of `images` vary less", UserWarning)
        yield


def _hidden_units(sizes: Sequence[int]) -> list[int]:
    return positive_ints("hidden_layer_sizes", sizes) if np.size(sizes) else []


def _as_samples(X: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Converts rows to float32 samples of a shape."""
    largest = np.finfo(np.float32).max
    if np.abs(X).max() > largest:
        raise ValueError(
            f"`X` contains values that are too large for float32, whose largest value is {largest:.3g}. Scale `X`, for "
            f"example with `StandardScaler`. Received: values up to {np.abs(X).max():.3g}"
        )
    return X.astype(np.float32).reshape(len(X), *shape)


def _by_sample(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """Applies `encode` or `decode`, so that the result for a sample doesn't depend on the number of samples.

    For a batch of one sample, TensorFlow sums products in another order, which changes the rounding.
    """
    is_single = len(values) % BATCH == 1
    return function(np.concatenate([values, values[-1:]]))[:-1] if is_single else function(values)


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
