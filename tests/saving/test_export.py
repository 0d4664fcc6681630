"""What other runtimes make of an export must be what Keras makes of the model."""

import sys

import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, SequenceLevel
from stacked_autoencoder.saving.export import default_format, export_models
from tests.conftest import blobs, files_of_at_most, waves

PARITY = 1e-5
IMAGES, OPEN, SEQUENCES, PADDING = (12, 12, 2), (None, None, 2), (7, 2), -9.0
OTHERS = ("deserialize", "get", "serialize", "glu", "threshold")  # `glu` halves, `threshold` takes arguments
ACTIVATIONS = [name for name in dir(keras.activations) if not name.startswith("_") and name not in OTHERS]
KINDS = {
    "conv": (IMAGES, lambda: [ConvLevel(4, 2, 8)]),
    "conv, open, variational": (OPEN, lambda: [ConvLevel(4, 2, 8, kl_weight=0.1)]),
    "conv, gelu, two resolutions": ((32, 32, 2), lambda: [ConvLevel(4, 4, 8, activation="gelu")]),
    "conv, nearest, open, tied": (OPEN, lambda: [ConvLevel(4, 4, 8, upsampling="nearest", tied=True)]),
    "conv, nearest, open width": (
        (12, None, 2),
        lambda: [ConvLevel(4, 1, 8, upsampling="nearest", output_activation="sigmoid")],
    ),
    "conv, nearest": (IMAGES, lambda: [ConvLevel(4, 1, 8, upsampling="nearest")]),
    "conv, bilinear": (IMAGES, lambda: [ConvLevel(4, 2, 8, upsampling="bilinear")]),
    "conv to a vector": (IMAGES, lambda: [ConvLevel(4, 2, 8, latent_dim=5, kl_weight=0.1)]),
    "conv on conv, open": (OPEN, lambda: [ConvLevel(4, 1, 8), ConvLevel(4, 1, 8, upsampling="nearest")]),
    "dense on conv": (IMAGES, lambda: [ConvLevel(4, 2, 8), DenseLevel([9, 6], tied=True, kl_weight=0.1)]),
    "dense, every activation": ((9,), lambda: [DenseLevel([9] * len(ACTIVATIONS), ACTIVATIONS)]),
    "lstm": (SEQUENCES, lambda: [SequenceLevel(4)]),
    "lstm, one step": ((1, 3), lambda: [SequenceLevel(4)]),
    "gru, two layers": (SEQUENCES, lambda: [SequenceLevel([5, 4], cell="gru")]),
    "lstm, forwards, next": (SEQUENCES, lambda: [SequenceLevel([5, 4], "next", reverse=False)]),
    "gru, both": (SEQUENCES, lambda: [SequenceLevel(4, "both", cell="gru")]),
    "lstm, conditional": (SEQUENCES, lambda: [SequenceLevel([5, 4], conditional=True)]),
    "gru, conditional, forwards": (SEQUENCES, lambda: [SequenceLevel(4, "both", False, True, "gru")]),
    "lstm, masked": (SEQUENCES, lambda: [SequenceLevel([5, 4], mask_value=PADDING)]),
    "gru, masked, as sequences": (
        SEQUENCES,
        lambda: [SequenceLevel([5, 4], cell="gru", return_sequences=True, mask_value=PADDING)],
    ),
    "gru on lstm": (SEQUENCES, lambda: [SequenceLevel(5), SequenceLevel(4, cell="gru")]),
}


def stack_of(name):
    """A stack whose residual paths aren't zero, as they are before training."""
    shape, levels = KINDS[name]
    sae, rng = Autoencoder(shape=shape, levels=levels()), np.random.default_rng(0)
    for model in (model for level in sae.levels for model in level.models().values()):
        # About as large as Glorot's, so that rounding isn't amplified from layer to layer.
        shapes = [weight.shape for weight in model.get_weights()]
        model.set_weights([rng.normal(0, max(np.prod(shape[:-1]), 9) ** -0.5, shape) for shape in shapes])
    return sae


