import json
import os
import shutil
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel, saving
from tests.conftest import blobs, files_of_at_most, run_without_this_package


@pytest.fixture
def saved(trained, tmp_path):
    sae, _ = trained
    return sae, sae.save(tmp_path / "my model é")


def test_a_loaded_stack_gives_the_same_numbers_and_trains_on(saved, images, held_out):
    sae, path = saved
    for loaded in (Autoencoder.load(path), Autoencoder(save_path=path, load=True)):
        np.testing.assert_array_equal(loaded.encode(images), sae.encode(images))
        np.testing.assert_array_equal(loaded.reconstruct(images, level=0), sae.reconstruct(images, level=0))
        budgets = loaded.evaluate(held_out, return_dict=True), sae.evaluate(held_out, return_dict=True)
        for index in range(2):
            assert budgets[0][index] == pytest.approx(budgets[1][index])
        assert (loaded.shape, loaded.value_range, loaded.save_path) == (sae.shape, sae.value_range, path)
        np.testing.assert_array_equal(loaded.levels[1].std, sae.levels[1].std)
    (history,) = loaded.train(images, epochs=1, levels=[0], validation_data=held_out, verbose=0)
    before = sae.evaluate(held_out, return_dict=True)[0]["loss"]
    assert history.start_loss == pytest.approx(before, rel=1e-5)  # no second closed-form start


@pytest.mark.slow
def test_plain_keras_and_plain_tensorflow_load_the_parts_without_this_package(saved, images, tmp_path):
    sae, path = saved
    np.save(tmp_path / "images.npy", images)
    program = f"""
import numpy as np, tensorflow as tf
images = np.load({str(tmp_path / "images.npy")!r})
z = images
for index in range(2):
    encoder = tf.keras.models.load_model({str(path)!r} + f"/encoder{{index}}")
    assert encoder.trainable_weights and type(encoder).__name__ == "Functional"
    z = encoder.predict(z, verbose=0)
served = tf.saved_model.load({str(path)!r} + "/encoder0")
z0 = served.serve(images).numpy()
x = z
for index in (1, 0):
    x = tf.keras.models.load_model({str(path)!r} + f"/decoder{{index}}").predict(x, verbose=0)
np.savez({str(tmp_path / "out.npz")!r}, z=z, z0=z0, x=x)
"""
    run_without_this_package(program)
    out = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(out["z"], sae.encode(images), atol=1e-5)
    np.testing.assert_allclose(out["z0"], sae.encode(images, level=0), atol=1e-5)
    np.testing.assert_allclose(out["x"], sae.reconstruct(images), atol=1e-5)


def test_the_folder_holds_what_the_design_says(saved):
    _, path = saved
    assert {entry.name for entry in path.iterdir()} == {
        "encoder0", "decoder0", "encoder1", "decoder1", "linear0.npz", "linear1.npz", "autoencoder.json",
    }  # fmt: skip
    for part in ("encoder0", "decoder1"):
        names = {entry.name for entry in (path / part).iterdir()}
        assert {"saved_model.pb", "variables", "config.json", "metadata.json", "model.weights.h5"} <= names
    manifest = json.loads((path / "autoencoder.json").read_text())
    assert manifest["format"] == 1
    assert manifest["levels"][1]["kind"] == "conv"
    assert manifest["levels"][1]["config"]["latent_dim"] == 6
    assert manifest["value_range"] == [-1.0, 1.0]
    assert len(manifest["levels"][0]["mean"]) == 8
    assert set(manifest["versions"]) == {"stacked_autoencoder", "keras", "tensorflow", "numpy"}
    on_disk = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert set(manifest["files"]) == on_disk - {"autoencoder.json"}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # nothing left over


def test_saving_twice_and_over_another_stack_keeps_what_is_not_ours(saved, images):
    sae, path = saved
    (path / "notes.txt").write_text("mine")
    assert sae.save(path) == path
    one_level = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    one_level.save(path)
    assert {entry.name for entry in path.iterdir()} == {"encoder0", "decoder0", "autoencoder.json", "notes.txt"}
    assert (path / "notes.txt").read_text() == "mine"
    np.testing.assert_array_equal(Autoencoder.load(path).encode(images), one_level.encode(images))


