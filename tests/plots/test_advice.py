"""The advice in the error messages of plots works: each row makes a mistake and then follows the advice."""

import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, DenseLevel, SequenceLevel, plots
from tests.conftest import blobs, check_advice

IMAGES = blobs(6, 8, 1)
VECTORS = np.random.default_rng(0).normal(size=(6, 3))
MAPS = VECTORS.reshape(6, 1, 1, 3)


def convolutional():
    return Autoencoder(shape=(8, 8, 1), size=4, n_out=2, n_scalings=1)


def trained():
    sae = convolutional()
    sae.train(IMAGES, epochs=0, verbose=0)
    return sae


def axes():
    return plots.grid(IMAGES).axes[0]


ROWS = {
    "vectors": (
        lambda: plots.channels(VECTORS),
        "For vectors use `latent_plane`",
        [lambda: plots.latent_plane(VECTORS, np.arange(6)), lambda: plots.channels(MAPS)],
    ),
    "fewer images": (
        lambda: plots.channels(MAPS, IMAGES[:2]),
        "`images` and `encodings` must have the same length",
        [lambda: plots.channels(MAPS[:2], IMAGES[:2])],
    ),
    "fewer labels": (
        lambda: plots.latent_plane(VECTORS, [0, 1]),
        "one label for each encoding",
        [lambda: plots.latent_plane(VECTORS[:2], [0, 1])],
    ),
    "one value": (
        lambda: plots.latent_plane(VECTORS[:, :1], np.arange(6)),
        "at least two values each",
        [lambda: plots.latent_plane(VECTORS[:, :2], np.arange(6))],
    ),
    "filters": (
        lambda: plots.filters(Autoencoder(shape=(10, 2), levels=[SequenceLevel(4)])),
        "an Autoencoder for images whose level 0 is a ConvLevel or a DenseLevel",
        [
            lambda: plots.filters(convolutional()),
            lambda: plots.filters(Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(4)])),
        ],
    ),
    "features": (
        lambda: plots.features(convolutional()),
        "must be trained: call `train` first",
        [lambda: plots.features(trained())],
    ),
    "several sets": (
        lambda: plots.grid({"a": IMAGES, "b": IMAGES}, ax=axes()),
        "`ax` must be left out for several sets",
        [lambda: plots.grid({"a": IMAGES, "b": IMAGES}), lambda: plots.grid(IMAGES, ax=axes())],
    ),
    "pairs": (
        lambda: plots.interpolations(trained(), IMAGES[:2], IMAGES[:1]),
        "`first` and `last` must have the same length",
        [lambda: plots.interpolations(trained(), IMAGES[:2], IMAGES[2:4], n=2)],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_advice_works_when_followed(name):
    check_advice(*ROWS[name])
