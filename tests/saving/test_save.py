import contextlib
import errno
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, LoadError
from stacked_autoencoder.saving import load, manifest, save
from stacked_autoencoder.saving.manifest import MANIFEST, STAGING
from stacked_autoencoder.saving.staging import JOURNAL, commit
from tests.conftest import blobs, files_of_at_most, run_without_this_package


@contextmanager
def as_nobody(folder):
    """Acts as a user who can read below a folder that pytest has made for root alone, but not write."""
    for parent in [folder, *folder.parents][:-2]:
        parent.chmod(0o755)
    user = os.geteuid()
    if user == 0:  # who may read and write everywhere
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture(scope="module")
def original(trained, tmp_path_factory):
    sae, _ = trained
    return sae.save(tmp_path_factory.mktemp("models") / "my model é")


@pytest.fixture
def saved(trained, original, tmp_path):
    """A stack and a folder in which it is saved, which tests may change."""
    sae, _ = trained
    return sae, shutil.copytree(original, tmp_path / original.name)


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


@pytest.mark.parametrize("step", ["export", "dumps", "commit"])
def test_a_save_that_fails_leaves_the_old_stack_whole(saved, images, monkeypatch, step):
    sae, path = saved

    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr({"export": keras.Model, "dumps": save.json, "commit": save}[step], step, fail)
    with pytest.raises(OSError, match=r"content of `path` is unchanged: No space left.*Free disk space"):
        Autoencoder(shape=(16, 16, 3), size=4).save(path)
    monkeypatch.undo()
    np.testing.assert_array_equal(Autoencoder.load(path).encode(images), sae.encode(images))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("most", [100, 5_000, 12_000, 32_768, 69_700])
def test_a_full_disk_is_told_and_leaves_the_old_stack_whole(saved, images, most):
    sae, path = saved
    expected_error = pytest.raises(OSError, match=r"content of `path` is unchanged: .*File too large.*Free disk space")
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


class Killed(BaseException):
    """Ends a save where a kill would."""


def save_killed_at(sae, path, monkeypatch, n_moves):
    """Saves, and is killed after the new stack has been committed and so many of its files are in place."""
    moves, replace = [], os.replace

    def replace_or_die(source, target):
        if STAGING.fullmatch(Path(source).relative_to(path).parts[0]) and Path(target).name != MANIFEST:
            moves.append(target)
            if len(moves) > n_moves and Path(target).name != JOURNAL:
                raise Killed
        return replace(source, target)

    monkeypatch.setattr(save.os, "replace", replace_or_die)
    with pytest.raises(Killed):
        sae.save(path)
    monkeypatch.undo()


def contents(folder):
    """Everything below a folder: names, what files hold, and where links point to."""
    found = {}
    for entry in folder.rglob("*"):
        what = os.readlink(entry) if entry.is_symlink() else entry.read_bytes() if entry.is_file() else None
        found[entry.relative_to(folder).as_posix()] = what
    return found


@pytest.mark.parametrize("n_moves", [2, 3, 9])
def test_a_save_that_was_killed_while_moving_loads_unchanged_and_is_finished_by_the_next(
    saved, images, monkeypatch, n_moves
):
    sae, path = saved
    (path / "encoder0" / "thesis.txt").write_text("mine")
    other = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    save_killed_at(other, path, monkeypatch, n_moves)
    before = contents(path)
    assert any(name.startswith(".autoencoder-") for name in before)
    np.testing.assert_array_equal(Autoencoder.load(path).encode(images), other.encode(images))
    assert contents(path) == before  # loading only reads
    sae.save(path)
    assert not [entry.name for entry in path.iterdir() if entry.name.startswith(".")]
    np.testing.assert_array_equal(Autoencoder.load(path).encode(images), sae.encode(images))
    assert (path / "encoder0" / "thesis.txt").read_text() == "mine"


def test_a_save_that_was_killed_while_moving_loads_where_nothing_can_be_written(saved, images, monkeypatch):
    _, path = saved
    other = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    save_killed_at(other, path, monkeypatch, 3)
    with as_nobody(path.parent):
        np.testing.assert_array_equal(Autoencoder.load(path).encode(images), other.encode(images))


