import errno
import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, EncodingStore
from stacked_autoencoder.utils.errors import LoadError, printable
from stacked_autoencoder.utils.files import only_writer, read_regular, replacing, sha256, write_json


def test_a_replaced_file_is_whole_and_as_long_as_what_was_written(tmp_path):
    file = tmp_path / "values"
    file.write_bytes(b"old and longer")
    with replacing(file, reserve=100) as stream:
        stream.write(b"new")
        assert file.read_bytes() == b"old and longer"
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["values"]


def write_half(file):
    with replacing(file) as stream:
        stream.write(b"new")
        raise OSError(errno.ENOSPC, "full")


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    file = tmp_path / "values"
    file.write_bytes(b"old")
    with pytest.raises(OSError, match="full"):
        write_half(file)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["values"]


def test_the_same_json_has_the_same_sum(tmp_path):
    for name in ("a", "b"):
        write_json(tmp_path / name, {"é": [1, 2.5]})
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8")) == {"é": [1, 2.5]}


def test_a_second_writer_gets_an_error_and_can_write_afterwards(tmp_path):
    with (
        only_writer(tmp_path),
        pytest.raises(RuntimeError, match=r"Another process is writing.*`shard=\(i, n\)`"),
        only_writer(tmp_path),
    ):
        pass
    with only_writer(tmp_path):
        pass


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "folder", "socket", "sparse", "missing"])
def test_only_regular_files_of_a_stated_size_are_read(tmp_path, kind):
    file, held = tmp_path / "file", None
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file = Path("/dev/zero")
    elif kind == "link to a device":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    elif kind == "socket":
        held = socket.socket(socket.AF_UNIX)
        held.bind(str(file))
    elif kind == "sparse":
        file.touch()
        os.truncate(file, 1 << 40)
    reason = {"missing": "No such file", "sparse": "bytes, and at most 1,000 are read"}.get(kind, "not a regular file")
    for read in (lambda: read_regular(file, 1000), lambda: sha256(file, 1000)):
        with pytest.raises(OSError, match=reason):
            read()
    if held is not None:
        held.close()


def test_text_from_files_is_made_printable():
    assert printable("a\x1b[2Jb\x9b\x07\udcff") == "a\\x1b[2Jb\\x9b\\x07\\udcff"
    assert printable("two\n lines") == "two lines"
    assert printable("x" * 99, 10) == "x" * 9 + "…"
    assert len(str(LoadError("y" * 10**6))) < 3000


def test_a_tilde_is_the_home_folder_in_every_path_that_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    images = np.zeros((8, 8, 8, 3), np.uint8)
    sae = Autoencoder(shape=(8, 8, 3), size=4, n_out=4, save_path="~/chosen")
    sae.train(images, epochs=0, verbose=0, cache_dir="~/cache", checkpoint_dir="~/checkpoints")
    assert sae.save() == tmp_path / "chosen"
    assert sae.save("~/model") == tmp_path / "model"
    assert Autoencoder.load("~/model").levels[0].started
    assert sae.encode_to("~/store", images, verbose=0).path == tmp_path / "store"
    assert len(EncodingStore("~/store")) == 8
    assert sae.export("~/exported", "litert")[0].parent == tmp_path / "exported"
    assert not (tmp_path / "~").exists()
