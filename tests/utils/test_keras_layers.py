"""Global settings of Keras and TensorFlow change nothing: levels and heads state what they need."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from stacked_autoencoder.utils import keras_layers

ROOT = Path(__file__).parent.parent.parent
SETTINGS = {
    "defaults": "",
    "channels_first": "keras.config.set_image_data_format('channels_first')",
    "float64": "keras.config.set_floatx('float64')",
    "eager": "tf.config.run_functions_eagerly(True)",
}
PROGRAM = """
import json, tempfile, warnings
import keras, numpy as np, tensorflow as tf
tf.config.optimizer.set_experimental_options({{"disable_meta_optimizer": True}})  # it takes a third of the time
{setting}
from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, EncodingStore, Mask, SequenceLevel, heads

warnings.filterwarnings("ignore", "Even though the `tf.config.experimental_run_functions_eagerly`")
keras.utils.set_random_seed(0)
stacks = {{
    "conv": ((9, 8, 1), [ConvLevel(4, 1, 4, depth=1, tied=True), ConvLevel(2, 1, 4, depth=1, latent_dim=3)]),
    "upsampled": ((8, 8, 1), [ConvLevel(4, 1, 4, depth=1, upsampling="nearest", kl_weight=0.1)]),
    "dense": ((6,), [DenseLevel([4, 3], "relu", tied=True, penalty="l1", corruption=Mask(0.2))]),
    "sequence": ((3, 2), [SequenceLevel(3, conditional=True, target="both")]),
}}
numbers = {{}}
for name, (shape, levels) in stacks.items():
    keras.utils.set_random_seed(0)
    data = np.random.default_rng(0).uniform(-1, 1, (64, *shape)).astype("float32")
    sae = Autoencoder(shape=shape, levels=levels)
    sae.train(data, epochs=1, verbose=0, validation_data=data[:16])
    folder = tempfile.mkdtemp()
    sae = Autoencoder.load(sae.save(folder + "/model"))
    numbers[name] = [sae.evaluate(data), *sae.encode(data)[0].ravel()[:4].tolist()]
    assert keras.models.load_model(folder + "/model/encoder0").input_shape[1:] == sae.levels[0].input_shape
encodings = np.random.default_rng(0).normal(size=(64, 4, 4, 2)).astype("float32")
for name in ("Flow", "BEGAN"):
    keras.utils.set_random_seed(0)
    head = getattr(heads, name)((4, 4, 2), width=4)
    head.fit(encodings, epochs=1, batch_size=32, verbose=0)
    numbers[name] = head.generate(2, seed=0).ravel()[:4].tolist()
print(json.dumps(numbers))
"""


def numbers_under(setting):
    program = PROGRAM.format(setting=SETTINGS[setting])
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": "/tmp"}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", program]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def expected():
    return numbers_under("defaults")


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["channels_first", "float64", "eager"])
def test_a_global_setting_changes_no_number(expected, setting):
    numbers = numbers_under(setting)
    assert numbers.keys() == expected.keys()
    for name, values in expected.items():
        tolerance = 0.01 if name == "BEGAN" else 1e-3  # which scales its errors; their rounding grows in a few steps
        assert numbers[name] == pytest.approx(values, rel=tolerance, abs=tolerance), name


def test_mixed_precision_is_kept_and_float64_is_not(monkeypatch):
    for policy, expected in (("mixed_bfloat16", "bfloat16"), ("float64", "float32"), ("float32", "float32")):
        monkeypatch.setattr(keras.config, "dtype_policy", lambda policy=policy: keras.DTypePolicy(policy))
        assert keras_layers.Dense(3).compute_dtype == expected
        assert keras_layers.Dense(3, dtype="float32").compute_dtype == "float32"
