"""What every kind of level must do, in one table."""

import json
import pickle

import keras
import numpy as np
import pytest

from stacked_autoencoder import (
    Autoencoder,
    ConvLevel,
    DenseLevel,
    KLSparsity,
    Mask,
    SaltAndPepper,
    SequenceLevel,
    metrics,
)
from tests.conftest import blobs, run_without_this_package, waves

IMAGES = (12, 12, 1)
SEQUENCES = (10, 2)
KINDS = {
    "conv": (IMAGES, lambda: [ConvLevel(4, 2, 8)]),  # of the default depth, 3; the others are small
    "conv, tied, to a vector": (IMAGES, lambda: [ConvLevel(4, 2, 8, depth=1, latent_dim=6, tied=True)]),
    "conv, bilinear": (IMAGES, lambda: [ConvLevel(4, 2, 8, depth=1, upsampling="bilinear")]),
    "conv, noisy": (IMAGES, lambda: [ConvLevel(4, 2, 8, depth=1, corruption=SaltAndPepper(0.1))]),
    "conv, SSIM": (IMAGES, lambda: [ConvLevel(4, 2, 8, depth=1, loss=metrics.SSIMWithL1(0.5))]),
    "conv, variational": (IMAGES, lambda: [ConvLevel(4, 2, 8, depth=1, kl_weight=0.02)]),
    "dense": (IMAGES, lambda: [DenseLevel([24, 8])]),
    "dense on dense, tied": (
        IMAGES,
        lambda: [DenseLevel(24, "leaky_relu", tied=True), DenseLevel(8, "tanh", tied=True)],
    ),
    "dense, KL": (IMAGES, lambda: [DenseLevel(32, "sigmoid", penalty=KLSparsity(0.1, 1e-3))]),
    "dense, masked": (IMAGES, lambda: [DenseLevel([24, 8], corruption=Mask(0.3), loss="mae")]),
    "dense, variational": (IMAGES, lambda: [DenseLevel([24, 6], kl_weight=0.1)]),
    "sequence, next": (SEQUENCES, lambda: [SequenceLevel(6, target="next", cell="gru")]),
    "sequence, conditional": (SEQUENCES, lambda: [SequenceLevel(6, "both", conditional=True, corruption=Mask(0.1))]),
    "sequence, several levels": (SEQUENCES, lambda: [SequenceLevel(8, corruption=Mask(0.02)), SequenceLevel(6)]),
    "sequence, padded": (SEQUENCES, lambda: [SequenceLevel(6, mask_value=-9.0)]),
}


def data(shape, seed=0):
    if shape is IMAGES:
        return blobs(128, 12, 1, seed)
    sequences = waves(128, *shape, seed)
    sequences[::4, 7:] = -9.0
    return sequences


def trained_on(name, epochs=3):
    shape, levels = KINDS[name]
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=shape, levels=levels())
    histories = sae.train(data(shape), epochs=epochs, validation_data=data(shape, seed=1), verbose=0)
    return sae, histories


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Name → a trained stack, its histories and where it is saved."""
    made = {}
    for index, name in enumerate(KINDS):
        sae, histories = trained_on(name)
        made[name] = sae, histories, sae.save(tmp_path_factory.mktemp("kinds") / str(index))
    return made


@pytest.fixture(scope="module")
def elsewhere(kinds, tmp_path_factory):
    """What every saved part gives in one process that knows only Keras: name of the kind → encodings and restored."""
    folder = tmp_path_factory.mktemp("elsewhere")
    jobs = {name: (str(path), len(sae.levels)) for name, (sae, _, path) in kinds.items()}
    for name in KINDS:
        np.save(folder / f"{list(KINDS).index(name)}.npy", data(KINDS[name][0], seed=1)[:8])
    program = f"""
import warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "__array__ implementation")
import numpy as np, tensorflow as tf
for index, (path, count) in enumerate({list(jobs.values())!r}):
    x = np.load(f"{folder}/{{index}}.npy")
    for level in range(count):
        x = tf.keras.models.load_model(f"{{path}}/encoder{{level}}").predict(x, verbose=0)
    encodings = x
    for level in reversed(range(count)):
        x = tf.keras.models.load_model(f"{{path}}/decoder{{level}}").predict(x, verbose=0)
    np.savez(f"{folder}/{{index}}.npz", encodings=encodings, restored=x)
