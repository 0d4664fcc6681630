"""The advice in the messages about saved stacks works: each test makes a mistake and then follows the advice."""

import json
import os
import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.safety.attacks import edit, sign
from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, LoadError
from stacked_autoencoder.saving import load, manifest, save
from stacked_autoencoder.saving.manifest import MANIFEST
from tests.conftest import blobs, files_of_at_most
from tests.saving.test_save import as_nobody

WEIGHTS = "encoder0/model.weights.h5"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    sae = Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(4)])
    sae.train(blobs(16, 8, 1), epochs=0, verbose=0)
    return sae.save(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def path(original, tmp_path):
    return shutil.copytree(original, tmp_path / "model")


def small():
    return Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(3)])


def level_of(content):
    return content["levels"][0]


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_and_sign(path):
    (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:2000])
    sign(path)


def pad_and_sign(path):
    content = (path / WEIGHTS).read_bytes()
    (path / WEIGHTS).write_bytes(b"x" * 512 + content)
    sign(path)


def spoil_and_sign(path):
    sae = Autoencoder.load(path)
    sae.levels[0].encoder.layers[-1].bias.assign(np.full(4, np.nan))
    sae.levels[0].encoder.save_weights(path / WEIGHTS)
    sign(path)


def forget_weights(path):
    edit(path, lambda content: content["files"].pop(WEIGHTS))


# What damages a folder, and what the message says.
DAMAGES = {
    "changed file": (lambda path: flip(path / WEIGHTS), "Copy it again, including hidden folders"),
    "missing file": (lambda path: (path / WEIGHTS).unlink(), "Copy it again, including hidden folders"),
    "missing part": (lambda path: shutil.rmtree(path / "decoder0"), "Copy the folder again"),
    "no manifest": (lambda path: (path / MANIFEST).unlink(), "Copy the whole folder again"),
    "cut manifest": (lambda path: (path / MANIFEST).write_text("{"), "Copy the folder again, or train and save again"),
    "cut weights": (cut_and_sign, "cannot be read.*Copy the folder again"),
    "padded weights": (pad_and_sign, "data before the weights.*Copy the folder again"),
    "weights that are NaN": (spoil_and_sign, "not finite numbers.*Copy the folder again"),
    "weights not listed": (forget_weights, "not among the files.*Copy the folder again"),
    "other units": (
        lambda path: edit(path, lambda content: level_of(content)["config"].update(units=[5])),
        "one of the two files was changed. Copy the folder again",
    ),
    "many units": (
        lambda path: edit(path, lambda content: level_of(content)["config"].update(units=[4] * 1000)),
        "too large for a level with these weights. Copy the folder again",
    ),
    "unknown argument": (
        lambda path: edit(path, lambda content: level_of(content)["config"].update(colour=1)),
        "cannot be created.*Copy the folder again",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_can_be_copied_again(original, path, name):
    damage, message = DAMAGES[name]
    damage(path)
    with pytest.raises((LoadError, FileNotFoundError), match=message):
        Autoencoder.load(path)
    shutil.rmtree(path)
    shutil.copytree(original, path)
    Autoencoder.load(path)


def test_a_part_of_an_incomplete_stack_may_open_with_keras(path):
    (path / MANIFEST).unlink()
    with pytest.raises(FileNotFoundError, match=r"may still open with `tf\.keras\.models\.load_model`"):
        Autoencoder.load(path)
    assert tf.keras.models.load_model(path / "encoder0").output_shape == (None, 4)


def test_training_and_saving_again_replaces_a_damaged_file(path):
    flip(path / WEIGHTS)
    with pytest.raises(LoadError, match="or train and save again"):
        Autoencoder.load(path)
    small().save(path)
    assert Autoencoder.load(path).encoding_shape == (3,)


def test_the_folder_that_save_wrote_is_the_one_to_pass(path):
    for wrong in (path / WEIGHTS, path.parent / "nothing"):
        with pytest.raises(FileNotFoundError, match="Pass the folder that `save` wrote"):
            Autoencoder.load(wrong)
    Autoencoder.load(path)


def test_trusted_reads_files_of_any_size(path, monkeypatch):
    monkeypatch.setattr(manifest, "LARGEST_STACK", 1000)
    with pytest.raises(LoadError, match="`trusted=True` reads files of any size"):
        Autoencoder.load(path)
    Autoencoder.load(path, trusted=True)


def test_a_folder_loads_after_other_processes_have_finished(path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(load, "MOST_ATTEMPTS", 2)
        patched.setattr(load, "identity", lambda folder: None)  # as if the manifest was replaced each time
        with pytest.raises(LoadError, match="Load it after they have finished"):
            Autoencoder.load(path)
    Autoencoder.load(path)


@pytest.mark.parametrize("change", [{"format": 99}, {"levels": None}], ids=["format", "kind"])
def test_upgrades_name_this_distribution(path, change):
    content = json.loads((path / MANIFEST).read_text())
    change = change if "format" in change else {"levels": [{**level_of(content), "kind": "quantum"}]}
    edit(path, lambda content: content.update(change))
    with pytest.raises(LoadError, match=r"Upgrade with `pip install --upgrade \w+`") as caught:
        Autoencoder.load(path)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    named = re.search(r"--upgrade (\w+)`", str(caught.value))[1]
    assert named.replace("_", "-") == project["name"].replace("_", "-")


def test_a_folder_that_is_made_readable_loads(path):
    path.chmod(0o700)
    with as_nobody(path.parent), pytest.raises(LoadError, match="Make the folder and its files readable"):
        Autoencoder.load(path)
    path.chmod(0o755)
    with as_nobody(path.parent):
        Autoencoder.load(path)


# === Saving ===


def test_fewer_levels_can_be_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(save, "MOST_LEVELS", 1)
    with pytest.raises(ValueError, match="Use fewer levels"):
        Autoencoder(shape=(8,), levels=[DenseLevel(4), DenseLevel(2)]).save(tmp_path / "model")
    small().save(tmp_path / "model")


@pytest.mark.parametrize("name", ["encoder0", MANIFEST, "decoder0"])
def test_what_is_in_the_way_can_be_moved_away(tmp_path, name):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(OSError, match="move it away, or choose another folder"):
        small().save(folder)
    small().save(tmp_path / "another")
    (folder / name).rename(tmp_path / name)
    Autoencoder.load(small().save(folder))
    assert (tmp_path / name).read_text() == "mine"


def test_the_folder_that_the_message_proposes_is_free(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    sae = Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(3)], save_path=tmp_path)
    with pytest.raises(OSError, match="Choose a new or empty folder, such as '") as caught:
        sae.train(blobs(8, 8, 1), epochs=1, verbose=0)
    proposed = re.search(r"such as '([^']+)'", str(caught.value))[1]
    sae = Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(3)], save_path=proposed)
    Autoencoder.load(sae.save())


