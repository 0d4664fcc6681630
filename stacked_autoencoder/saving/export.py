"""Encoder and decoder for runtimes without Keras: ONNX and LiteRT (formerly TensorFlow Lite)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import check_writable, replacing, resolved

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}


def export_models(models: dict[str, keras.Model], folder: str | os.PathLike[str], format: str = "onnx") -> list[Path]:
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
        OSError: the files can't be written, such as on a full disk. Files of the same names that were there are whole.
    """
    if format not in SUFFIXES:
        raise ValueError(f"`format` must be one of {', '.join(SUFFIXES)}. Received: format={format!r}")
    if format == "onnx":
        try:
            import tf2onnx  # noqa: F401  Keras imports it late, and tells less
        except ImportError as error:
            raise ImportError('Writing ONNX needs an extra: `pip install "stacked_autoencoder[onnx]"`.') from error
        # Keras sets this itself when it exports, for tf2onnx under numpy 2; its look for it makes numpy warn.
        vars(np).setdefault("object", object)
    check_writable(folder, "path")
    folder = resolved(folder, "path")
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(model, folder / f"{name}{SUFFIXES[format]}", name, format) for name, model in models.items()]


def _write(model: keras.Model, file: Path, name: str, format: str) -> Path:
    what = "images" if name.startswith("encoder") else "encodings"
    signature = [keras.InputSpec(shape=model.input_shape, dtype="float32", name=what)]
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / file.name
        try:
            model.export(str(made), format=format, verbose=False, input_signature=signature)
            size = made.stat().st_size
            with replacing(file, reserve=size) as stream:
                stream.write(made.read_bytes())
        except (OSError, tf.errors.OpError) as error:
            raise OSError(
                f"{file.name} couldn't be exported: {printable(error)}. Make room there and in the folder of temporary "
                f"files, {tempfile.gettempdir()} (set the environment variable TMPDIR for another), or give another "
                f"`path`. Received: path={str(file.parent)!r}"
            ) from error
    return file