def test_what_killed_saves_have_left_goes_with_the_next_save(saved):
    sae, path = saved
    for token, journal in (("a" * 32, True), ("b" * 32, False)):
        staging = path / f".autoencoder-{token}"
        (staging / "encoder0" / "variables").mkdir(parents=True)
        (staging / "encoder0" / "variables" / "part").write_text("half")
        if journal:
            names = ["encoder0", "encoder0.keras", "autoencoder.json"]
            (staging / "save.json").write_text(json.dumps({"id": token, "names": names, "before": {}}))
            (staging / "thesis.txt").write_text("mine")
    sae.save(path)
    assert (path / f".autoencoder-{'b' * 32}" / "encoder0" / "variables" / "part").exists()  # not provably ours
    assert [entry.name for entry in (path / f".autoencoder-{'a' * 32}").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("kind", ["link", "folder", "file"])
def test_nothing_beside_a_stack_is_taken_for_a_part_of_it(saved, images, kind):
    """The user's own backup, and links that an archive can carry: version 0.1 took them for its own."""
    sae, path = saved
    victim, backup = path.parent / "victim", path.with_name(f".{path.name}.old")
    victim.mkdir()
    (victim / "thesis.txt").write_text("mine")
    if kind == "link":
        backup.symlink_to(victim)
    elif kind == "folder":
        shutil.copytree(path, backup)
        (backup / "notes.txt").write_text("mine")
        (path / "notes.txt").write_text("newer")
        shutil.copytree(path, path.with_name(f".{path.name}.x.new"))
    else:
        backup.write_text("a file")
    before = contents(path.parent)
    np.testing.assert_array_equal(Autoencoder.load(path).encode(images), sae.encode(images))
    assert contents(path.parent) == before
    sae.save(path)
    after = contents(path.parent)
    for name in before:
        if not name.startswith(f"{path.name}/"):
            assert after[name] == before[name], name


def test_a_swap_that_version_0_1_left_is_read_where_it_is(saved, images):
    sae, path = saved
    old = path.with_name(f".{path.name}.old")
    path.rename(old)
    np.testing.assert_array_equal(Autoencoder.load(path).encode(images), sae.encode(images))
    assert (old.exists(), path.exists()) == (True, False)


@pytest.mark.parametrize("attack", ["names", "before", "staged link", "staging is a link", "part is a link"])
def test_saving_into_a_hostile_folder_touches_nothing_outside(saved, attack):
    """A folder from a stranger that looks as if a save had been cut short in it."""
    sae, path = saved
    victim, token = path.parent / "victim", "c" * 32
    staging = path / f".autoencoder-{token}"
    shutil.copytree(path / "encoder0", victim)
    (victim / "encoder0").mkdir()
    (victim / "encoder0" / "thesis.txt").write_text("mine")
    journal = {"id": token, "names": ["encoder0", "autoencoder.json"], "before": {}}
    if attack == "names":
        journal["names"] = ["../../victim", "encoder0/../../../victim"]
    elif attack == "before":
        journal["before"] = {"../victim/config.json": save.sha256(victim / "config.json")}
    elif attack == "staging is a link":
        (victim / "save.json").write_text(json.dumps(journal))
        staging.symlink_to(victim)
    if attack != "staging is a link":
        staging.mkdir()
        (staging / "save.json").write_text(json.dumps(journal))
    if attack == "staged link":
        (staging / "encoder0").symlink_to(victim)
    elif attack == "part is a link":
        shutil.rmtree(path / "encoder0")
        (path / "encoder0").symlink_to(victim)
    manifest = json.loads((path / "autoencoder.json").read_text())
    (path / "autoencoder.json").write_text(json.dumps(manifest | {"id": token}))
    before = contents(victim)
    if attack in ("staged link", "part is a link"):
        with pytest.raises(OSError, match="move it away"):
            sae.save(path)
    else:
        sae.save(path)
    assert contents(victim) == before


@pytest.mark.parametrize("name", ["encoder1", "decoder0/config.json", "linear0.npz", "autoencoder.json", "notes.txt"])
def test_what_save_did_not_write_is_never_replaced(images, tmp_path, name):
    mine = tmp_path / "model" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_levels=2, n_scalings=1, save_path=tmp_path / "model")
    with pytest.raises(OSError, match=r"`save_path` can't be written.*(?:new or empty|another) folder"):
        sae.train(images, epochs=100_000, verbose=0)
    with pytest.raises(OSError, match="the content of `path` is unchanged"):
        sae.save()
    assert contents(tmp_path / "model")[name] == b"mine"
    assert len(list((tmp_path / "model").iterdir())) == 1