def inputs_of(name, count, side):
    shape = tuple(side if each is None else each for each in KINDS[name][0])
    if len(shape) != 2:
        return np.random.default_rng(0).uniform(-1, 1, (count, *shape)).astype(np.float32)
    sequences = waves(count, *shape)
    sequences[0, 3:] = sequences[-1, 1::2] = PADDING
    return sequences


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
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_keras_numbers(name, format, suffix, runs, tmp_path):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    sae = stack_of(name)
    files = sae.export(tmp_path / "out", format)
    assert files == [tmp_path / "out" / f"{part}.{suffix}" for part in ("encoder", "decoder")]
    for count, side in ((1, 32), (3, 16)):
        images = inputs_of(name, count, side)
        expected = np.asarray(sae.encoder(images))
        entry, encodings = runs(files[0], images)
        assert entry == "images"
        np.testing.assert_allclose(encodings, expected, rtol=PARITY, atol=PARITY)
        entry, decoded = runs(files[1], expected)
        assert entry == "encodings"
        np.testing.assert_allclose(decoded, np.asarray(sae.decoder(expected)), rtol=PARITY, atol=PARITY)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv, nearest, open width", "lstm, masked", "gru, conditional, forwards"])
def test_litert_computes_a_stack_of_mixed_precision_in_float32(name, policy, tmp_path):
    expected = stack_of(name)  # of float32, and the same weights
    policy("mixed_float16")
    files = stack_of(name).export(tmp_path, "litert")
    images = inputs_of(name, 2, 16)
    encodings = np.asarray(expected.encoder(images))
    np.testing.assert_allclose(of_litert(files[0], images)[1], encodings, rtol=PARITY, atol=PARITY)
    decoded = np.asarray(expected.decoder(encodings))
    np.testing.assert_allclose(of_litert(files[1], encodings)[1], decoded, rtol=PARITY, atol=PARITY)


@pytest.mark.slow
def test_a_long_sequence_doesnt_make_a_large_file(tmp_path):
    sae = Autoencoder(shape=(300, 2), levels=[SequenceLevel(4)])
    (file, _) = sae.export(tmp_path, "litert")
    assert file.stat().st_size < 20_000


# One operation that only the other format has.
@pytest.mark.parametrize(
    ("format", "other", "runs", "operation", "named"),
    [("litert", "onnx", of_onnx, keras.ops.arcsinh, "Asinh"), ("onnx", "litert", of_litert, keras.ops.expm1, "Expm1")],
)
def test_what_a_runtime_lacks_is_refused_and_nothing_is_written(format, other, runs, operation, named, tmp_path):
    pytest.importorskip("tf2onnx")
    inputs = keras.Input((3,))
    models = {
        "encoder": keras.Model(inputs, keras.layers.Dense(3)(inputs)),
        "decoder": keras.Model(inputs, operation(inputs)),
    }
    with pytest.raises(ValueError, match=rf"decoder needs operations.* Use `format='{other}'`.* Received: .*{named}"):
        export_models(models, tmp_path / "new" / "out", format)
    assert not any(tmp_path.iterdir())
    values = np.array([[0.1, 0.2, 0.3]], np.float32)
    _, decoder = export_models(models, tmp_path, other)
    np.testing.assert_allclose(runs(decoder, values)[1], np.asarray(operation(values)), rtol=PARITY)


def test_an_export_down_to_a_level(trained, tmp_path):
    sae, _ = trained
    files = sae.export(tmp_path, "litert", level=0)
    _, encodings = of_litert(files[0], blobs(2))
    assert encodings.shape[1:] == sae.levels[0].encoding_shape


def test_tflite_is_another_name_of_litert(trained, tmp_path):
    sae, _ = trained
    files = sae.export(tmp_path, "tflite", level=0)
    assert [file.name for file in files] == ["encoder.tflite", "decoder.tflite"]


def test_what_cant_be_exported_is_told(trained, tmp_path, monkeypatch):
    sae, _ = trained
    with pytest.raises(ValueError, match=r"`format` must be one of onnx, litert, tflite\. Received: format='h5'"):
        sae.export(tmp_path, "h5")
    assert default_format() == "onnx"
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    assert default_format() == "litert"
    with pytest.raises(
        ImportError, match=r'`pip install "stacked_autoencoder\[onnx\]"`.*`format="litert"`, which needs no extra'
    ):
        sae.export(tmp_path)


def test_a_full_disk_is_told_and_keeps_the_files_before(trained, tmp_path):
    sae, _ = trained
    (tmp_path / "encoder.tflite").write_bytes(b"before")
    with (
        files_of_at_most(2_000),
        pytest.raises(OSError, match=r"encoder\.tflite and decoder\.tflite could not be.*another `path`"),
    ):
        sae.export(tmp_path, "litert")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("encoder.tflite", b"before")]


def test_a_target_that_is_a_file_is_told(trained, tmp_path):
    sae, _ = trained
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OSError, match=r"`path` can't be written: it is a file\. Choose another folder"):
        sae.export(tmp_path / "out", "litert")