def test_save_without_a_path_goes_to_the_default(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Autoencoder(size=4, n_out=5, n_scalings=1).save() == tmp_path / "autoencoder_4_5_1"


@pytest.mark.parametrize("step", ["export", "dumps", "_swap"])
def test_a_save_that_fails_leaves_the_old_stack_whole(saved, images, monkeypatch, step):
    sae, path = saved

    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr({"export": keras.Model, "dumps": saving.json, "_swap": saving}[step], step, fail)
    with pytest.raises(OSError, match=r"what was at `path` is as it was: No space left.*Make room"):
        Autoencoder(shape=(16, 16, 3), size=4).save(path)
    monkeypatch.undo()
    np.testing.assert_array_equal(Autoencoder.load(path).encode(images), sae.encode(images))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("most", [100, 5_000, 12_000, 32_768, 69_700])
def test_a_full_disk_is_told_and_leaves_the_old_stack_whole(saved, images, most):
    sae, path = saved
    expected_error = pytest.raises(OSError, match=r"what was at `path` is as it was: .*File too large.*Make room")
    with files_of_at_most(most), expected_error:
        Autoencoder(shape=(16, 16, 3), size=4).save(path)
    np.testing.assert_array_equal(Autoencoder.load(path).encode(images), sae.encode(images))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_place_that_can_only_be_read_is_told_before_training(images):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        user = os.geteuid()
        if user == 0:  # who may write everywhere
            os.seteuid(65534)
        try:
            with pytest.raises(OSError, match=r"`save_path` can't be written: .*Permission denied.*another folder"):
                Autoencoder(save_path=f"{folder}/model").train(images, epochs=100_000, verbose=0)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("moment", ["old aside", "new in place"])
def test_a_swap_that_was_cut_short_is_finished_on_load(saved, images, moment):
    sae, path = saved
    old = path.with_name(f".{path.name}.old")
    if moment == "old aside":
        path.rename(old)
    else:
        shutil.copytree(path, old)
        (old / "notes.txt").write_text("mine")
    np.testing.assert_array_equal(Autoencoder.load(path).encode(images), sae.encode(images))
    assert not old.exists()
    assert (path / "notes.txt").exists() == (moment == "new in place")


def test_a_missing_path_and_half_a_folder_are_told(saved, tmp_path):
    _, path = saved
    with pytest.raises(FileNotFoundError, match="There is no saved autoencoder here"):
        Autoencoder.load(tmp_path / "nothing")
    (tmp_path / "model.keras").write_text("")
    with pytest.raises(FileNotFoundError, match="this is a file, and `save` writes a folder"):
        Autoencoder.load(tmp_path / "model.keras")
    shutil.rmtree(path / "decoder1")
    with pytest.raises(FileNotFoundError, match=r"decoder1 missing.*Whole levels there: 0\. Copy the folder again"):
        Autoencoder.load(path)
    (path / "autoencoder.json").unlink()
    for folder in (path, path / "encoder0"):  # the second as plain Keras saves it
        with pytest.raises(
            FileNotFoundError,
            match=r"autoencoder\.json is missing, so this isn't a whole saved autoencoder.*load_model",
        ):
            Autoencoder.load(folder)


def test_a_changed_a_cut_and_a_missing_file_are_named(saved):
    _, path = saved
    names = json.loads((path / "autoencoder.json").read_text())["files"]
    assert len(names) > 20
    for name in names:
        content = (path / name).read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        for broken in (flipped, content[:middle]):
            (path / name).write_bytes(broken)
            with pytest.raises(ValueError, match=f"{name} is not what was saved"):
                Autoencoder.load(path)
        (path / name).unlink()
        with pytest.raises(ValueError, match=f"{name} is missing"):
            Autoencoder.load(path)
        (path / name).write_bytes(content)
    Autoencoder.load(path)


def test_a_newer_format_says_to_upgrade(saved):
    _, path = saved
    manifest = json.loads((path / "autoencoder.json").read_text())
    (path / "autoencoder.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(ValueError, match=r"saved in format 99.*Upgrade with `pip install --upgrade"):
        Autoencoder.load(path)


def test_a_kind_of_level_from_a_newer_version_is_told(saved):
    _, path = saved
    manifest = json.loads((path / "autoencoder.json").read_text())
    manifest["levels"][1]["kind"] = "quantum"
    (path / "autoencoder.json").write_text(json.dumps(manifest))
    with pytest.raises(
        ValueError, match=r"kind 'quantum'; this version of stacked_autoencoder knows conv, dense, sequence\. Upgrade"
    ):
        Autoencoder.load(path)


def test_a_manifest_that_is_no_manifest_is_told(saved):
    _, path = saved
    for text in ("", "[]", "{}", "{"):
        (path / "autoencoder.json").write_text(text)
        with pytest.raises(ValueError, match=r"autoencoder\.json isn't one that `save` wrote"):
            Autoencoder.load(path)


def test_an_open_stack_and_an_untrained_one_are_saved_too(tmp_path):
    sae = Autoencoder(levels=[ConvLevel(n_out=4, n_scalings=1, size=4, depth=1)], check_range=False)
    sae.save(tmp_path / "open")
    loaded = Autoencoder.load(str(tmp_path / "open"))
    assert (loaded.check_range, loaded.levels[0].started, loaded.encoding_shape) == (False, False, (None, None, 4))
    encoder = tf.keras.models.load_model(tmp_path / "open" / "encoder0")
    for side in (8, 14):
        np.testing.assert_allclose(encoder(blobs(2, side)), sae.encode(blobs(2, side)), atol=1e-5)
