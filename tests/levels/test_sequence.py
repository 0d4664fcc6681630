import tempfile

import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, Mask, SequenceLevel
from stacked_autoencoder.levels.sequence import delayed
from stacked_autoencoder.levels.trainable import TeacherForcing, TrainableSequenceLevel
from stacked_autoencoder.pca import fit_linear_code
from stacked_autoencoder.training.model import ReconstructionModel
from tests.conftest import waves

SERIES = waves(256)


def built(*levels, shape=(10, 2)):
    return Autoencoder(shape=shape, levels=list(levels))


def shaken(model, seed=0):
    """Weights that aren't where the start has put them, so that no path gives zeros."""
    rng = np.random.default_rng(seed)
    model.set_weights([weight + 0.3 * rng.normal(size=weight.shape) for weight in model.get_weights()])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_layers_and_shapes(cell):
    sae = built(SequenceLevel([8, 6], cell=cell))
    level = sae.levels[0]
    assert level.encoding_shape == (6,)
    assert level.decoder.output_shape == (None, 10, 2)
    recurrent = keras.layers.LSTM if cell == "lstm" else keras.layers.GRU
    for model, units in ((level.encoder, [8, 6]), (level.decoder, [6, 8])):
        assert [layer.units for layer in model.layers if isinstance(layer, recurrent)] == units


@pytest.mark.parametrize("conditional", [False, True])
def test_the_start_is_the_linear_code(conditional):
    sae = built(SequenceLevel(4, conditional=conditional))
    sae.train(SERIES, epochs=0, verbose=0)
    budget = sae.evaluate(SERIES, return_dict=True)[0]
    assert budget["full_loss"] == pytest.approx(budget["pca_loss"], rel=1e-3)
    assert np.isnan(budget["psnr"])
    assert np.square(sae.encode(SERIES)).mean() == pytest.approx(1, rel=1e-3)


@pytest.mark.filterwarnings("ignore:Some columns of `images` vary less:UserWarning")
@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_a_feature_that_does_not_change_is_not_blown_up(rounding):
    sequences = waves(64)
    still = 2 + rounding * np.random.default_rng(0).normal(size=(64, 10, 1))
    sae = Autoencoder(shape=(10, 3), levels=[SequenceLevel(4)])
    sae.train(np.concatenate([sequences, still.astype(np.float32)], axis=2), epochs=0, verbose=0)
    kernel = sae.levels[0].encoder.get_layer("lstm0").get_weights()[0]
    assert 0 < np.abs(kernel[2]).max() < 1


@pytest.mark.filterwarnings("ignore:Some columns of `images` vary less:UserWarning")
def test_recurrent_layers_see_every_feature_alike():
    """Whatever its unit: features a thousand times as large, and far from zero, give the same states."""
    states = []
    for series in (SERIES, SERIES * [1000, 0.01] + [5000, 3]):
        keras.utils.set_random_seed(0)
        sae = built(SequenceLevel(4))
        sae.train(series.astype(np.float32), epochs=0, verbose=0)
        hidden = keras.Model(sae.levels[0].encoder.input, sae.levels[0].encoder.get_layer("lstm0").output)
        states.append(hidden(series.astype(np.float32)).numpy())
    np.testing.assert_allclose(*states, atol=1e-2)
    assert np.abs(states[0]).mean() > 0.05


def test_the_predictors_target_is_shifted_by_one():
    steps = np.arange(6, dtype=np.float32)[None, :, None]
    np.testing.assert_array_equal(np.asarray(delayed(steps))[0, :, 0], [0, 0, 1, 2, 3, 4])
    level = SequenceLevel(3, target="next")
    sae = built(level, shape=(6, 1))
    shaken(level.encoder)
    shaken(level.decoder)
    # What is written for a step depends on no later one, nor on the step itself.
    before = sae.reconstruct(steps)
    changed = steps.copy()
    changed[0, -1] = 100
    np.testing.assert_array_equal(sae.reconstruct(changed), before)
    changed = steps.copy()
    changed[0, -2] = 100
    assert (sae.reconstruct(changed) != before).any()


def test_the_first_step_is_given_and_does_not_count():
    sae = built(SequenceLevel(4, target="next"))
    sae.train(SERIES, epochs=0, verbose=0)
    errors = np.square(sae.reconstruct(SERIES) - SERIES)
    assert sae.evaluate(SERIES) == pytest.approx(errors[:, 1:].mean(), rel=1e-5)
    model = ReconstructionModel(sae.levels)
    assert float(model.compute_loss(SERIES, None, model(SERIES))) == pytest.approx(errors[:, 1:].mean(), rel=1e-5)


