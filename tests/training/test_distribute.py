"""Several devices and several processes take the steps of one, and end with its weights.

The strategies need processes of their own, such as `python -m tests.training.test_distribute devices|worker FOLDER …`.
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from examples.multi_worker import free_ports, threads
from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, KLSparsity, SequenceLevel
from stacked_autoencoder.distribution import rows_of
from stacked_autoencoder.pca import LinearFit
from stacked_autoencoder.training import checkpoint_callback
from tests.conftest import blobs, run_without_this_package, waves

IMAGES, VALID = blobs(33, 8, 1), blobs(9, 8, 1, seed=1)  # in batches of 8 the last is of one image
OPTIONS = {"epochs": 2, "batch_size": 8, "verbose": 0}
# Muon takes what rounding leaves of a direction for a direction: of one device with the rows of each batch in another
# order, weights end further apart than those of two devices. Adam's tell whether all see the same gradients.
EXACT = {"optimizer": "adam", **OPTIONS}


def stack():
    return Autoencoder(shape=(8, 8, 1), levels=[ConvLevel(4, 1, 4, penalty="l1"), DenseLevel(3)])


def weights(sae):
    models = [model for level in sae.levels for model in level.models().values()]
    return [weight for model in models for weight in model.get_weights()]


def losses(histories):
    each = [(history.start_loss, *history.history["loss"], *history.history["val_loss"]) for history in histories]
    return [loss for level in each for loss in level]


def assert_alike(one, other, tolerance=1e-5):
    """Of weights."""
    for first, second in zip(one, other, strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("count", "parts"), [(7, 2), (8, 4), (1, 2), (2, 3)])
def test_every_image_of_a_batch_is_one_devices(count, parts):
    batch = tf.range(10, 10 + count)
    rows = [rows_of((batch, -batch), index, parts) for index in range(parts)]
    kept = [values[:own].numpy() for values, _, own, _ in rows]
    np.testing.assert_array_equal(np.concatenate(kept), batch)
    for values, targets, own, of in rows:
        np.testing.assert_array_equal(values, -targets)
        assert len(values) == max(own, 1)  # a mean of nothing would be no number
        assert of == count


def run(folder, *programs, seconds=180):
    """Runs this file once for each program and environment; returns what each printed last, as JSON."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.test_distribute", name, str(folder), *more],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"} | threads(1) | environment,
            cwd=Path(__file__).parent.parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, environment, *more in programs
    ]
    try:
        done = [(*process.communicate(timeout=seconds), process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for _, errors, code in done:
        assert code == 0, errors[-3000:]
    return [json.loads(out.splitlines()[-1]) for out, _, _ in done]


# === Two devices ===


@pytest.mark.slow
def test_two_devices_train_as_one(tmp_path):
    (told,) = run(tmp_path, ("devices", {}))
    np.testing.assert_allclose(told["two"], told["one"], rtol=1e-5)
    assert {"loss", "penalty", "val_loss", "val_penalty"} < set(told["names"])
    assert "weights that were created outside of its scope" in told["outside"]
    assert "With `KLSparsity` it depends on the mean of the whole batch" in told["sparse"]
    assert "With `KLSparsity` it depends on the mean of the whole batch" in told["padded"]
    run_without_this_package(f"""
import keras, numpy as np, tensorflow as tf
images = np.load({str(tmp_path / "images.npy")!r})
encoder = keras.models.load_model({str(tmp_path / "saved" / "encoder0")!r})
served = tf.saved_model.load({str(tmp_path / "saved" / "encoder0")!r})
np.testing.assert_allclose(encoder(images), np.load({str(tmp_path / "encodings.npy")!r}), atol=1e-5)
np.testing.assert_allclose(served.serve(images), encoder(images), atol=1e-5)
""")


def devices(folder):
    """Trains on one of two logical devices and on both."""
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def trained(scope):
        keras.utils.set_random_seed(0)
        with scope():
            sae = stack()
            histories = sae.train(IMAGES, validation_data=VALID, **EXACT)
        before = weights(sae)
        histories.append(sae.fine_tune(IMAGES, validation_data=VALID, **OPTIONS))  # by Muon, and out of the scope
        return sae, before, histories

    _, before, histories = trained(contextlib.nullcontext)
    two, before_of_two, histories_of_two = trained(strategy.scope)
    assert_alike(before, before_of_two)
    told = {"one": losses(histories), "two": losses(histories_of_two), "names": list(histories_of_two[0].history)}
    two.save(folder / "saved")
    with strategy.scope():
        assert_alike(weights(two), weights(Autoencoder.load(folder / "saved")), 0)
    np.save(folder / "images.npy", IMAGES)
    np.save(folder / "encodings.npy", two.encode(IMAGES, level=0))
    for name, level, data in (
        ("sparse", DenseLevel(3, activation="sigmoid", penalty=KLSparsity()), bow_like()),
        ("padded", SequenceLevel(3, mask_value=0.0), waves(8)),
    ):
        with strategy.scope():
            sae = Autoencoder(shape=data.shape[1:], levels=[level])
        told[name] = error_of(sae.train, data)
    two.add(DenseLevel(2))
    told["outside"] = error_of(two.train, IMAGES, levels=[-1])
    return told


def bow_like():
    return np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)


def error_of(method, *arguments, **options):
    try:
        method(*arguments, **options)
    except (ValueError, NotImplementedError, OSError, RuntimeError) as error:
        return str(error)
    return "nothing"


# === Two workers ===


def two_workers(folder, *more):
    hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
    tasks = [{"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}} for index in range(2)]
    return run(folder, *(("worker", {"TF_CONFIG": json.dumps(task)}, *more) for task in tasks))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return folder, two_workers(folder)


@pytest.mark.slow
def test_two_workers_train_as_one(two, tmp_path):
    folder, told = two
    assert told[0]["weights"] == told[1]["weights"]
    assert told[0]["losses"] == told[1]["losses"]
    one, histories, read = trained_by_worker(tmp_path, contextlib.nullcontext())
    assert told[0]["read"] + told[1]["read"] == read  # the start of a level reads each batch once
    assert min(told[0]["read"], told[1]["read"]) > read / 3
    np.testing.assert_allclose(told[0]["losses"], losses(histories), rtol=1e-5)
    assert_alike(weights(one), weights(Autoencoder.load(folder / "saved")))
    assert {file.name for file in folder.iterdir()} == {"cache", "checkpoints", "saved"}  # by the chief, once
    assert told[0]["neighbours"] == told[1]["neighbours"]
    np.testing.assert_allclose(told[0]["neighbours"], neighbour_decoder(contextlib.nullcontext()), atol=1e-4)
    assert np.abs(told[0]["neighbours"]).max() > 0.1


@pytest.mark.slow
def test_two_workers_that_are_killed_go_on(two, tmp_path):
    _, expected = two
    assert two_workers(tmp_path, "kill") == ["killed", "killed"]
    assert [file.name for file in (tmp_path / "checkpoints").glob("now*")] == ["now1.npz"]
    told = two_workers(tmp_path, "another call")
    assert [each["weights"] for each in told] == [each["weights"] for each in expected]
    assert [each["losses"] for each in told] == [each["losses"] for each in expected]
    for each in told:  # the chief looks, and both are told
        assert "`batch_size` was 8 and is now 4" in each["error"]
    assert "Another worker failed, so this one stops" in told[0]["failed"]
    assert told[1]["failed"] == "The disk is gone"


class KillAfter(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.left = None if epochs is None else iter(range(epochs))  # a plain number would be kept with checkpoints

    def on_epoch_begin(self, epoch, logs=None):
        if self.left is not None and next(self.left, None) is None:
            print(json.dumps("killed"), flush=True)
            os._exit(0)


def trained_by_worker(folder, scope, kill=None):
    """The stack, its histories, and how many patches were read to start its levels."""
    checkpoint_callback.WITHIN_EPOCH = 0.0
    keras.utils.set_random_seed(0)
    with scope:
        sae = stack()
    options = {"cache_dir": folder / "cache", "checkpoint_dir": folder / "checkpoints", "memory_budget": 0} | EXACT
    read, of_fit = [], LinearFit._centred
    with mock.patch.object(LinearFit, "_centred", lambda fit: (read.append(len(each)) or each for each in of_fit(fit))):
        histories = sae.train(IMAGES, validation_data=VALID, callbacks=[KillAfter(kill)], **options)
    return sae, histories, sum(read)


def neighbour_decoder(scope):
    """The decoder that reads neighbouring encodings, as a linear map from encodings to what it adds to an image."""
    keras.utils.set_random_seed(0)
    with scope:
        sae = Autoencoder(shape=(8, 8, 1), levels=[ConvLevel(2, 1, 4)])
    sae.train(blobs(64, 8, channels=1), epochs=0, verbose=0)
    widen, residual = (sae.levels[0].decoder.get_layer(name).kernel.numpy() for name in ("widen", "residual"))
    return np.einsum("yxnk,abck->yxnabc", widen, residual)


def worker(folder, what=None):
    """Trains as one of several workers."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    sae, histories, read = trained_by_worker(folder, strategy.scope(), 3 if what == "kill" else None)
    sae.save(folder / "saved")
    told = {"weights": [weight.tolist() for weight in weights(sae)], "losses": losses(histories), "read": read}
    if what is None:
        told["neighbours"] = neighbour_decoder(strategy.scope()).tolist()
    if what == "another call":
        again = EXACT | {"batch_size": 4, "checkpoint_dir": folder / "checkpoints"}
        told["error"] = error_of(sae.train, IMAGES, validation_data=VALID, **again)
        with strategy.scope():
            sae = stack()
        if strategy.cluster_resolver.task_id == 1:
            LinearFit._centred = mock.Mock(side_effect=OSError("The disk is gone"))
        told["failed"] = error_of(sae.train, IMAGES, validation_data=VALID, **EXACT)
    return told


if __name__ == "__main__":
    program, path, *more = sys.argv[1:]
    print(json.dumps({"devices": devices, "worker": worker}[program](Path(path), *more)))
