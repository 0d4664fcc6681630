"""The advice in the error messages of levels works: each row makes a mistake and then follows the advice."""

import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, KLSparsity, Mask, SaltAndPepper, SequenceLevel
from stacked_autoencoder.levels.objective import BY_VALUE, KNOWN, Objective
from tests.conftest import check_advice, waves

SERIES = waves(32)  # (32, 10, 2)
PICTURES = np.random.default_rng(0).uniform(-1, 1, (16, 10, 8)).astype(np.float32)


def stack(*levels, shape=(16, 16, 3), **options):
    return Autoencoder(shape=shape, levels=list(levels), **options)


def trained(sae, data):
    sae.train(data, epochs=0, verbose=0)
    return sae


def added_again():
    sae = stack(ConvLevel(4, 1, 4))
    sae.add(sae.levels[0])


def added_anew():
    sae = stack(ConvLevel(4, 1, 4))
    sae.add(type(sae.levels[0])(**sae.levels[0].get_config()))


class Unregistered(keras.layers.GaussianNoise):
    pass


@keras.saving.register_keras_serializable("tests")
class Registered(keras.layers.GaussianNoise):
    pass


@keras.saving.register_keras_serializable("tests")
def registered_loss(targets, outputs):
    return keras.losses.mean_squared_error(targets, outputs)


@keras.saving.register_keras_serializable("tests")
class Forgetful(keras.layers.Layer):
    def __init__(self, strength, **options):
        super().__init__(**options)
        self.strength = strength

    def get_config(self):  # without it, Keras would record the arguments
        return {}


@keras.saving.register_keras_serializable("tests")
class Complete(Forgetful):
    def get_config(self):
        return {"strength": self.strength}


