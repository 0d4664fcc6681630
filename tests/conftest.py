import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: its start-up lines aren't ours
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime would report to its makers
if "PYTEST_XDIST_WORKER" in os.environ:  # there is a process per core
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Waiting threads of OpenBLAS poll, which takes a tenth of the time of all tests if there is a process per core. Plugins
# import NumPy in the workers of xdist before this file is read, so the process that starts the workers sets this.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gc
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stacked_autoencoder import Autoencoder

if "PYTEST_XDIST_WORKER" in os.environ:
    # Optimising the graphs takes a third of the time of training on the small data of the tests. The optimisation is on
    # in single-process runs, and in tests that start processes: commands, examples and benchmarks.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# When TensorFlow is seeded, it discards all operations that it has prepared for eager execution. Preparing them again
# in each test takes up to a tenth of its time. So `keras.utils.set_random_seed` seeds Python, NumPy and Keras only.
# Nothing in the package uses the seed of TensorFlow, which is set once per file.
seed_tensorflow = tf.random.set_seed
tf.random.set_seed = lambda seed: None

# A sixth of the time of all tests went to collections that look at the million objects of TensorFlow and Keras.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 20)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Stands for a disk that is full, and meets all that write: no file may grow beyond so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python has it by default
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(autouse=True, scope="module")
def tensorflow_seed():
    seed_tensorflow(0)


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def blobs(count: int, side: int = 16, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth random pictures `(count, side, side, channels)`, float32 in [-1, 1]: a few waves each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    waves = rng.normal(size=(count, 6, 4))
    phase = 2 * np.pi * (waves[..., 0, None, None] * y + waves[..., 1, None, None] * x) + 3 * waves[..., 2, None, None]
    colour = rng.normal(size=(count, 6, channels))
    images = np.einsum("nwyx,nwc->nyxc", np.sin(phase), colour)
    return (images / np.abs(images).max(axis=(1, 2, 3), keepdims=True)).astype(np.float32)


def waves(count: int, steps: int = 10, features: int = 2, seed: int = 0) -> np.ndarray:
    """Sine waves of random frequency and phase `(count, steps, features)`, float32, not around 0, of large variance."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(0.2, 0.9, (count, 1, features)), rng.uniform(0, 2 * np.pi, (count, 1, features))
    return (5 * np.sin(frequency * np.arange(steps)[None, :, None] + phase) + 3).astype(np.float32)


def bow(count: int, seed: int = 0) -> np.ndarray:
    """Points along a bent line in four values, `(count, 4)`."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-1.7, 1.7, count)
    points = np.stack([place, place**2, -place, place + 0.5 * place**2], axis=1)
    return (points + [0, 5, 3, -2] + 0.01 * rng.normal(size=(count, 4))).astype(np.float32)


def off_the_bow(points: np.ndarray) -> float:
    """How far points are from the bent line."""
    return float(np.abs(points[:, 1] - 5 - points[:, 0] ** 2).mean())


def run_elsewhere(program: str, cwd: Path | None = None) -> str:
    """Runs a program in another process; what it prints."""
    done = subprocess.run([sys.executable, "-c", program], cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_without_this_package(program: str) -> None:
    """Runs a program in another process, in which this package can't be imported."""
    run_elsewhere('import sys\nsys.modules["stacked_autoencoder"] = None\n' + program)


def assert_seeds_decide(head: keras.Model) -> None:
    """One seed, one sample; without a seed numpy's decides."""
    np.testing.assert_array_equal(head.generate(10, seed=3), head.generate(10, seed=3))
    assert (head.generate(10, seed=3) != head.generate(10, seed=4)).any()
    np.random.seed(0)
    first = head.generate(4)
    assert (first != head.generate(4)).any()
    np.random.seed(0)
    np.testing.assert_array_equal(head.generate(4), first)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return blobs(96)


@pytest.fixture(scope="session")
def held_out() -> np.ndarray:
    return blobs(40, seed=1)


@pytest.fixture(scope="session")
def trained(images, held_out):
    """A two-level stack that ends in a vector, briefly trained, with its histories. Not to be changed by tests."""
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=(16, 16, 3), size=8, n_out=8, n_scalings=2, n_levels=2, latent_dim=6)
    histories = sae.train(images, epochs=2, validation_data=held_out, verbose=0)
    return sae, histories


@pytest.fixture
def policy():
    """Sets Keras's dtype policy, until the test is over."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def photos(tmp_path):
    """20 pictures in two folders, one of them under three names, and an empty file."""
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        for index in range(10):
            Image.new("RGB", (4, 4)).save(tmp_path / name / f"{index}.png")
    os.link(tmp_path / "cats" / "3.png", tmp_path / "dogs" / "hard.png")
    os.symlink(tmp_path / "cats" / "3.png", tmp_path / "dogs" / "soft.png")
    (tmp_path / "dogs" / "empty.png").touch()
    return tmp_path


def check_advice(mistake: Callable, message: str, remedies: Sequence[Callable]):
    """Checks that a mistake raises a `ValueError` with a message, and that following its advice works.

    Args:
        mistake: raises the error.
        message: regular expression.
        remedies: calls that follow the advice.
    """
    with pytest.raises(ValueError, match=message):
        mistake()
    for remedy in remedies:
        remedy()
