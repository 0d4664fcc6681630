import math

import numpy as np
import pytest

from stacked_autoencoder.utils.checks import (
    did_you_mean,
    non_negative,
    positive_int,
    positive_ints,
    positive_number,
    whole,
)


def test_a_near_name_is_suggested():
    assert did_you_mean("rellu", ["gelu", "relu", "tanh"]) == "did you mean 'relu'? "
    assert did_you_mean("KLSparsty", {"L1": None, "KLSparsity": None}) == "did you mean 'KLSparsity'? "


def test_nothing_is_suggested_for_what_is_far_from_all():
    assert did_you_mean("xyz", ["relu", "tanh"]) == ""
    assert did_you_mean(3, ["relu"]) == ""


def test_finite_numbers_of_at_least_zero():
    numbers = (0, 2, 0.5, np.float32(0.5), np.int64(2))
    assert [non_negative("weight", value) for value in numbers] == [0.0, 2.0, 0.5, 0.5, 2.0]
    for wrong in (-1, math.inf, math.nan, True, np.True_, "1", None, [1], np.array([1.0])):
        with pytest.raises(ValueError, match=r"`weight` must be a number of at least 0\. Received: weight="):
            non_negative("weight", wrong)


@pytest.mark.parametrize("value", [2, 2.0, np.int64(2), np.uint8(2), np.float16(2), np.float32(2), np.float64(2)])
def test_whole_numbers_as_users_write_them(value):
    for number in (whole(value), positive_int("n", value), positive_int("n", value, least=2)):
        assert number == 2
        assert type(number) is int
    assert positive_number("rate", value) == 2.0
    assert type(positive_number("rate", value)) is float


WRONG = [0, -1, -2.0, 2.5, np.float32(0.5), True, np.True_, math.nan, math.inf, np.float32("nan"), "2", None, [2], 2j]


@pytest.mark.parametrize("value", WRONG)
def test_what_is_no_positive_whole_number_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"`n` must be a whole number of at least 1\. Received: n="):
        positive_int("n", value)


def test_one_or_several_whole_numbers():
    for several in ([1, 2.0], (np.int64(1), 2), range(1, 3), np.array([1, 2]), np.array([1.0, 2.0])):
        assert positive_ints("units", several) == [1, 2]
    assert positive_ints("units", np.float64(3)) == [3]
    assert positive_ints("epochs", [0, 1], least=0) == [0, 1]
    for wrong in ([], (), np.array([]), [[1]], [1, 0], [1, True], "12", np.array(2), {1}):
        with pytest.raises(ValueError, match=r"`units` must be .*whole number.*Received: units="):
            positive_ints("units", wrong)


@pytest.mark.parametrize("value", [0, 0.0, -1, -1e-3, math.nan, math.inf, True, "0.1", None, [0.1], np.float32("inf")])
def test_what_is_no_positive_number_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"`rate` must be a finite number above 0\. Received: rate="):
        positive_number("rate", value)