ROWS = {
    "activation of Keras": (
        lambda: DenseLevel(8, "rleu"),
        r"did you mean 'relu'\? The names are celu, .*, tanh",
        [lambda: DenseLevel(8, "relu").build((4,)), lambda: DenseLevel(8, "celu").build((4,))],
    ),
    "activation per layer": (
        lambda: DenseLevel([8, 4], ["relu"]),
        "must be one name, or one name for each of the 2 layers in `units`",
        [lambda: DenseLevel([8, 4], "relu"), lambda: DenseLevel([8, 4], ["relu", "linear"])],
    ),
    "KLSparsity": (
        lambda: DenseLevel(8, penalty=KLSparsity()),
        r'Use `DenseLevel\(…, activation="sigmoid"\)`, or another penalty such as `keras\.regularizers\.L1\(1e-4\)`',
        [
            lambda: DenseLevel(8, activation="sigmoid", penalty=KLSparsity()),
            lambda: DenseLevel(8, penalty=keras.regularizers.L1(1e-4)),
        ],
    ),
    "size": (
        lambda: ConvLevel(size=(64, 64, 3)),
        r"one whole number.*For the shape of the images use `shape=\(height, width, channels\)`",
        [lambda: Autoencoder(shape=(64, 64, 3), size=4)],
    ),
    "upsampling": (
        lambda: ConvLevel(upsampling="cubic"),
        'must be None, "nearest" or "bilinear"',
        [lambda: ConvLevel(upsampling=None), lambda: ConvLevel(upsampling="nearest")],
    ),
    "images for a ConvLevel": (
        lambda: stack(ConvLevel(4, 1, 4), shape=(16, 3)),
        "Create the Autoencoder with a `shape` of three sides",
        [lambda: stack(ConvLevel(4, 1, 4), shape=(16, 16, 3))],
    ),
    "ConvLevel on a vector": (
        lambda: stack(DenseLevel(8), ConvLevel(4, 1, 4)),
        "use a DenseLevel after a level that outputs vectors",
        [lambda: stack(DenseLevel(8), DenseLevel(4))],
    ),
    "latent_dim": (
        lambda: stack(ConvLevel(4, 1, 4, latent_dim=3), shape=(None, None, 3)),
        r"`latent_dim=3` needs images of one known size.*with `shape=\(height, width, channels\)`",
        [lambda: stack(ConvLevel(4, 1, 4, latent_dim=3), shape=(16, 16, 3))],
    ),
    "bilinear": (
        lambda: stack(ConvLevel(4, 1, 4, upsampling="bilinear"), shape=(None, None, 3)),
        r'with `shape=\(height, width, channels\)`, or use `upsampling="nearest"`',
        [
            lambda: stack(ConvLevel(4, 1, 4, upsampling="bilinear"), shape=(16, 16, 3)),
            lambda: stack(ConvLevel(4, 1, 4, upsampling="nearest"), shape=(None, None, 3)),
        ],
    ),
    "size for a DenseLevel": (
        lambda: stack(DenseLevel(4), shape=(None, None, 3)),
        r"Create the Autoencoder with `shape=\(height, width, channels\)`",
        [lambda: stack(DenseLevel(4), shape=(16, 16, 3))],
    ),
    "register": (
        lambda: Objective(corruption=Unregistered(0.1)),
        r"put `@keras\.saving\.register_keras_serializable\(\)` above its definition\. No registration is needed for",
        [
            lambda: Objective(corruption=Registered(0.1)),
            lambda: Objective(loss=registered_loss),
            lambda: Objective(corruption=keras.layers.GaussianNoise(0.1)),
        ],
    ),
    "unknown name": (
        lambda: Objective(corruption="gausian"),
        r"Use one of .*SaltAndPepper, or register your own with `@keras\.saving\.register_keras_serializable\(\)`",
        [lambda: Objective(corruption=SaltAndPepper(0.1)), lambda: Objective(corruption=Registered(0.1))],
    ),
    "unknown penalty": (
        lambda: Objective(penalty="KLSparse"),
        "did you mean 'KLSparsity'",
        [lambda: [Objective(penalty=name) for name in KNOWN["penalty"]]],
    ),
    "unknown loss": (
        lambda: Objective(loss="mean_squared"),
        "did you mean 'mean_squared_error'",
        [lambda: [Objective(loss=name) for name in KNOWN["loss"]]],
    ),
    "get_config": (
        lambda: Objective(corruption=Forgetful(2.0)),
        "Return all arguments of the constructor from `get_config`",
        [lambda: Objective(corruption=Complete(2.0))],
    ),
    "a class": (
        lambda: Objective(loss=keras.losses.Huber),
        r"Call a class to create an object, such as `keras\.losses\.Huber\(\)`",
        [lambda: Objective(loss=keras.losses.Huber())],
    ),
    "plain arguments": (
        lambda: Objective(corruption=Complete({"strength": 2.0})),
        "must have arguments that are numbers, strings or lists of them",
        [lambda: Objective(corruption=Complete([2.0, 3])), lambda: Objective(corruption=Complete("strong"))],
    ),
    "missing values": (
        lambda: stack(ConvLevel(4, 1, 4, loss="cosine_similarity"), missing="ignore"),
        'Use `loss="mse"`, `loss="mae"` or another of .*, or use `missing="error"`',
        [
            lambda: [
                stack(DenseLevel(2, loss=loss), shape=(4,), missing="ignore") for loss in ("mse", "mae", *BY_VALUE)
            ],
            lambda: stack(ConvLevel(4, 1, 4, loss="cosine_similarity"), missing="error"),
        ],
    ),
    "preset": (
        lambda: ConvLevel.preset("bestt"),
        "one of 'fast', 'balanced', 'best': did you mean 'best'",
        [lambda: [ConvLevel.preset(name) for name in ("fast", "balanced", "best")]],
    ),
    "target": (
        lambda: SequenceLevel(4, target="nxt"),
        "one of input, next, both: did you mean 'next'",
        [lambda: [SequenceLevel(4, target=name) for name in ("input", "next", "both")]],
    ),
    "cell": (
        lambda: SequenceLevel(4, cell="ltsm"),
        "one of lstm, gru: did you mean 'lstm'",
        [lambda: [SequenceLevel(4, cell=name) for name in ("lstm", "gru")]],
    ),
    "return_sequences": (
        lambda: SequenceLevel(4, target="next", conditional=True, return_sequences=True),
        "Leave `conditional` and `target` out, or use `return_sequences=False`",
        [
            lambda: SequenceLevel(4, return_sequences=True),
            lambda: SequenceLevel(4, target="next", conditional=True, return_sequences=False),
        ],
    ),
    "rows as steps": (
        lambda: stack(SequenceLevel(4), shape=(10, 4, 2)),
        r"To use the rows of images as steps, call `images\.reshape\(len\(images\), height, -1\)`",
        [
            lambda: trained(
                stack(SequenceLevel(4), shape=(10, 8)), PICTURES.reshape(16, 10, 4, 2).reshape(len(PICTURES), 10, -1)
            )
        ],
    ),
    "length of sequences": (
        lambda: stack(SequenceLevel(4), shape=(None, 2)),
        r"Pad shorter sequences with a value that you pass as `mask_value`.*`shape=\(timesteps, features\)`",
        [
            lambda: trained(
                stack(SequenceLevel(4, mask_value=-99.0), shape=(12, 2)),
                np.pad(SERIES, ((0, 0), (0, 2), (0, 0)), constant_values=-99.0),
            )
        ],
    ),
    "steps to predict": (
        lambda: stack(SequenceLevel(4, target="both"), shape=(1, 2)),
        'Use longer sequences or `target="input"`',
        [
            lambda: stack(SequenceLevel(4, target="both"), shape=(2, 2)),
            lambda: stack(SequenceLevel(4, target="input"), shape=(1, 2)),
        ],
    ),
    "a level on a SequenceLevel": (
        lambda: trained(stack(SequenceLevel(6), shape=(10, 2)), SERIES).add(SequenceLevel(4)),
        "Create the lower level with `return_sequences=True`",
        [
            lambda: trained(stack(SequenceLevel(6, return_sequences=True), shape=(10, 2)), SERIES).add(
                SequenceLevel(4)
            ),
        ],
    ),
    "shape": (
        lambda: Autoencoder(shape=(16, 16, None)),
        r"such as \(None, None, 3\)\. For sequences use \(timesteps, features\), for vectors \(features,\)",
        [
            lambda: stack(ConvLevel(4, 1, 4), shape=(None, None, 3)),
            lambda: stack(SequenceLevel(4), shape=(10, 2)),
            lambda: stack(DenseLevel(4), shape=(10,)),
        ],
    ),
    "missing": (
        lambda: stack(DenseLevel(4), missing="Ignore"),
        "one of 'error', 'ignore': did you mean 'ignore'",
        [lambda: [stack(DenseLevel(4), missing=name) for name in ("error", "ignore")]],
    ),
    "no level": (
        lambda: stack(DenseLevel(4)).add("conv"),
        r"must be a level, such as `ConvLevel\(n_out=32\)`",
        [lambda: Autoencoder(shape=(16, 16, 3), size=4).add(ConvLevel(n_out=32))],
    ),
    "a level twice": (added_again, "Create a new level with the same arguments", [added_anew]),
    "mask_value with value_range": (
        lambda: stack(SequenceLevel(4, mask_value=-9.0), shape=(10, 2), value_range=(-9, 9)),
        "Leave `value_range` out, and scale the sequences yourself",
        [lambda: trained(stack(SequenceLevel(4, mask_value=-9.0), shape=(10, 2)), SERIES / 9)],
    ),
    "index": (
        lambda: stack(DenseLevel(8), DenseLevel(4)).stack.index_of(2),
        r"must be an index from 0 to 1 \(or negative\)",
        [lambda: [stack(DenseLevel(8), DenseLevel(4)).stack.index_of(index) for index in (0, 1, -1)]],
    ),
    "no index": (
        lambda: stack(DenseLevel(8)).train(PICTURES, levels=[], verbose=0),
        r"such as `levels=\[-1\]` for the last",
        [lambda: stack(DenseLevel(4), shape=(10, 8)).train(PICTURES, levels=[-1], epochs=0, verbose=0)],
    ),
    "rate": (
        lambda: Mask(30),
        "must be a number from 0 to 1, the share of values to change",
        [lambda: [Mask(rate) for rate in (0, 0.3, 1)]],
    ),
    "mean activity": (
        lambda: KLSparsity(target=1),
        "must be a number between 0 and 1, the mean activity of each unit",
        [lambda: KLSparsity(target=0.1)],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_advice_works_when_followed(name):
    check_advice(*ROWS[name])


def test_what_is_registered_as_advised_loads(tmp_path):
    level = DenseLevel(3, loss=registered_loss, corruption=Registered(0.2))
    path = stack(level, shape=(8,)).save(tmp_path / "model")
    loaded = Autoencoder.load(path, trusted=True).levels[0].objective
    assert loaded.loss is registered_loss
    assert loaded.corruption.stddev == 0.2
