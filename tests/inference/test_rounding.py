import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.inference import rounding
from stacked_autoencoder.inference.rounding import find_rounding
from tests.conftest import blobs


@pytest.fixture(scope="module")
def sae():
    keras.utils.set_random_seed(0)
    sae = Autoencoder(size=8, n_out=6, n_scalings=2, n_levels=2)
    sae.train(blobs(200), epochs=1, verbose=0)
    return sae


def source_of(sae, images):
    return as_source(images, **sae.stack.source_options, finite="images")


def loss_of(sae, images, level, step=None):
    encodings = sae.encode(images, level)
    if step is not None:
        encodings = np.rint(encodings / step) * step
    return np.square(sae.decode(encodings.astype(np.float32), level) - images).mean()


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("budget", [0.001, 0.01, 0.5])
def test_the_budget_is_kept_and_used(sae, level, budget):
    images = blobs(600, seed=5)
    step, added = find_rounding(sae.stack, level, source_of(sae, images), budget)
    assert 0.4 * budget < added <= budget
    measured = loss_of(sae, images, level, step) / loss_of(sae, images, level) - 1
    assert 0.4 * budget < measured < 1.15 * budget


def test_the_sample_is_spread_over_a_source_of_known_length(sae):
    images = np.linspace(-1, 1, 3000, dtype=np.float32)[:, None, None, None] * np.ones((1, 16, 16, 3), np.float32)

    def indices(source):
        values = [batch[:, 0, 0, 0] for batch in rounding._sampled(source_of(sae, source))]
        return ((np.concatenate(values) + 1) * 2999 / 2).round()

    numbers = indices(images)
    assert 500 < len(numbers) == len(np.unique(numbers)) <= 512
    assert numbers.min() < 10
    assert numbers.max() > 2990
    assert np.histogram(numbers, 8, (0, 3000))[0].min() > 32
    stream = tf.data.Dataset.from_tensor_slices(images).filter(lambda _: True)
    np.testing.assert_array_equal(indices(stream), np.arange(512))


@pytest.mark.parametrize("count", [1, 2, 3, 33])
def test_few_images_are_enough(sae, count):
    assert find_rounding(sae.stack, 0, source_of(sae, blobs(count)), 0.05).added_loss <= 0.05


def test_images_of_several_sizes(sae):
    flexible = Autoencoder(shape=(None, None, 3), levels=[ConvLevel(4, 2, 8)])
    flexible.train(blobs(32), epochs=0, verbose=0)
    images = [blobs(1, side=side, seed=side)[0] for side in (16, 20, 24, 16, 40)]
    assert find_rounding(flexible.stack, 0, source_of(flexible, images), 0.05).added_loss <= 0.05


def test_the_sample_is_limited_in_size(sae, monkeypatch):
    monkeypatch.setattr(rounding, "MOST_VALUES", 100 * 16 * 16 * 3)
    assert sum(map(len, rounding._sampled(source_of(sae, blobs(300))))) <= 100


def test_a_loss_of_zero_has_no_share():
    images = np.zeros((20, 16, 16, 3), np.float32)
    sae = Autoencoder(shape=(16, 16, 3), n_scalings=2, size=8, n_out=2)
    sae.train(images, epochs=0, verbose=0)
    assert sae.evaluate(images) == 0
    with pytest.raises(ValueError, match=r"loss of these images is 0.*`dtype=\"float32\"`"):
        find_rounding(sae.stack, 0, source_of(sae, images), 0.01)


def test_a_loss_of_rounding_errors_has_no_share(tmp_path):
    keras.utils.set_random_seed(0)
    images = blobs(40, channels=1)
    sae = Autoencoder(shape=(16, 16, 1), n_scalings=1, size=8, n_out=4)  # nothing is lost: as many values as the images
    sae.train(images, epochs=0, verbose=0)
    with pytest.raises(ValueError, match="is 0, apart from rounding"):
        sae.encode_to(tmp_path / "store", images, loss_budget=0.01, verbose=0)
    sae.encode_to(tmp_path / "store", images, dtype="float32", verbose=0)  # as the message says


def test_a_budget_below_the_rounding_of_float32_raises_an_error(sae, tmp_path):
    images = blobs(8)
    with pytest.raises(ValueError, match=r"No step adds at most.*larger `loss_budget`"):
        sae.encode_to(tmp_path / "store", images, loss_budget=1e-12, verbose=0)
    store = sae.encode_to(tmp_path / "store", images, loss_budget=1e-9, verbose=0)
    np.testing.assert_allclose(store[:], sae.encode(images), atol=1e-3)


@pytest.mark.parametrize("budget", [0, -0.1, float("nan"), float("inf"), 1e39, "1%", True])
def test_the_budget_must_be_a_positive_number(sae, budget, tmp_path):
    with pytest.raises(ValueError, match=r"`loss_budget` .*Received"):
        sae.encode_to(tmp_path / "store", blobs(4), loss_budget=budget, verbose=0)
    assert not (tmp_path / "store").exists()


def test_a_budget_and_a_dtype_exclude_each_other(sae, tmp_path):
    with pytest.raises(ValueError, match=r"remove one of them. Received: dtype='int8', loss_budget=0\.01"):
        sae.encode_to(tmp_path / "store", blobs(4), dtype="int8", loss_budget=0.01, verbose=0)