"""
    run_without_this_package(program)
    return {name: np.load(folder / f"{index}.npz") for index, name in enumerate(KINDS)}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_the_loss_falls(kinds, name):
    _, histories, _ = kinds[name]
    for history in histories:
        assert history.history["loss"][-1] < history.history["loss"][0]
        assert np.isfinite(history.history["val_loss"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_what_is_kept_is_not_worse_than_the_start(kinds, name):
    _, histories, _ = kinds[name]
    for history in histories:
        assert min(history.history["val_loss"]) <= 1.02 * history.start_loss


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_the_saved_pair_gives_the_same_numbers_without_this_package(kinds, elsewhere, name):
    sae, _, _ = kinds[name]
    inputs = data(KINDS[name][0], seed=1)[:8]
    encodings = sae.encode(inputs)
    np.testing.assert_allclose(elsewhere[name]["encodings"], encodings, atol=1e-5)
    np.testing.assert_allclose(elsewhere[name]["restored"], sae.decode(encodings), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_loaded_stack_is_the_same_and_trains_on(kinds, name):
    sae, _, path = kinds[name]
    shape = KINDS[name][0]
    inputs, valid = data(shape), data(shape, seed=1)
    loaded = Autoencoder.load(path)
    assert [repr(level) for level in loaded.levels] == [repr(level) for level in sae.levels]
    np.testing.assert_array_equal(loaded.encode(valid), sae.encode(valid))
    assert loaded.count_params() == sae.count_params()
    for ours, theirs in zip(sae.levels, loaded.levels, strict=True):
        for weight, other in zip(ours.get_training_weights(), theirs.get_training_weights(), strict=True):
            np.testing.assert_array_equal(weight, other)
    histories = loaded.train(inputs, epochs=1, validation_data=valid, verbose=0)
    for level, history, before in zip(sae.levels, histories, kinds[name][1], strict=True):
        # Corruption and draws aren't the same twice: 2 % of so few values move the loss by a fifth.
        tolerance = 0.1 if level.objective.corruption is None else 0.3
        best = min(*before.history["val_loss"], before.start_loss)
        assert history.start_loss == pytest.approx(best, rel=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_pickled_stack_is_the_same_and_trains_on(kinds, name):
    sae, _, _ = kinds[name]
    inputs = data(KINDS[name][0])
    encodings = sae.encode(inputs)
    again = pickle.loads(pickle.dumps(sae))
    np.testing.assert_array_equal(again.encode(inputs), encodings)
    np.testing.assert_array_equal(again.decode(encodings), sae.decode(encodings))
    assert again.stack.fingerprint(len(sae.levels) - 1) == sae.stack.fingerprint(len(sae.levels) - 1)
    if name in ("conv", "dense on dense, tied", "sequence, conditional"):
        for history in again.train(inputs, epochs=1, verbose=0):
            assert np.isfinite(history.history["loss"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_one_seed_gives_the_same_numbers_twice(kinds, name):
    _, first, _ = kinds[name]
    sae, second = trained_on(name)
    assert [history.history for history in second] == [history.history for history in first]
    inputs = data(KINDS[name][0], seed=1)
    np.testing.assert_array_equal(sae.encode(inputs), kinds[name][0].encode(inputs))


@pytest.mark.parametrize("name", KINDS)
def test_the_configuration_makes_the_same_level_again(name):
    shape, levels = KINDS[name]
    sae = Autoencoder(shape=shape, levels=levels())
    configs = [level.get_config() for level in sae.levels]
    plain = json.loads(json.dumps(configs))
    again = Autoencoder(
        shape=shape, levels=[type(level)(**config) for level, config in zip(sae.levels, plain, strict=True)]
    )
    assert [level.get_config() for level in again.levels] == configs
    for ours, theirs in zip(sae.levels, again.levels, strict=True):
        assert ours.encoding_shape == theirs.encoding_shape
        for part in ours.models():
            assert [w.shape for w in ours.models()[part].weights] == [w.shape for w in theirs.models()[part].weights]


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_nothing_that_only_trains_is_saved(kinds, name):
    _, _, path = kinds[name]
    for config in path.glob("*coder*/config.json"):
        text = config.read_text()
        assert "stacked_autoencoder" not in text
        for part in ("Noise", "Mask(", "SaltAndPepper", "KLSparsity", 'regularizer": {', "log_variance"):
            assert part not in text
