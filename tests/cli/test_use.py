"""The commands on a saved stack."""

import json
import sys

import pytest

from stacked_autoencoder import Autoencoder, DenseLevel
from stacked_autoencoder.cli.main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Autoencoder(shape=(6,), levels=[DenseLevel(2)]).save(tmp_path_factory.mktemp("stack") / "model")


@pytest.mark.parametrize(
    ("words", "is_there", "format", "suffix"),
    [
        ([], True, "onnx", "onnx"),
        ([], False, "litert", "tflite"),
        (["--format", "tflite"], True, "tflite", "tflite"),
        (["--format", "litert"], False, "litert", "tflite"),
    ],
)
def test_export_takes_a_format_that_is_installed_and_says_which(
    words, is_there, format, suffix, model, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("tf2onnx")
    if not is_there:
        monkeypatch.setitem(sys.modules, "tf2onnx", None)
    assert main(["export", str(model), str(tmp_path / "out"), *words]) == 0
    files = [tmp_path / "out" / f"{name}.{suffix}" for name in ("encoder", "decoder")]
    assert [line.split(", ")[:2] for line in capsys.readouterr().out.splitlines()] == [[str(f), format] for f in files]
    assert main(["export", str(model), str(tmp_path / "out"), *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"format": format, "files": [str(file) for file in files]}


def test_export_names_the_extra_that_is_missing(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    assert main(["export", str(model), str(tmp_path / "out"), "--format", "onnx"]) == 1
    assert 'pip install "stacked_autoencoder[onnx]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
