"""Saved parts load, run and train under Keras on JAX and PyTorch, without TensorFlow and without this package."""

import importlib.util
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, SequenceLevel

STACKS = {
    "conv": ((8, 8, 1), lambda: [ConvLevel(4, 1, 4, depth=1), ConvLevel(2, 1, 4, depth=1, latent_dim=3)]),
    "upsampled": ((8, 8, 1), lambda: [ConvLevel(4, 1, 4, depth=1, upsampling="nearest")]),
    "tied": ((6,), lambda: [DenseLevel([4, 3], "relu", tied=True)]),
    "variational": ((6,), lambda: [DenseLevel(3, kl_weight=0.1)]),
    "sequence": ((3, 2), lambda: [SequenceLevel(3, conditional=True, target="both")]),
    "gru": ((3, 2), lambda: [SequenceLevel(3, cell="gru", return_sequences=True)]),
}
PROGRAM = """
import json, sys
for name in ("tensorflow", "stacked_autoencoder"):
    sys.modules[name] = None
import keras, numpy as np

folder, numbers = sys.argv[1], {}
given = dict(np.load(folder + "/given.npz"))
for name in json.loads(sys.argv[2]):
    encoder = keras.models.load_model(f"{folder}/{name}/encoder0")
    decoder = keras.models.load_model(f"{folder}/{name}/decoder0")
    encodings = encoder.predict(given[name], verbose=0)
    numbers[name] = [encodings.tolist(), decoder.predict(encodings, verbose=0).tolist()]
    whole = keras.Sequential([encoder, decoder])
    whole.compile("adam", "mse")
    before = encoder.get_weights()
    whole.fit(given[name], given[name], epochs=1, verbose=0)
    assert any(np.any(old != new) for old, new in zip(before, encoder.get_weights())), name
print(keras.backend.backend(), json.dumps(numbers))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder, given, expected = tmp_path_factory.mktemp("saved"), {}, {}
    for name, (shape, levels) in STACKS.items():
        keras.utils.set_random_seed(0)
        given[name] = np.random.default_rng(0).uniform(-1, 1, (64, *shape)).astype("float32")
        sae = Autoencoder(shape=shape, levels=levels())
        sae.train(given[name], epochs=1, verbose=0)
        sae.save(folder / name)
        encodings = sae.levels[0].encoder.predict(given[name], verbose=0)
        expected[name] = encodings, sae.levels[0].decoder.predict(encodings, verbose=0)
    np.savez(folder / "given.npz", **given)
    return folder, expected


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_kind_loads_runs_and_trains_on_another_backend(saved, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"needs {backend}")
    folder, expected = saved
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": ""}
    command = [sys.executable, "-c", PROGRAM, str(folder), json.dumps(list(STACKS))]
    done = subprocess.run(command, env=environment, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    name, numbers = done.stdout.splitlines()[-1].split(" ", 1)
    assert name == backend
    for kind, (encodings, reconstructions) in json.loads(numbers).items():
        np.testing.assert_allclose(encodings, expected[kind][0], atol=1e-5, err_msg=kind)
        np.testing.assert_allclose(reconstructions, expected[kind][1], atol=1e-5, err_msg=kind)
