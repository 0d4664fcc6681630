import numpy as np
import pytest

from stacked_autoencoder.metrics import Mean


def test_a_mean_weighs_every_value_alike():
    mean = Mean()
    assert np.isnan(mean.value)
    mean.add(10, 1)
    mean.add(0, 9)
    assert mean.value == pytest.approx(1.0)