@pytest.mark.slow
def test_a_forecast_is_better_than_the_last_step_said_again():
    train, test = waves(2000, 13, seed=2), waves(300, 13, seed=3)
    sae = built(SequenceLevel(8, target="both"), shape=(12, 2))
    sae.train(train[:, :12], epochs=5, verbose=0)
    forecast = np.asarray(sae.levels[0].predictor(sae.encode(test[:, :12])))[:, -1]
    again = np.square(test[:, 11] - test[:, 12]).mean()
    assert np.square(forecast - test[:, 12]).mean() < 0.7 * again


def test_a_composite_level_tells_both_losses():
    sae = built(SequenceLevel(4, target="both"))
    (history,) = sae.train(SERIES, epochs=1, validation_data=SERIES[:64], verbose=0)
    parts = history.history
    assert parts["loss"][0] == pytest.approx(parts["reconstruction"][0] + parts["prediction"][0], rel=1e-4)
    assert set(sae.levels[0].models()) == {"encoder", "decoder", "predictor"}


def test_the_predictor_is_saved_beside_the_pair(tmp_path):
    sae = built(SequenceLevel(4, target="both"))
    sae.train(SERIES, epochs=0, verbose=0)
    path = sae.save(tmp_path / "model")
    predictor = keras.models.load_model(path / "predictor0")
    encodings = sae.encode(SERIES)
    np.testing.assert_allclose(predictor(encodings), sae.levels[0].predictor(encodings), atol=1e-5)
    loaded = Autoencoder.load(path).levels[0].predictor
    np.testing.assert_array_equal(loaded(encodings), sae.levels[0].predictor(encodings))


