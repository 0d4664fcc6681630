import keras
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, DenseLevel
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.data.pairs import Pairs
from stacked_autoencoder.training.model import ReconstructionModel
from stacked_autoencoder.training.validation import LossEvaluator

SHAPE = (16, 16, 3)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    level = DenseLevel(4, penalty=keras.regularizers.L1(1e-3))
    level.build(SHAPE)
    return ReconstructionModel([level])


@pytest.mark.parametrize("of_others", [False, True])
def test_means_are_those_of_all_images_whatever_the_batches(model, images, of_others):
    images, targets = images[:7], images[7:14] if of_others else images[:7]
    pairs = Pairs(as_source(images, SHAPE), as_source(targets, SHAPE) if of_others else None)
    evaluator = LossEvaluator(model, SHAPE)
    expected = {name: float(mean) for name, mean in model.terms_of(images, targets, model(images)).items()}
    expected["loss"] = sum(expected.values())
    assert set(expected) == {"loss", "reconstruction", "penalty"}
    for batch_size in (3, 7):
        assert evaluator.of_all(pairs, batch_size) == pytest.approx(expected, rel=1e-5)
        assert evaluator(pairs.batches(batch_size)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_all_is_traced_once(images, monkeypatch):
    calls, call = [], ReconstructionModel.terms_of
    monkeypatch.setattr(ReconstructionModel, "terms_of", lambda self, *given: calls.append(1) or call(self, *given))
    sae = Autoencoder(shape=SHAPE, levels=[DenseLevel(4)])
    sae.train(images, epochs=3, batch_size=20, validation_data=images[:30], verbose=0)
    assert len(calls) == 2  # for the start and three epochs, and for the step


@pytest.mark.parametrize("known", [True, False])
def test_no_validation_data_at_all_raise_an_error(images, known):
    none = tf.data.Dataset.from_tensor_slices(images[:0])
    empty = none if known else none.filter(lambda image: True)
    sae = Autoencoder(shape=SHAPE, levels=[DenseLevel(4)])
    with pytest.raises(
        ValueError, match=r"`validation_data` must contain at least one image.*empty source: a dataset of"
    ):
        sae.train(images, validation_data=empty, verbose=0)


def test_no_validation_data_at_all_raise_an_error_on_devices_too(images):
    empty = tf.data.Dataset.from_tensor_slices(images[:0])
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        sae = Autoencoder(shape=SHAPE, levels=[DenseLevel(4)])
    with pytest.raises(ValueError, match="`validation_data` must contain at least one image"):
        sae.train(images, validation_data=empty, verbose=0)


def test_a_file_that_breaks_between_epochs_raises_the_original_error(images):
    passes = 0

    def pictures():
        nonlocal passes
        passes += 1
        yield images[0] * (1 if passes <= 1 else 40)

    valid = tf.data.Dataset.from_generator(pictures, output_signature=tf.TensorSpec(SHAPE))
    sae = Autoencoder(shape=SHAPE, levels=[DenseLevel(4)])
    with pytest.raises(ValueError, match=r"lie in \[-1, 1\]"):
        sae.train(images, epochs=2, validation_data=valid, verbose=0)


def test_callbacks_raise_an_error_when_validation_begins_and_ends(images):
    told = []

    class Look(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            told.append("begin")

        def on_test_end(self, logs=None):
            told.append(logs["loss"])

    sae = Autoencoder(shape=SHAPE, levels=[DenseLevel(4)])
    (history,) = sae.train(images, epochs=2, validation_data=images[:8], callbacks=[Look()], verbose=0)
    first, second = history.history["val_loss"]
    assert told == ["begin", first, "begin", second]
