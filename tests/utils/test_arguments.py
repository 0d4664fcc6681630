import math

import pytest

from stacked_autoencoder.utils.checks import did_you_mean, non_negative


def test_a_near_name_is_suggested():
    assert did_you_mean("rellu", ["gelu", "relu", "tanh"]) == "did you mean 'relu'? "
    assert did_you_mean("KLSparsty", {"L1": None, "KLSparsity": None}) == "did you mean 'KLSparsity'? "


def test_nothing_is_suggested_for_what_is_far_from_all():
    assert did_you_mean("xyz", ["relu", "tanh"]) == ""
    assert did_you_mean(3, ["relu"]) == ""


def test_finite_numbers_of_at_least_zero():
    assert [non_negative("weight", value) for value in (0, 2, 0.5)] == [0.0, 2.0, 0.5]
    for wrong in (-1, math.inf, math.nan, True, "1", None):
        with pytest.raises(ValueError, match=r"`weight` must be a number of at least 0\. Received: weight="):
            non_negative("weight", wrong)
