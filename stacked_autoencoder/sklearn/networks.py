"""The networks of the estimators, and their training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from stacked_autoencoder.autoencoder import Autoencoder
from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.dense import DenseLevel
from stacked_autoencoder.utils.checks import positive_int, positive_ints

LEAST_HIDDEN = 128  # units; on data of scikit-learn, more units or layers have a higher loss on held-out rows
WIDTH = 64  # of convolutions, the default of `Autoencoder`
ROUNDING = 1e-5  # relative difference of losses that float32 can cause


def checked_components(n_components: int, n_features: int) -> int:
    """Returns `n_components`. Raises `ValueError` unless it is a whole number from 1 to the number of features."""
    number = positive_int("n_components", n_components)
    if number > n_features:
        raise ValueError(
            f"`n_components` must be at most the number of features. Received: n_components={number} and `X` with "
            f"n_features={n_features}"
        )
    return number


def check_no_hidden_layers(hidden_layer_sizes: Sequence[int] | None, image_shape: Sequence[int]) -> None:
    """Raises `ValueError` if there are sizes of hidden layers, for a network of images."""
    if hidden_layer_sizes is not None:
        raise ValueError(
            "`hidden_layer_sizes` can't be combined with `image_shape`, whose network is convolutional. Remove one "
            f"of them. Received: hidden_layer_sizes={hidden_layer_sizes!r}, image_shape={image_shape!r}"
        )


def dense_level(n_components: int, hidden_layer_sizes: Sequence[int] | None, nested: bool = False) -> DenseLevel:
    """Returns the level for rows. `hidden_layer_sizes=None` is one hidden layer of the default size."""
    if hidden_layer_sizes is None:
        hidden = [max(LEAST_HIDDEN, 2 * n_components)]
    else:
        hidden = positive_ints("hidden_layer_sizes", hidden_layer_sizes) if np.size(hidden_layer_sizes) else []
    return DenseLevel([*hidden, n_components], [*("relu" for _ in hidden), None], nested=nested)


def trained(
    shape: tuple[int, ...],
    levels: list[Level],
    training: np.ndarray,
    valid: np.ndarray | None = None,
    *,
    epochs: int,
    batch_size: int = 32,
    verbose: int = 0,
    value_range: tuple[float, float] | None = None,
) -> Autoencoder:
    """Returns a trained network.

    Args:
        shape: shape of one sample.
        levels: the levels of the network.
        training: `(N, *shape)` float32, samples for the training.
        valid: `(N, *shape)` float32, samples that select the weights; by default those for the training.
        epochs, batch_size, verbose: as in `Autoencoder.train`.
        value_range: values that the network receives as -1 and 1; by default, it receives all values as they are.
    """
    sae = Autoencoder(shape=shape, levels=levels, check_range=False, value_range=value_range)
    options = {} if valid is None else {"validation_data": valid}
    with _without_advice():
        sae.train(training, epochs, batch_size=batch_size, verbose=verbose, **options)
    return sae


def trained_or_pca(
    shape: tuple[int, ...],
    levels: list[Level],
    samples: np.ndarray,
    order: np.ndarray,
    *,
    n_components: int,
    epochs: int,
    batch_size: int,
    validation_fraction: float,
    verbose: int,
    value_range: tuple[float, float] | None = None,
) -> Autoencoder:
    """Returns a trained network, or PCA if there are no epochs or if PCA has a lower loss.

    Args:
        shape: shape of one sample.
        levels: the levels of the network.
        samples: `(n_samples, *shape)` float32.
        order: `(n_samples,)`, a random order of the samples. The first ones are for validation.
        n_components: number of components of PCA.
        validation_fraction: share of the samples for validation.
        epochs, batch_size, verbose: as in `Autoencoder.train`.
        value_range: as in `trained`.
    """
    if epochs == 0:
        return _pca(shape, n_components, samples, value_range)
    training, valid = split(samples, order, validation_fraction)
    options = {"epochs": epochs, "batch_size": batch_size, "verbose": verbose, "value_range": value_range}
    sae = trained(shape, levels, training, valid, **options)
    compared = training if valid is None else valid
    # Not `pca_loss` of the error budget, which is that of padded images.
    pca = _pca(shape, n_components, training, value_range)
    loss, pca_loss = sae.evaluate(compared), pca.evaluate(compared)
    if loss <= (1 + ROUNDING) * pca_loss:
        return sae
    warnings.warn(
        f"The loss of the trained network, {loss:.3g}, is higher than the PCA loss, {pca_loss:.3g}, so the "
        "estimator uses PCA. Pass more `epochs` or another network, or `epochs=0` for PCA without training.",
        ConvergenceWarning,
        stacklevel=3,
    )
    return _pca(shape, n_components, samples, value_range)


def split(samples: np.ndarray, order: np.ndarray, validation_fraction: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns samples for the training and for validation, `None` if the share is less than one sample."""
    n_valid = int(validation_fraction * len(samples))
    return samples[np.sort(order[n_valid:])], samples[order[:n_valid]] if n_valid else None


def _pca(
    shape: tuple[int, ...], n_components: int, samples: np.ndarray, value_range: tuple[float, float] | None
) -> Autoencoder:
    return trained(shape, [DenseLevel(n_components, activation=None)], samples, epochs=0, value_range=value_range)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Hides a warning about features of small variance, which `PCA` doesn't raise, and whose advice is for Keras."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some columns of `images` vary less", UserWarning)
        yield
