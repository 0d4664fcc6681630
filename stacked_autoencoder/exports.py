"""Encoder and decoder for runtimes without Keras: ONNX and LiteRT (formerly TensorFlow Lite)."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import keras

from stacked_autoencoder.durable import replacing

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}


def export(models: dict[str, keras.Model], folder: str | os.PathLike[str], format: str = "onnx") -> list[Path]:
    """Writes Functional models of one input, each to a file of its name.

    The number of images is open, and so are the sides that the model leaves open; LiteRT's interpreter is told with
    `resize_tensor_input`. Inputs are called `images` for a model named `encoder`, `encodings` for others.

    Args:
        models: name of a file → model.
        folder: for the files; those that are there are replaced.
        format: `"onnx"`, which needs the extra `onnx`, or `"litert"`, which needs nothing more.

    Returns:
        Paths of the files.

    Raises:
        ValueError: `format` is another one.
        ImportError: what writes ONNX isn't installed.
    """
    if format not in SUFFIXES:
        raise ValueError(f"`format` must be one of {', '.join(SUFFIXES)}. Received: format={format!r}")
    if format == "onnx":
        try:
            import tf2onnx  # noqa: F401  Keras imports it late, and tells less
        except ImportError as error:
            raise ImportError('Writing ONNX needs an extra: `pip install "stacked_autoencoder[onnx]"`.') from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(model, folder / f"{name}{SUFFIXES[format]}", name, format) for name, model in models.items()]


def _write(model: keras.Model, file: Path, name: str, format: str) -> Path:
    what = "images" if name.startswith("encoder") else "encodings"
    signature = [keras.InputSpec(shape=model.input_shape, dtype="float32", name=what)]
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*np.object", category=FutureWarning)  # of Keras under numpy 2
        made = Path(scratch) / file.name
        model.export(str(made), format=format, verbose=False, input_signature=signature)
        with replacing(file) as stream:
            stream.write(made.read_bytes())
    return file