def test_a_reversed_decoder_writes_the_last_step_first():
    level = SequenceLevel(4)
    built(level)
    shaken(level.decoder)
    hidden = keras.Model(level.decoder.input, level.decoder.get_layer("residual").output)
    linear = keras.Model(level.decoder.input, level.decoder.get_layer("linear").output)
    encodings = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    written = np.asarray(level.decoder(encodings)) - np.asarray(linear(encodings)).reshape(3, 10, 2)
    np.testing.assert_allclose(written, np.asarray(hidden(encodings))[:, ::-1], atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_teacher_forcing_with_what_was_written_is_what_the_decoder_writes(cell, reverse):
    level = SequenceLevel([5, 4], conditional=True, cell=cell, reverse=reverse)
    built(level)
    shaken(level.decoder)
    encodings = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    written = level.decoder(encodings)
    forced = TeacherForcing(level, level.decoder, reverse=reverse)
    np.testing.assert_allclose(forced(encodings, written), written, atol=1e-5)
    other = np.asarray(written).copy()
    other[:, 5] += 1  # each step depends on the one written before it, and on nothing after
    changed = np.flatnonzero((np.abs(forced(encodings, other) - written) > 1e-6).any(axis=(0, 2)))
    np.testing.assert_array_equal(changed, np.arange(5) if reverse else np.arange(6, 10))


def test_only_training_is_forced():
    level = SequenceLevel(4, conditional=True)
    built(level)
    shaken(level.encoder)
    shaken(level.decoder)
    part = TrainableSequenceLevel(level)
    free, forced = (np.asarray(part.decode(part.encode(SERIES, training), training)) for training in (False, True))
    np.testing.assert_allclose(free, level.decode(level.encode(SERIES)), atol=1e-5)
    assert np.abs(free - forced).max() > 0.01


def test_padded_steps_change_nothing():
    level = SequenceLevel(4, mask_value=-9.0)
    sae = built(level)
    padded = SERIES.copy()
    padded[::2, 6:] = -9.0
    sae.train(padded, epochs=0, verbose=0)
    shaken(level.encoder)
    longer = Autoencoder(shape=(10, 2), levels=[SequenceLevel(4, mask_value=-1e6)])
    longer.levels[0].encoder.set_weights(level.encoder.get_weights())
    other = np.where(padded == -9.0, -1e6, padded).astype(np.float32)
    np.testing.assert_allclose(longer.encode(other), sae.encode(padded), atol=1e-5)
    restored = sae.reconstruct(padded)
    real = (padded != -9.0).any(axis=-1)
    assert sae.evaluate(padded) == pytest.approx(np.square(restored - padded)[real].mean(), rel=1e-5)
    model = ReconstructionModel([level])
    assert float(model.compute_loss(padded, None, model(padded))) == pytest.approx(sae.evaluate(padded), rel=1e-4)
    assert np.isnan(sae.evaluate(padded, return_dict=True)[0]["pca_loss"])


def test_lower_levels_of_a_stack_encode_as_sequences():
    sae = built(SequenceLevel(8), SequenceLevel(6), DenseLevel(3))
    assert [level.encoding_shape for level in sae.levels] == [(10, 8), (6,), (3,)]
    sae.train(SERIES, epochs=1, verbose=0)
    assert sae.encode(SERIES, level=0).shape == (256, 10, 8)
    assert sae.reconstruct(SERIES).shape == SERIES.shape
    code = fit_linear_code(lambda: [SERIES.reshape(-1, 2)], None, 2)
    assert sae.evaluate(SERIES, return_dict=True)[0]["full_loss"] < 1e-3 * code.variances.sum()


def test_a_trained_level_that_ends_in_a_vector_is_not_changed():
    sae = built(SequenceLevel(6))
    sae.train(SERIES, epochs=0, verbose=0)
    before = sae.encode(SERIES)
    with pytest.raises(ValueError, match=r"outputs vectors\. Create the lower level with `return_sequences=True`"):
        sae.add(SequenceLevel(4))
    np.testing.assert_array_equal(sae.encode(SERIES), before)


def test_datasets_and_stores_of_sequences(tmp_path):
    import tensorflow as tf

    sae = built(SequenceLevel(8), SequenceLevel(4))
    batches = tf.data.Dataset.from_tensor_slices(SERIES).batch(32)
    sae.train(batches, epochs=1, verbose=0, memory_budget=0)
    store = sae.encode_to(tmp_path / "store", SERIES, level=0, dtype="float32", verbose=0)
    assert store.shape == (256, 10, 8)
    np.testing.assert_allclose(store[:], sae.encode(SERIES, level=0), atol=1e-5)
    sae.train(store, levels=[1], epochs=1, verbose=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SequenceLevel(4, target="nxt"), r"`target` must be one of input, next, both: did you mean 'next'\?"),
        (lambda: SequenceLevel(4, cell="ltsm"), r"`cell` must be one of lstm, gru: did you mean 'lstm'\?"),
        (lambda: SequenceLevel([]), "`units` must be at least one whole number"),
        (lambda: SequenceLevel(4, conditional=True, return_sequences=True), "decodes step by step"),
        (
            lambda: built(SequenceLevel(4), shape=(8, 8, 3)),
            r"needs sequences of shape.*`images\.reshape\(len\(images\), height, -1\)`",
        ),
        (lambda: built(SequenceLevel(4), shape=(None, 3)), "sequences of one known length.*`mask_value`"),
        (lambda: built(SequenceLevel(4, target="both"), shape=(1, 3)), "at least two steps"),
        (lambda: built(SequenceLevel(4), ConvLevel(4)), "use a DenseLevel after a level that outputs vectors"),
        (lambda: built(SequenceLevel(4)).train(SERIES[None]), r"must have the shape \(N, timesteps, features\)"),
        (lambda: built(SequenceLevel(4)).train(SERIES[0]), "looks like a single one: add the batch axis"),
        (
            lambda: built(SequenceLevel(4)).train(SERIES[:, :9]),
            r"sequences \(timesteps, features\) of shape \(10, 2\)",
        ),
        (
            lambda: built(SequenceLevel(4)).train(tempfile.gettempdir()),
            r"made for sequences \(timesteps, features\): pass an array",
        ),
        (
            lambda: built(SequenceLevel(4, corruption=Mask(0.1))).encode(SERIES, tile=8),
            "encodes images as vectors.*Remove `tile`",
        ),
    ],
)
def test_wrong_arguments_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_mask_value_that_equals_nothing_is_refused_and_the_advice_works(value):
    message = r"`mask_value` must be a finite number.*`np\.nan_to_num\(sequences, nan=-9\.0\)` and `mask_value=-9\.0`"
    with pytest.raises(ValueError, match=message):
        SequenceLevel(4, mask_value=value)
    sequences = SERIES.copy()
    sequences[::2, 6:] = np.nan
    sae = built(SequenceLevel(4, mask_value=-9.0))
    sae.train(np.nan_to_num(sequences, nan=-9.0), epochs=0, verbose=0)
    whole = Autoencoder(shape=(10, 2), levels=[SequenceLevel(4)], missing="ignore")
    whole.train(sequences, epochs=0, verbose=0)
