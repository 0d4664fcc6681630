"""Fixtures of the tests of stores."""

import keras
import pytest

from stacked_autoencoder import Autoencoder
from tests.conftest import blobs


@pytest.fixture(scope="module")
def sae():
    keras.utils.set_random_seed(0)
    sae = Autoencoder(size=4, n_out=4, n_scalings=2)
    sae.train(blobs(32), epochs=0, verbose=0)
    return sae
