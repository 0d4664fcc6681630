import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, KLSparsity, Mask, SaltAndPepper, metrics
from stacked_autoencoder.levels.objective import Objective

RNG = np.random.default_rng(0)


@keras.saving.register_keras_serializable("tests")
class Dim(keras.layers.Layer):
    """Darkens images in training: a user's own corruption."""

    def __init__(self, by: float, **options):
        super().__init__(**options)
        self.by = by

    def call(self, inputs, training=False):
        return inputs * self.by if training else inputs

    def get_config(self):
        return {**super().get_config(), "by": self.by}


@keras.saving.register_keras_serializable("tests")
def fourth_power(targets, outputs):
    return keras.ops.mean(keras.ops.power(targets - outputs, 4), axis=-1)


class Unregistered(keras.layers.Layer):
    pass


OBJECTIVES = [
    {},
    {"loss": "mse"},
    {"loss": "binary_crossentropy"},
    {"loss": keras.losses.Huber(delta=0.5)},
    {"loss": keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)},
    {"loss": metrics.ssim_loss},
    {"loss": metrics.SSIMWithL1(0.7, low=0.0)},
    {"loss": fourth_power},
    {"penalty": "l1"},
    {"penalty": keras.regularizers.L1L2(1e-3, 1e-4)},
    {"penalty": KLSparsity(0.2, 0.1)},
    {"corruption": keras.layers.GaussianNoise(0.3, seed=4)},
    {"corruption": keras.layers.Dropout(0.5, noise_shape=(1, 4))},
    {"corruption": Mask(0.5)},
    {"corruption": SaltAndPepper(0.5, seed=1)},
    {"corruption": Dim(0.5)},
    {"kl_weight": 2},
]


@pytest.mark.parametrize("arguments", OBJECTIVES, ids=lambda arguments: re.sub(" at 0x[0-9a-f]+", "", str(arguments)))
def test_an_objective_is_made_again_from_plain_values(arguments):
    objective = Objective(**arguments)
    plain = json.loads(json.dumps(objective.get_config()))
    again = Objective(**plain)
    assert again.get_config() == objective.get_config()
    targets, outputs = (RNG.uniform(0.1, 0.9, (2, 16, 16, 3)).astype(np.float32) for _ in range(2))
    assert float(again.of_reconstruction(targets, outputs)) == float(objective.of_reconstruction(targets, outputs))
    for part in ("penalty", "corruption"):
        assert type(getattr(again, part)) is type(getattr(objective, part))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_mean_squared_error_and_its_gradient_are_keras_own(dtype):
    targets, outputs = RNG.uniform(-1, 1, (2, 5, 16, 16, 3)).astype(np.float32)
    outputs = tf.constant(outputs, dtype)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(outputs)
        ours = Objective().of_reconstruction(targets, outputs)
        expected = keras.losses.MeanSquaredError(dtype="float32")(targets, outputs)
    assert float(ours) == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(
        tape.gradient(ours, outputs), tape.gradient(expected, outputs), rtol=1e-3 if dtype == np.float16 else 1e-5
    )


def test_only_what_differs_is_told():
    assert Objective(loss="mean_squared_error").get_config() == {}
    assert Objective(loss="mse").is_plain
    assert Objective(loss="mae").get_config() == {"loss": "mean_absolute_error"}
    assert Objective(corruption=Mask(0.3)).get_config() == {
        "corruption": {"name": "Mask", "arguments": {"rate": 0.3, "seed": None}}
    }
    assert not Objective(kl_weight=0.1).is_plain


@pytest.mark.parametrize("loss", ["mse", "mae", keras.losses.MeanSquaredError(), keras.losses.Huber()])
def test_steps_that_do_not_count_change_nothing(loss):
    objective = Objective(loss=loss)
    targets, outputs = (RNG.uniform(-1, 1, (4, 5, 2)).astype(np.float32) for _ in range(2))
    counted = RNG.uniform(size=(4, 5)) < 0.5
    spoiled = np.where(counted[..., None], outputs, 7.0).astype(np.float32)
    expected = objective.of_reconstruction(targets[counted][None], outputs[counted][None])
    assert float(objective.of_reconstruction(targets, spoiled, counted)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "mean_squared"}, r"`loss` is unknown: did you mean 'mean_squared_error'\?"),
        ({"loss": 3}, r"`loss` must be a name, a function or an object\. .*Received: loss=3"),
        ({"loss": keras.losses.Huber}, "`loss` must be a name, a function or an object"),
        ({"loss": lambda y, p: y}, "`loss` is a <lambda>, which `Autoencoder.load` could not recreate"),
        ({"penalty": "KLSparse"}, r"`penalty` is unknown: did you mean 'KLSparsity'\?"),
        ({"corruption": "gausian"}, r"`corruption` is unknown.*register_keras_serializable"),
        (
            {"corruption": Unregistered()},
            "`corruption` is a Unregistered, which `Autoencoder.load` could not recreate.*Register the class",
        ),
        (
            {"corruption": keras.layers.Lambda(abs)},
            "`corruption` is a Lambda, which `Autoencoder.load` could not recreate",
        ),
        ({"kl_weight": -1}, r"`kl_weight` must be a number of at least 0\. Received: kl_weight=-1"),
        ({"kl_weight": float("nan")}, "`kl_weight` must be a number"),
    ],
)
def test_wrong_objectives_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        Objective(**arguments)


@pytest.mark.parametrize(
    "description",
    [
        {"name": "Lambda", "arguments": {"function": "abs"}},
        {"name": "TFSMLayer", "arguments": {"filepath": "/tmp/x"}},
        {"name": "Dropout", "arguments": {"rate": {"module": "builtins", "class_name": "eval", "config": "1"}}},
        {"name": "keras.src.ops.core>Switch", "arguments": {}},
    ],
)
def test_a_strangers_description_makes_nothing_but_what_is_known(description):
    with pytest.raises(ValueError, match=r"`corruption` (is unknown|must have arguments that are numbers)"):
        Objective(corruption=description)


def test_probabilities_of_images_that_are_none_are_told(images):
    sae = Autoencoder(
        shape=(16, 16, 3), levels=[DenseLevel(4, output_activation="sigmoid", loss="binary_crossentropy")]
    )
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\].*`\(images \+ 1\) / 2`.*Received: values from -"):
        sae.train(images, epochs=1, verbose=0)
    sae.train((images + 1) / 2, epochs=1, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("level", [ConvLevel(4, 2, 8), DenseLevel([24, 8], tied=True)], ids=["conv", "dense"])
def test_crossentropy_with_a_sigmoid_starts_near_the_linear_code(level, images, held_out):
    config = {**level.get_config(), "output_activation": "sigmoid", "loss": "binary_crossentropy"}
    probabilities = (images + 1) / 2, (held_out + 1) / 2
    sae = Autoencoder(shape=(16, 16, 3), levels=[type(level)(**config)])
    (history,) = sae.train(probabilities[0], epochs=3, validation_data=probabilities[1], verbose=0)
    restored = sae.reconstruct(probabilities[1])
    assert restored.min() >= 0
    assert restored.max() <= 1
    assert min(history.history["val_loss"]) <= history.start_loss
    mean = probabilities[1].mean()
    assert history.start_loss < -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean))
