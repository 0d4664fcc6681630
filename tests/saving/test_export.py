"""What other runtimes make of an export must be what Keras makes of the model."""

import sys

import numpy as np
import pytest

from stacked_autoencoder import Autoencoder
from tests.conftest import blobs, files_of_at_most

PARITY = 1e-4


def of_onnx(file, values):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(file)
    (entry,) = session.get_inputs()
    return entry.name, session.run(None, {entry.name: values})[0]


def of_litert(file, values):
    runtime = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = runtime.Interpreter(str(file))
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(entry["index"], values.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry["index"], values)
    interpreter.invoke()
    return entry["name"].removeprefix("serving_default_").removesuffix(":0"), interpreter.get_tensor(result["index"])


@pytest.mark.slow
@pytest.mark.parametrize(("format", "suffix", "runs"), [("onnx", "onnx", of_onnx), ("litert", "tflite", of_litert)])
@pytest.mark.parametrize("arguments", [{"shape": (16, 16, 3), "latent_dim": 6}, {"shape": (None, None, 3)}])
def test_exports_give_keras_numbers(format, suffix, runs, arguments, tmp_path):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    sae = Autoencoder(size=8, n_out=8, n_scalings=1, n_levels=2, **arguments)
    sae.train(blobs(64), epochs=1, verbose=0)
    files = sae.export(tmp_path / "out", format)
    assert files == [tmp_path / "out" / f"{name}.{suffix}" for name in ("encoder", "decoder")]
    for side, count in ((16, 3), (24, 2)) if arguments["shape"][0] is None else ((16, 3),):
        images = blobs(count, side, seed=2)
        name, encodings = runs(files[0], images)
        assert name == "images"
        np.testing.assert_allclose(encodings, sae.encode(images), atol=PARITY)
        name, decoded = runs(files[1], encodings)
        assert name == "encodings"
        np.testing.assert_allclose(decoded, sae.decode(encodings), atol=PARITY)


def test_an_export_down_to_a_level(trained, tmp_path):
    sae, _ = trained
    files = sae.export(tmp_path, "litert", level=0)
    _, encodings = of_litert(files[0], blobs(2))
    assert encodings.shape[1:] == sae.levels[0].encoding_shape


def test_what_cant_be_exported_is_told(trained, tmp_path, monkeypatch):
    sae, _ = trained
    with pytest.raises(ValueError, match=r"`format` must be one of onnx, litert\. Received: format='h5'"):
        sae.export(tmp_path, "h5")
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r'pip install "stacked_autoencoder\[onnx\]"'):
        sae.export(tmp_path)


def test_a_full_disk_is_told_and_keeps_the_files_before(trained, tmp_path):
    sae, _ = trained
    (tmp_path / "encoder.tflite").write_bytes(b"before")
    with files_of_at_most(2_000), pytest.raises(OSError, match=r"encoder\.tflite couldn't be exported.*another `path`"):
        sae.export(tmp_path, "litert")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("encoder.tflite", b"before")]


def test_a_target_that_is_a_file_is_told(trained, tmp_path):
    sae, _ = trained
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OSError, match=r"`path` can't be written: it is a file\. Choose another folder"):
        sae.export(tmp_path / "out", "litert")
