"""The advice in the error messages of heads works: each row makes a mistake and then follows the advice."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, heads
from tests.conftest import blobs, check_advice

ENCODINGS = np.random.default_rng(0).standard_normal((24, 4), dtype=np.float32)
LABELS = np.arange(24) % 3
SMALL = {"width": 4}
CLASSES = [heads.BEGAN, heads.Flow, heads.VAE, heads.WGAN]


def flow(n_classes=None):
    return heads.Flow((4,), n_classes, width=4, depth=1)


def stack(shape=(8, 8, 1)):
    return Autoencoder(shape=shape, size=4, n_out=2, n_scalings=1)


def fitted(head, *data, **options):
    head.fit(*data, epochs=0, verbose=0, **options)
    return head


def trained_stack():
    sae = stack()
    sae.train(blobs(16, 8, 1), epochs=0, verbose=0)
    return sae


ROWS = {
    "open sides": (
        lambda: heads.VAE(stack((None, None, 1)).encoding_shape),
        r"such as `sae\.encoding_shape`.*create the Autoencoder with `shape=\(height, width, channels\)`",
        [lambda: heads.VAE(stack((8, 8, 1)).encoding_shape, **SMALL)],
    ),
    "labels for none": (
        lambda: fitted(heads.VAE((4,), **SMALL), ENCODINGS, LABELS),
        r"Leave out `y`, or use `Flow\(…, n_classes=…\)`",
        [lambda: fitted(heads.VAE((4,), **SMALL), ENCODINGS), lambda: fitted(flow(3), ENCODINGS, LABELS)],
    ),
    "another shape": (
        lambda: fitted(heads.VAE((5,), **SMALL), ENCODINGS),
        "Create it with the `encoding_shape` of the level that made the encodings",
        [lambda: fitted(heads.VAE(stack().levels[0].encoding_shape, **SMALL), stack().encode(blobs(8, 8, 1), level=0))],
    ),
    "no encodings": (
        lambda: fitted(heads.VAE((4,), **SMALL), ENCODINGS[:0]),
        "must contain at least one encoding",
        [lambda: fitted(heads.VAE((4,), **SMALL), ENCODINGS[:1])],
    ),
    "sample_weight": (
        lambda: fitted(heads.VAE((4,), **SMALL), ENCODINGS, sample_weight=LABELS),
        "Leave out `sample_weight`; to give encodings more weight, repeat them in `x`",
        [
            lambda: fitted(heads.VAE((4,), **SMALL), ENCODINGS),
            lambda: fitted(heads.VAE((4,), **SMALL), np.repeat(ENCODINGS, LABELS, axis=0)),
        ],
    ),
    "gamma": (
        lambda: heads.BEGAN((4,), gamma=1.5, **SMALL),
        "must be between 0 and 1",
        [lambda: [heads.BEGAN((4,), gamma=gamma, **SMALL) for gamma in (0, 0.5, 1)]],
    ),
    "shape for a classifier": (
        lambda: heads.classifier((), 3),
        r"such as `sae\.encoding_shape`",
        [lambda: heads.classifier(stack().encoding_shape, 3, hidden=())],
    ),
    "mean without std": (
        lambda: heads.classifier((4,), 3, mean=np.zeros(4)),
        r"such as `mean=sae\.levels\[-1\]\.mean, std=sae\.levels\[-1\]\.std`",
        [
            lambda: [
                heads.classifier(sae.encoding_shape, 3, hidden=(), mean=sae.levels[-1].mean, std=sae.levels[-1].std)
                for sae in [trained_stack()]
            ]
        ],
    ),
    "sampler": (
        lambda: flow().generate(2, sampler="rk4"),
        "one of 'heun', 'euler'",
        [lambda: [flow().generate(2, steps=1, sampler=name) for name in ("heun", "euler")]],
    ),
    "no labels": (
        lambda: fitted(flow(3), ENCODINGS),
        r"use `fit\(encodings, labels\)` or a dataset of \(encodings, labels\)",
        [
            lambda: fitted(flow(3), ENCODINGS, LABELS),
            lambda: fitted(flow(3), tf.data.Dataset.from_tensor_slices((ENCODINGS, LABELS)).batch(8)),
        ],
    ),
    "one-hot labels": (
        lambda: fitted(flow(3), ENCODINGS, np.eye(3)[LABELS]),
        r"Convert one-hot labels with `labels\.argmax\(axis=1\)`",
        [lambda: fitted(flow(3), ENCODINGS, np.eye(3)[LABELS].argmax(axis=1))],
    ),
    "labels out of range": (
        lambda: fitted(flow(3), ENCODINGS, LABELS + 1),
        "whole numbers from 0 to 2, one for each encoding",
        [lambda: fitted(flow(3), ENCODINGS, LABELS)],
    ),
    "guidance": (
        lambda: flow().generate(2, guidance=2.0),
        "Create it with `n_classes`, or leave `guidance` out",
        [
            lambda: fitted(flow(3), ENCODINGS, LABELS).generate(2, guidance=2.0, steps=1, labels=1),
            lambda: flow().generate(2, steps=1),
        ],
    ),
    "labels of a Flow without classes": (
        lambda: flow().generate(2, labels=1),
        r"Create it with `n_classes` and train it with `fit\(encodings, labels\)`, or leave `labels` out",
        [
            lambda: fitted(flow(3), ENCODINGS, LABELS).generate(2, labels=1, steps=1),
            lambda: flow().generate(2, steps=1),
        ],
    ),
    "labels of other length": (
        lambda: flow(3).generate(4, labels=[0, 1]),
        "must be one class, or one for each of n=4",
        [lambda: flow(3).generate(4, labels=[0, 1, 2, 0], steps=1), lambda: flow(3).generate(4, labels=2, steps=1)],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_advice_works_when_followed(name):
    check_advice(*ROWS[name])


def test_advice_about_stores_works_when_followed(tmp_path):
    sae = stack()
    store = sae.encode_to(tmp_path / "store", blobs(16, 8, 1), verbose=0)
    head = heads.VAE(sae.encoding_shape, **SMALL)
    with pytest.raises(ValueError, match=r"Leave it out, because the store provides it"):
        head.fit(store, origin="0" * 64, verbose=0)
    assert fitted(head, store).origin == store.encoder
    with pytest.raises(
        ValueError, match=r"`store\.encoder` of an EncodingStore, or `sae\.stack\.fingerprint\(level\)`"
    ):
        head.fit(sae.encode(blobs(16, 8, 1)), origin="store", verbose=0)
    for origin in (store.encoder, sae.stack.fingerprint(0)):
        fitted(head, sae.encode(blobs(16, 8, 1)), origin=origin).check_origin(sae.stack, 0)


# === Docstrings ===


@pytest.mark.parametrize("kind", CLASSES)
def test_every_public_method_has_a_docstring_of_this_package(kind):
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        function = member.fget if isinstance(member, property) else member
        if name.startswith("_") or not getattr(function, "__module__", "").startswith("stacked_autoencoder"):
            continue
        defining = next(each for each in kind.__mro__ if name in vars(each))
        assert function.__doc__, f"{defining.__name__}.{name}"
        assert getattr(keras.Model, name, None) is None or function.__doc__ != getattr(keras.Model, name).__doc__


METHODS = [(kind, name) for kind in CLASSES for name in ("fit", "generate")]
METHODS += [(heads.VAE, "encode"), (heads.VAE, "interpolate"), (heads.Flow, "unrolled")]


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_docstrings_describe_every_argument(kind, name):
    method = getattr(kind, name)
    for argument in list(inspect.signature(method).parameters)[1:]:
        assert f"\n    {argument}: " in inspect.getdoc(method), f"{kind.__name__}.{name}: {argument}"
    assert "\nReturns:\n" in inspect.getdoc(method)
