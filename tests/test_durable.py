import errno
import json
import os

import pytest

from stacked_autoencoder.durable import only_writer, replacing, sha256, write_json


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


def test_a_second_writer_is_told_and_may_write_afterwards(tmp_path):
    with (
        only_writer(tmp_path),
        pytest.raises(RuntimeError, match=r"Another process is writing.*`shard=\(i, n\)`"),
        only_writer(tmp_path),
    ):
        pass
    with only_writer(tmp_path):
        pass