def test_files_of_the_user_among_ours_stay(saved):
    _, path = saved
    names = ("encoder0/thesis.txt", "encoder0/assets/words.txt", "encoder1/own.txt", "linear7.npz", "encoder9/x")
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("mine")
    Autoencoder(shape=(16, 16, 3), size=4).save(path)
    for name in names:
        assert (path / name).read_text() == "mine"
    assert not (path / "encoder1" / "config.json").exists()
    assert not (path / "decoder1").exists()


def test_what_came_to_the_folder_during_training_does_not_keep_the_stack_from_being_saved(images, tmp_path):
    path = tmp_path / "model"

    class Log(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            (path / "log.csv").write_text("mine")

    sae = Autoencoder(shape=(16, 16, 3), size=4, save_path=path)
    sae.train(images, epochs=1, callbacks=[Log()], checkpoint_dir=path, verbose=0)
    sae.save()
    assert (path / "log.csv").read_text() == "mine"
    Autoencoder.load(path)


def test_saving_to_the_working_directory_leaves_it_in_place(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    sae = Autoencoder(shape=(16, 16, 3), size=4)
    for _ in range(2):
        sae.save(".")
        Path("relative.txt").write_text("works")
    assert {"autoencoder.json", "relative.txt"} <= set(os.listdir(tmp_path / "here"))
    Autoencoder.load(".")


def test_files_have_the_mode_that_the_umask_says_and_a_folder_keeps_its_own(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(0o751)
    sae, before = Autoencoder(shape=(16, 16, 3), size=4), os.umask(0o027)
    try:
        paths = [sae.save(tmp_path / name) for name in ("there", "new")]
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o751, 0o750]
    for path in paths:
        assert {entry.stat().st_mode & 0o777 for entry in path.rglob("*") if entry.is_file()} == {0o640}
        assert {entry.stat().st_mode & 0o777 for entry in path.rglob("*") if entry.is_dir()} == {0o750}


PATHS = {
    "long name": ("x" * 300, "File name too long"),
    "long path": ("/".join(["y" * 200] * 20), "File name too long"),
    "not UTF-8": ("m\udcff", "not UTF-8"),
    "below a file": ("file/model", "Not a directory"),
}


@pytest.mark.parametrize("case", PATHS)
def test_a_path_that_can_not_be_saved_to_is_found_before_training(images, tmp_path, case):
    name, reason = PATHS[case]
    (tmp_path / "file").write_text("")
    sae = Autoencoder(shape=(16, 16, 3), size=4, save_path=tmp_path / name)
    with pytest.raises(OSError, match=rf"`save_path` can't be written: .*{reason}.*Choose another folder"):
        sae.train(images, epochs=100_000, verbose=0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_can_be_no_path_is_told(images, path):
    sae = Autoencoder(shape=(16, 16, 3), size=4)
    with pytest.raises(ValueError, match="`path` must be the path of a folder"):
        sae.save(path)
    with pytest.raises(LoadError, match="`path` must be the path of a folder"):
        Autoencoder.load(path)


@pytest.mark.parametrize("path", ["/", "x" * 300, "/proc/self/mem", "/dev/zero"])
def test_what_can_not_be_loaded_is_told(path):
    with pytest.raises((LoadError, FileNotFoundError)):
        Autoencoder.load(path)


def test_a_folder_that_can_not_be_read_is_told(saved):
    _, path = saved
    path.chmod(0o700)
    with as_nobody(path.parent), pytest.raises(LoadError, match=r"cannot be read.*Permission denied"):
        Autoencoder.load(path)


def test_a_folder_of_others_with_the_sticky_bit_is_found_before_training(images, tmp_path):
    path = Autoencoder(shape=(16, 16, 3), size=4).save(tmp_path / "model")
    for entry in (path, *path.rglob("*")):
        entry.chmod(0o777)
    path.chmod(0o1777)
    sae = Autoencoder(shape=(16, 16, 3), size=4, save_path=path)
    with as_nobody(tmp_path), pytest.raises(OSError, match=r"belongs to another user.*sticky bit"):
        sae.train(images, epochs=100_000, verbose=0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_mount_point_can_be_saved_to(images, tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", volume], check=False, capture_output=True).returncode:
        pytest.skip("file systems can't be mounted here")
    try:
        sae = Autoencoder(shape=(16, 16, 3), size=4, save_path=volume)
        sae.train(images, epochs=0, verbose=0)
        for _ in range(2):
            sae.save()
        np.testing.assert_array_equal(Autoencoder.load(volume).encode(images), sae.encode(images))
    finally:
        subprocess.run(["umount", volume], check=True)


def test_a_missing_path_and_half_a_folder_are_told(saved, tmp_path):
    _, path = saved
    with pytest.raises(FileNotFoundError, match="There is no saved autoencoder at this path"):
        Autoencoder.load(tmp_path / "nothing")
    (tmp_path / "model.keras").write_text("")
    with pytest.raises(FileNotFoundError, match="it is a file, but `save` writes a folder"):
        Autoencoder.load(tmp_path / "model.keras")
    shutil.rmtree(path / "decoder1")
    with pytest.raises(FileNotFoundError, match=r"decoder1 missing.*Complete levels: 0\. Copy the folder again"):
        Autoencoder.load(path)
    (path / "autoencoder.json").unlink()
    for folder in (path, path / "encoder0"):  # the second as plain Keras saves it
        with pytest.raises(
            FileNotFoundError,
            match=r"autoencoder\.json is missing, so this is not a complete saved autoencoder.*load_model",
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
        ValueError, match=r"kind 'quantum', but .* stacked_autoencoder supports conv, dense, sequence\. Upgrade"
    ):
        Autoencoder.load(path)


def test_a_manifest_that_is_no_manifest_is_told(saved):
    _, path = saved
    for text in ("", "[]", "{}", "{"):
        (path / "autoencoder.json").write_text(text)
        with pytest.raises(ValueError, match=r"autoencoder\.json is not a manifest that `save` wrote"):
            Autoencoder.load(path)


def test_an_open_stack_and_an_untrained_one_are_saved_too(tmp_path):
    sae = Autoencoder(levels=[ConvLevel(n_out=4, n_scalings=1, size=4, depth=1)], check_range=False)
    sae.save(tmp_path / "open")
    loaded = Autoencoder.load(str(tmp_path / "open"))
    assert (loaded.check_range, loaded.levels[0].started, loaded.encoding_shape) == (False, False, (None, None, 4))
    encoder = tf.keras.models.load_model(tmp_path / "open" / "encoder0")
    for side in (8, 14):
        np.testing.assert_allclose(encoder(blobs(2, side)), sae.encode(blobs(2, side)), atol=1e-5)


def test_a_load_never_mixes_two_stacks(saved, images, monkeypatch):
    """Another process saves between the check of the files and their reading."""
    _, path = saved
    other = Autoencoder(shape=(16, 16, 3), size=8, n_out=8, n_scalings=2, n_levels=2, latent_dim=6)
    fill, calls = load.fill, []

    def save_and_fill(*arguments):
        calls.append(1)
        if len(calls) == 1:
            other.save(path)
        fill(*arguments)

    monkeypatch.setattr(load, "fill", save_and_fill)
    np.testing.assert_array_equal(Autoencoder.load(path).encode(images), other.encode(images))
    assert len(calls) == 2


@pytest.mark.parametrize("is_moving", [False, True])
def test_a_damaged_stack_is_read_once_unless_files_move_meanwhile(saved, images, monkeypatch, is_moving):
    _, path = saved
    other = Autoencoder(shape=(16, 16, 3), size=8, n_out=8, n_scalings=2, n_levels=2, latent_dim=6)
    save_killed_at(other, path, monkeypatch, 3)
    (staging,) = path.glob(".autoencoder-*")
    (staging / "decoder1" / "model.weights.h5").write_bytes(b"damaged")
    read, attempts = load.read, []

    def counted_read(folder, **options):
        attempts.append(folder)
        if is_moving and len(attempts) == 1:
            os.replace(staging / "decoder1", path / "decoder1")
        return read(folder, **options)

    monkeypatch.setattr(load, "read", counted_read)
    with pytest.raises(LoadError, match=r"decoder1/model\.weights\.h5 is not what was saved"):
        Autoencoder.load(path)
    assert len(attempts) == (2 if is_moving else 1)


@pytest.mark.parametrize("n_moves", range(2, 6))
def test_a_killed_save_leaves_no_mixture_for_plain_keras(saved, monkeypatch, n_moves):
    _, path = saved
    before = contents(path / "encoder0")
    other = Autoencoder(shape=(16, 16, 3), size=8, n_out=8, n_scalings=2, n_levels=2, latent_dim=6)
    save_killed_at(other, path, monkeypatch, n_moves)
    there = contents(path / "encoder0")
    weights = "model.weights.h5", "variables/variables.data-00000-of-00001"
    assert not there or len({there[name] == before[name] for name in weights}) == 1


def test_a_manifest_that_can_not_be_read_after_the_commit_loses_nothing(saved, images, monkeypatch):
    _, path = saved
    other = Autoencoder(shape=(16, 16, 3), size=4)

    def fail(file, largest):
        raise OSError(errno.EIO, "Input/output error", str(file))

    def commit_and_fail(*arguments):
        commit(*arguments)
        monkeypatch.setattr(manifest, "read_regular", fail)

    monkeypatch.setattr(save, "commit", commit_and_fail)
    with pytest.raises(OSError, match=r"The stack is saved and `Autoencoder\.load` reads it.*Input/output error"):
        other.save(path)
    monkeypatch.undo()
    np.testing.assert_array_equal(Autoencoder.load(path).encode(images), other.encode(images))
    other.save(path)
    assert not [entry.name for entry in path.iterdir() if entry.name.startswith(".")]


def test_trying_a_folder_writes_nothing_through_its_links(saved, images):
    _, path = saved
    victim = path.parent / "victim"
    shutil.move(path / "encoder0", victim)
    (path / "encoder0").symlink_to(victim)
    before = victim.stat().st_mtime_ns
    with contextlib.suppress(OSError):
        Autoencoder(shape=(16, 16, 3), size=4, save_path=path).train(images, epochs=0, verbose=0)
    assert victim.stat().st_mtime_ns == before


def test_a_pipe_is_no_folder_to_save_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="could not be saved"):
        Autoencoder(shape=(16, 16, 3), size=4).save(tmp_path / "pipe")


def test_a_stack_from_a_folder_that_can_only_be_read_trains(saved, images):
    _, path = saved
    with as_nobody(path.parent):
        loaded = Autoencoder.load(path)
        loaded.train(images, epochs=0, verbose=0)
        loaded.fine_tune(images, epochs=1, verbose=0)


def test_constant_data_are_saved_with_a_range(tmp_path):
    sae = Autoencoder(shape=(4,), levels=[DenseLevel(2)])
    sae.train(np.full((16, 4), 3.0, np.float32), epochs=0, verbose=0)
    low, high = Autoencoder.load(sae.save(tmp_path / "model")).value_range
    assert low < 3 < high
    assert (sae.levels[0].std > 0).all()
