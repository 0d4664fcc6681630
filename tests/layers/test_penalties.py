import keras
import numpy as np
import pytest

from stacked_autoencoder import ConvLevel, DenseLevel, KLSparsity
from stacked_autoencoder.layers.noise import Mask
from stacked_autoencoder.levels.objective import Objective


@pytest.mark.parametrize("shape", [(64, 5), (8, 3, 3, 5)])
def test_the_divergence_is_that_of_the_mean_activity_of_each_unit(shape):
    code = np.random.default_rng(0).uniform(0.05, 0.95, shape).astype(np.float32)
    means = code.reshape(-1, 5).mean(axis=0, dtype=np.float64)
    expected = 0.5 * np.sum(0.1 * np.log(0.1 / means) + 0.9 * np.log(0.9 / (1 - means)))
    assert float(KLSparsity(target=0.1, weight=0.5)(code)) == pytest.approx(expected, rel=1e-5)


def test_units_as_active_as_wanted_cost_nothing_and_dead_ones_a_finite_amount():
    assert float(KLSparsity(0.25, 1.0)(np.full((4, 3), 0.25, np.float32))) == pytest.approx(0, abs=1e-6)
    for activity in (0.0, 1.0):
        cost = float(KLSparsity(0.25, 1.0)(np.full((4, 3), activity, np.float32)))
        assert 1 < cost < 100


@pytest.mark.parametrize("count", [4, 32])
def test_a_penalty_does_not_grow_with_the_batch(count):
    code = np.tile(np.array([[0.5, 0.25]], np.float32), (count, 1))
    assert float(Objective(penalty=keras.regularizers.L1(0.1)).of_code(code)) == pytest.approx(0.075)
    assert float(Objective(penalty=keras.regularizers.L2(0.1)).of_code(code)) == pytest.approx(0.03125)
    one = float(Objective(penalty=KLSparsity(0.1, 1.0)).of_code(code[:1]))
    assert float(Objective(penalty=KLSparsity(0.1, 1.0)).of_code(code)) == pytest.approx(one)


def test_it_works_as_any_keras_regularizer(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, "sigmoid", activity_regularizer=KLSparsity(0.2, 0.5))]
    )
    model.save(tmp_path / "model.keras")
    regularizer = keras.models.load_model(tmp_path / "model.keras").layers[0].activity_regularizer
    assert regularizer.get_config() == {"target": 0.2, "weight": 0.5}


@pytest.mark.parametrize(
    "level",
    [
        lambda: DenseLevel(8, "relu", penalty=KLSparsity()),
        lambda: DenseLevel([8, 4], ["sigmoid", "linear"], penalty=KLSparsity()),
        lambda: ConvLevel(penalty=KLSparsity()),
    ],
)
def test_a_code_without_bounds_is_told(level):
    with pytest.raises(ValueError, match=r'needs encodings in \[0, 1\].*Use `DenseLevel\(…, activation="sigmoid"\)`'):
        level()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"target": 0},
            r"`target` must be a number between 0 and 1, the mean activity of each unit\. Received: target=0",
        ),
        ({"target": 1.0}, "`target` must be a number between 0 and 1"),
        ({"target": "low"}, "`target` must be a number between 0 and 1"),
        ({"weight": -1}, r"`weight` must be a number of at least 0\. Received: weight=-1"),
    ],
)
def test_wrong_arguments_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        KLSparsity(**arguments)


def test_numbers_of_numpy_are_numbers():
    assert KLSparsity(np.float32(0.25), np.int64(1)).get_config() == {"target": 0.25, "weight": 1.0}
    assert Mask(np.float32(0.5)).rate == 0.5