def test_another_folder_than_one_with_the_sticky_bit(path, tmp_path):
    for entry in (path, *path.rglob("*")):
        entry.chmod(0o777)
    path.chmod(0o1777)
    free = tmp_path / "free"
    free.mkdir()
    free.chmod(0o777)
    with as_nobody(tmp_path):
        with pytest.raises(OSError, match=r"sticky bit.*Choose another folder"):
            small().save(path)
        small().save(free / "model")


def test_a_folder_whose_files_can_be_replaced_again(path, monkeypatch):
    sae = Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(3)], save_path=path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda folder, mode: Path(folder).name != "encoder0")
        with pytest.raises(OSError, match=r"cannot be replaced\. Make that folder writable, or choose another folder"):
            sae.train(blobs(8, 8, 1), epochs=1, verbose=0)
    sae.train(blobs(8, 8, 1), epochs=0, verbose=0)
    sae.save()
    assert Autoencoder.load(path).encoding_shape == (3,)


def test_room_is_made_or_another_path_used_when_a_disk_is_full(tmp_path):
    sae = small()
    with files_of_at_most(100), pytest.raises(OSError, match="Free disk space, or use another `path`"):
        sae.save(tmp_path / "model")
    for name in ("model", "another"):
        Autoencoder.load(sae.save(tmp_path / name))


def test_saving_again_moves_the_files(path, monkeypatch):
    replace = os.replace

    def fail(source, target):
        if str(source).endswith("linear0.npz"):
            raise PermissionError("Permission denied")
        replace(source, target)

    sae = small()
    sae.train(blobs(16, 8, 1), epochs=0, verbose=0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="Make the files in the folder writable and save again"):
            sae.save(path)
    sae.save(path)
    assert Autoencoder.load(path).encoding_shape == (3,)
    assert not list(path.glob(".autoencoder-*"))


@pytest.mark.parametrize("kind", ["file", "parent"])
def test_what_is_in_the_way_of_a_commit_can_be_moved_away(path, tmp_path, kind):
    taken = path / ("encoder0" if kind == "parent" else "training0.npz")
    away = tmp_path / "away"
    if kind == "parent":
        shutil.rmtree(taken)
    taken.write_text("mine")
    sae = Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(3, kl_weight=1.0)])
    with pytest.raises(OSError, match="move it away"):
        sae.save(path)
    taken.rename(away)
    Autoencoder.load(sae.save(path))
    assert away.read_text() == "mine"


# === Export ===


def test_export_advice_works_when_followed(path, tmp_path, monkeypatch):
    sae = Autoencoder.load(path)
    with pytest.raises(ValueError, match="must be one of onnx, litert, tflite"):
        sae.export(tmp_path / "export", "h5")
    monkeypatch.setattr("stacked_autoencoder.saving.export.default_format", lambda: "litert")
    with pytest.raises(ImportError, match='Or use `format="litert"`, which needs no extra'):
        sae.export(tmp_path / "export", "onnx")
    sae.export(tmp_path / "export", format="litert")
    full = files_of_at_most(200)
    with full, pytest.raises(OSError, match=r"Free disk space in this folder.*or use another `path`"):
        sae.export(tmp_path / "full", "litert")
    for name in ("full", "another"):
        assert all(file.stat().st_size for file in sae.export(tmp_path / name, "litert"))


def test_an_operation_that_litert_lacks(tmp_path):
    sae = Autoencoder(shape=(8, 8, 1), levels=[ConvLevel(2, 1, 4, activation="softsign")])
    sae.export(tmp_path, "litert")  # replaced by an equivalent
