"""Images of any range and dtype, from training to what is decoded, and ranges that don't fit each other."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stacked_autoencoder import Autoencoder, DenseLevel, SequenceLevel, plots

RNG = np.random.default_rng(0)
SMOOTH = RNG.uniform(0, 1, (40, 4, 4, 1)).repeat(4, 1).repeat(4, 2)  # from 0 to 1, which few values encode exactly


def stack(**options):
    keras.utils.set_random_seed(0)
    return Autoencoder(shape=(16, 16, 1), size=8, n_out=16, **options)


def trained(images, **options):
    sae = stack(**options)
    sae.train(images, epochs=0, verbose=0)
    return sae


SCALES = {
    "uint16": ((0, 65535), "uint16"),
    "12 bits in uint16": ((0, 4095), "uint16"),
    "CT in int16": ((-1000, 3000), "int16"),
    "int32": ((-100000, 100000), "int32"),
    "uint8 as 255": ((0, 255), "uint8"),
    "reflectance": ((0, 0.02), "float32"),
    "kelvin": ((250, 320), "float64"),
}


@pytest.fixture(scope="module")
def loss_in_the_default_range():
    images = (SMOOTH * 2 - 1).astype(np.float32)
    return trained(images).evaluate(images)


@pytest.mark.parametrize(("ends", "dtype"), SCALES.values(), ids=SCALES)
def test_images_of_any_range_are_encoded_and_come_back_in_it(ends, dtype, loss_in_the_default_range, tmp_path):
    images = (ends[0] + SMOOTH * (ends[1] - ends[0])).astype(dtype)
    sae = trained(images, value_range=ends)
    width = ends[1] - ends[0]
    np.testing.assert_allclose(sae.reconstruct(images), images.astype(np.float64), atol=2e-3 * width)
    np.testing.assert_allclose(sae.decode(sae.encode(images)), sae.reconstruct(images), atol=1e-6 * width)
    assert sae.value_range == ends
    assert sae.evaluate(images) == pytest.approx(loss_in_the_default_range, abs=1e-4)
    store = sae.encode_to(tmp_path / "store", images, verbose=0)
    np.testing.assert_allclose(store[:], sae.encode(images), rtol=2e-3, atol=2e-3)
    loaded = Autoencoder.load(sae.save(tmp_path / "saved"))
    assert loaded.value_range == ends
    np.testing.assert_array_equal(loaded.encode(images), sae.encode(images))
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(8)
    np.testing.assert_allclose(sae.encode(dataset), sae.encode(images), atol=1e-5)


def test_large_images_are_scaled_tile_by_tile():
    images = (SMOOTH * 4095).astype(np.uint16)
    sae = Autoencoder(shape=(None, None, 1), size=4, n_out=4, value_range=(0, 4095))
    sae.train(images, epochs=0, verbose=0)
    large = np.tile(images[:1], (1, 40, 40, 1))
    np.testing.assert_allclose(sae.encode(large, tile=256), sae.encode(large, tile=None), atol=1e-4)


@pytest.mark.parametrize("kind", [DenseLevel(6), SequenceLevel(6)], ids=["vectors", "sequences"])
def test_vectors_and_sequences_have_ranges_too(kind):
    shape = (12,) if isinstance(kind, DenseLevel) else (12, 1)
    counts = RNG.integers(0, 1000, (50, *shape))
    sae = Autoencoder(shape=shape, levels=[kind], value_range=(0, 1000))
    sae.train(counts, epochs=0, verbose=0)
    assert np.ptp(sae.decode(sae.encode(counts))) > 100
    with pytest.raises(ValueError, match="from 0 to 1000"):
        sae.encode(counts + 5000)


def test_marked_steps_are_refused_where_the_range_would_scale_the_mark():
    with pytest.raises(ValueError, match=r"`mask_value`.*Leave `value_range` out"):
        Autoencoder(shape=(12, 1), levels=[SequenceLevel(6, mask_value=-9.0)], value_range=(0, 1000))
    Autoencoder(shape=(12, 1), levels=[SequenceLevel(6, mask_value=-9.0)])


def test_the_range_decides_what_a_store_belongs_to(tmp_path):
    images = (SMOOTH * 4095).astype(np.uint16)
    one, other = trained(images, value_range=(0, 4095)), trained(images, value_range=(0, 65535))
    other.levels[0].encoder.set_weights(one.levels[0].encoder.get_weights())
    assert one.stack.fingerprint(0) != other.stack.fingerprint(0)


# === Ranges that don't fit ===


def test_pixels_into_a_stack_trained_on_the_unit_range_are_scaled_to_it():
    pixels = np.rint(SMOOTH * 255).astype(np.uint8)
    sae = trained(pixels / 255.0)
    assert sae.value_range == (0, 1)
    np.testing.assert_allclose(sae.encode(pixels), sae.encode(pixels / 255.0), atol=1e-5)
    assert sae.evaluate(pixels) == pytest.approx(sae.evaluate(pixels / 255.0), rel=1e-3)


def test_a_folder_for_a_stack_trained_on_the_unit_range_is_scaled_to_it(tmp_path):
    pixels = np.rint(SMOOTH * 255).astype(np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{index:02d}.png")
    sae = trained(pixels / 255.0)
    np.testing.assert_allclose(sae.encode(tmp_path), sae.encode(pixels / 255.0), atol=1e-5)
    store = sae.encode_to(tmp_path / "store", tmp_path, dtype="float32", verbose=0)
    np.testing.assert_allclose(store[:], sae.encode(pixels / 255.0), atol=1e-5)


def test_validation_pixels_are_scaled_as_the_training_images_are():
    pixels = np.rint(SMOOTH * 255).astype(np.uint8)
    losses = []
    for validation in (pixels, pixels / 255.0):
        (history,) = stack().train(pixels / 255.0, epochs=1, validation_data=validation, verbose=0)
        losses.append(history.history["val_loss"])
    np.testing.assert_allclose(*losses, rtol=1e-3)


def batches(images):
    return tf.data.Dataset.from_tensor_slices(images).batch(8)


SIGNED, UNIT = (SMOOTH * 2 - 1).astype(np.float32), SMOOTH.astype(np.float32)


@pytest.mark.parametrize("make", [np.asarray, batches])
@pytest.mark.parametrize(
    ("training", "validation", "message"),
    [
        (SIGNED, UNIT, r"`validation_data`.*`images \* 2 - 1`.*`value_range=\(-1, 1\)`"),
        (UNIT, SIGNED, r"trained on images in \[0, 1\].*`\(images \+ 1\) / 2`"),
    ],
)
def test_validation_data_of_another_range_are_refused(make, training, validation, message):
    with pytest.raises(ValueError, match=message):
        stack().train(make(training), epochs=1, validation_data=make(validation), verbose=0)


@pytest.mark.parametrize(
    ("training", "validation", "options"),
    [(SIGNED, UNIT * 2 - 1, {}), (SIGNED, UNIT, {"value_range": (-1, 1)}), (UNIT, (SIGNED + 1) / 2, {})],
)
def test_what_is_said_of_validation_data_of_another_range_works(training, validation, options):
    stack(**options).train(training, epochs=1, validation_data=validation, verbose=0)


@pytest.mark.parametrize("call", ["encode", "evaluate", "reconstruct", "train"])
def test_later_images_of_another_range_are_noticed(call):
    unit = SMOOTH.astype(np.float32)
    sae = trained(unit)
    with pytest.raises(ValueError, match=r"trained on images in \[0, 1\]"):
        getattr(sae, call)(unit * 2 - 1)
    pixels = np.rint(SMOOTH * 255).astype(np.uint8)
    sae = trained(pixels)
    options = {"epochs": 0, "verbose": 0} if call == "train" else {}
    with pytest.warns(UserWarning, match=r"as images in \[0, 1\] do.*`images \* 2 - 1`"):
        getattr(sae, call)(unit, **options)
    getattr(sae, call)(unit * 2 - 1, **options)
    sae.value_range = (-1, 1)
    getattr(sae, call)(unit, **options)


def test_a_range_cannot_be_assigned_that_would_change_the_encodings():
    sae = trained((SMOOTH * 4095).astype(np.uint16), value_range=(0, 4095))
    with pytest.raises(ValueError, match=r"only \(-1, 1\) and \(0, 1\) can be assigned"):
        sae.value_range = (-1, 1)
    with pytest.raises(ValueError, match=r"only \(-1, 1\) and \(0, 1\) can be assigned"):
        trained(SMOOTH).value_range = (0, 4095)


def test_bright_training_images_do_not_make_a_stack_refuse_dark_ones_for_good():
    sae = trained((SMOOTH + 0.001) / 2)
    with pytest.raises(ValueError, match="negative"):
        sae.encode(-SMOOTH)
    sae.value_range = (-1, 1)
    assert np.isfinite(sae.encode(-SMOOTH)).all()


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "int64"])
def test_integers_without_a_range_are_refused_with_advice_that_works(dtype):
    images = np.rint(SMOOTH * 1000).astype(dtype)
    with pytest.raises(ValueError, match="`value_range=") as caught:
        stack().train(images, epochs=0, verbose=0)
    low, high = map(float, str(caught.value).split("value_range=(")[1].split(")")[0].split(", "))
    trained(images, value_range=(low, high))
    pixels = np.rint(SMOOTH * 255).astype(dtype)
    with pytest.raises(ValueError, match=r"`images.astype\('uint8'\)`"):
        stack().train(pixels, epochs=0, verbose=0)
    trained(pixels.astype("uint8"))
    assert "uint8" not in str(caught.value)  # which would wrap


def test_booleans_are_zero_and_one():
    masks = SMOOTH > 0.5
    sae = trained(masks)
    assert sae.value_range == (0, 1)
    np.testing.assert_array_equal(sae.encode(masks), sae.encode(masks.astype(np.float32)))


def test_values_outside_of_a_given_range_are_refused_with_advice_that_works():
    images = (SMOOTH * 5000).astype(np.uint16)
    with pytest.raises(ValueError, match=r"from 0 to 4095.*images.clip\(0, 4095\)") as caught:
        stack(value_range=(0, 4095)).train(images, epochs=0, verbose=0)
    assert "first in image 0" in str(caught.value)
    trained(images.clip(0, 4095), value_range=(0, 4095))
    trained(images, value_range=(0, 4095), check_range=False)


def test_pixels_are_refused_where_they_have_no_meaning():
    sae = trained((SMOOTH * 4000 - 1000).astype(np.int16), value_range=(-1000, 3000))
    pixels = np.zeros((2, 16, 16, 1), np.uint8)
    with pytest.raises(ValueError, match=r"uint8.*from -1000 to 3000.*astype\('float32'\)"):
        sae.encode(pixels)
    assert np.isfinite(sae.encode(pixels.astype("float32"))).all()


def test_a_loss_of_probabilities_takes_pixels_in_the_unit_range():
    from stacked_autoencoder import ConvLevel

    pixels = np.rint(SMOOTH * 255).astype(np.uint8)
    level = {"n_out": 4, "size": 8, "loss": "binary_crossentropy", "output_activation": "sigmoid"}
    with pytest.raises(ValueError, match=r"`value_range=\(0, 1\)`"):
        Autoencoder(shape=(16, 16, 1), levels=[ConvLevel(**level)]).train(pixels, epochs=1, verbose=0)
    sae = Autoencoder(shape=(16, 16, 1), levels=[ConvLevel(**level)], value_range=(0, 1))
    sae.train(pixels, epochs=1, verbose=0)
    assert 0 <= sae.reconstruct(pixels).min() <= sae.reconstruct(pixels).max() <= 1


def test_figures_have_the_range_of_the_stack():
    images = (SMOOTH * 4095).astype(np.uint16)
    sae = trained(images, value_range=(0, 4095))
    figure = plots.reconstructions(images[:2], sae)
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown[..., 0], images[0, ..., 0] / 4095, atol=1e-6)
    assert float(figure.axes[2].get_xlabel().split()[0]) > 30


def test_the_saved_range_is_checked(tmp_path):
    path = trained((SMOOTH * 9).astype(np.uint16), value_range=(0, 9)).save(tmp_path / "saved")
    manifest = json.loads((path / "autoencoder.json").read_text())
    for wrong in ({"value_range": [9, 0]}, {"value_range_is_given": "yes"}, {"value_range": [0, None]}):
        (path / "autoencoder.json").write_text(json.dumps(manifest | wrong))
        with pytest.raises(ValueError, match="value_range"):
            Autoencoder.load(path)
