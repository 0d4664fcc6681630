"""What all levels share: here, that they can be copied and pickled."""

import copy
import pickle

import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, KLSparsity, Mask, SequenceLevel, metrics
from tests.conftest import blobs, run_elsewhere, waves


@keras.saving.register_keras_serializable("tests")
def fifth_power(targets, outputs):
    return keras.ops.mean((targets - outputs) ** 4, axis=-1)


@keras.saving.register_keras_serializable("tests")
class Squares(keras.regularizers.Regularizer):
    def __init__(self, strength):
        self.strength = strength

    def __call__(self, code):
        return self.strength * keras.ops.sum(code**2)

    def get_config(self):
        return {"strength": self.strength}


LEVELS = {
    "conv": lambda: ConvLevel(4, 2, 4),
    "conv, variational": lambda: ConvLevel(4, 2, 4, kl_weight=0.1),
    "conv, SSIM, noisy": lambda: ConvLevel(
        4, 2, 4, loss=metrics.SSIMWithL1(0.5), corruption=keras.layers.GaussianNoise(0.1, seed=3)
    ),
    "dense, own loss and penalty": lambda: DenseLevel([12, 4], loss=fifth_power, penalty=Squares(1e-3)),
    "dense, sparse, masked": lambda: DenseLevel(
        12, "sigmoid", penalty=KLSparsity(0.1, 1e-3), corruption=Mask(0.3, seed=3), loss="huber"
    ),
    "sequence, two decoders": lambda: SequenceLevel(4, "both", conditional=True, cell="gru"),
}


def made(name):
    data = waves(32) if name.startswith("sequence") else blobs(32, channels=1)
    return Autoencoder(shape=data.shape[1:], levels=[LEVELS[name]()]), data


@pytest.fixture(scope="module", params=LEVELS)
def used(request):
    """A stack that was trained and used, its data and what it makes of them. Not to be changed."""
    keras.utils.set_random_seed(0)
    sae, data = made(request.param)
    sae.train(data, epochs=0, verbose=0)
    encodings = sae.encode(data)
    return sae, data, encodings, sae.decode(encodings)


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


def assert_same_weights(one, other):
    ours, theirs = one.get_weights(), other.get_weights()
    assert list(ours) == list(theirs)
    for name, weights in ours.items():
        for weight, again in zip(weights, theirs[name], strict=True):
            np.testing.assert_array_equal(weight, again)


@pytest.mark.parametrize("again", [copy.deepcopy, pickled])
def test_a_copy_of_a_level_that_was_used_is_the_same_level(used, again):
    sae, data, encodings, restored = used
    level, twin = sae.levels[0], again(sae.levels[0])
    assert_same_weights(level, twin)
    assert repr(twin) == repr(level)
    assert twin.encoder.name == level.encoder.name
    np.testing.assert_array_equal(twin.encode(data), encodings)
    np.testing.assert_array_equal(twin.decode(encodings), restored)
    np.testing.assert_array_equal(twin.std, level.std)
    twin.encoder.set_weights([weight + 1 for weight in twin.encoder.get_weights()])
    np.testing.assert_array_equal(sae.encode(data), encodings)  # it has weights of its own


@pytest.mark.parametrize("name", ["conv, variational", "dense, sparse, masked"])
def test_a_copy_of_a_stack_trains_as_the_stack_does(name):
    sae, data = made(name)
    sae.train(data, epochs=1, verbose=0)
    sae.encode(data)
    twin = copy.deepcopy(sae)
    losses = []
    for each in (sae, twin):
        keras.utils.set_random_seed(1)
        (history,) = each.train(data, epochs=2, verbose=0)
        losses.append([history.start_loss, *history.history["loss"]])
    assert losses[0] == losses[1]
    assert_same_weights(sae.levels[0], twin.levels[0])
    np.testing.assert_array_equal(twin.encode(data), sae.encode(data))


def test_a_copy_of_a_variational_level_shares_layers_as_the_level_does():
    sae, _ = made("conv, variational")
    level = copy.deepcopy(sae).levels[0]
    assert level.posterior.get_layer("features") is level.encoder.get_layer("features")


@pytest.mark.slow
def test_a_pickled_level_finds_losses_and_penalties_of_the_users_own_in_another_process(tmp_path, request):
    sae, data = made("dense, own loss and penalty")
    sae.train(data, epochs=1, verbose=0)
    (tmp_path / "sae.pickle").write_bytes(pickle.dumps(sae))
    np.savez(tmp_path / "data.npz", data=data, encodings=sae.encode(data))
    program = f"""
import pickle, numpy as np
sae = pickle.load(open({str(tmp_path / "sae.pickle")!r}, "rb"))
expected = np.load({str(tmp_path / "data.npz")!r})
np.testing.assert_allclose(sae.encode(expected["data"]), expected["encodings"], atol=1e-6)
objective = sae.levels[0].objective
print(objective.loss.__name__, objective.penalty.strength)
sae.train(expected["data"], epochs=1, verbose=0)
"""
    assert run_elsewhere(program, request.config.rootpath).splitlines()[-1] == "fifth_power 0.001"
