"""Encoder and decoder for runtimes without Keras: ONNX and LiteRT (formerly TensorFlow Lite)."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import check_writable, make_folders, remove_if_empty, replacing, resolved

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}
ALIASES = {"tflite": "litert"}
EXTRA = 'pip install "stacked_autoencoder[onnx]"'


def default_format() -> str:
    """`"onnx"` where its extra is installed, otherwise `"litert"`, which needs none."""
    return "litert" if importlib.util.find_spec("tf2onnx") is None else "onnx"


def export_models(models: dict[str, keras.Model], folder: str | os.PathLike[str], format: str = "onnx") -> list[Path]:
    """Writes Functional models of one input, each to a file of its name.

    The number of images is open, and so are the sides that the model leaves open; LiteRT's interpreter is told with
    `resize_tensor_input`. Inputs are called `images` for a model named `encoder`, `encodings` for others. LiteRT files
    contain built-in operations only, so that they run in an interpreter without TensorFlow's own (Flex).

    Args:
        models: name of a file → model.
        folder: for the files; those that are there are replaced.
        format: `"onnx"`, which needs the extra `onnx`, or `"litert"`, also named `"tflite"`, which needs nothing more.

    Returns:
        Paths of the files.

    Raises:
        ValueError: `format` is another one, or lacks operations for a model.
        ImportError: what writes ONNX isn't installed.
        OSError: the files can't be written, such as on a full disk.

        After any of these, the folder and the files in it are as they were.
    """
    kind = ALIASES.get(format, format)
    if kind not in SUFFIXES:
        raise ValueError(f"`format` must be one of {', '.join([*SUFFIXES, *ALIASES])}. Received: format={format!r}")
    if kind == "onnx" and default_format() != "onnx":
        raise ImportError(f'Writing ONNX needs tf2onnx: `{EXTRA}`. `format="litert"` needs no extra.')
    check_writable(folder, "path")
    folder = resolved(folder, "path")
    files = {folder / f"{name}{SUFFIXES[kind]}": model for name, model in models.items()}
    convert = _to_onnx if kind == "onnx" else _to_litert
    try:
        # All are converted before the first is written, so that files that belong together are replaced together.
        _write({file: convert(model, file) for file, model in files.items()}, folder)
    except (OSError, tf.errors.OpError) as error:
        raise OSError(
            f"{' and '.join(file.name for file in files)} couldn't be exported: {printable(error)}. Make room there "
            f"and in the folder of temporary files, {tempfile.gettempdir()} (set the environment variable TMPDIR for "
            f"another), or give another `path`. Received: path={str(folder)!r}"
        ) from error
    return list(files)


def _write(contents: dict[Path, bytes], folder: Path) -> None:
    new = make_folders(folder)
    try:
        with ExitStack() as replaced:
            for file, content in contents.items():
                replaced.enter_context(replacing(file, reserve=len(content))).write(content)
    except BaseException:
        for each in reversed(new):
            remove_if_empty(each)
        raise


def _signature(model: keras.Model, file: Path) -> list[keras.InputSpec]:
    name = "images" if file.name.startswith("encoder") else "encodings"
    return [keras.InputSpec(shape=model.input_shape, dtype="float32", name=name)]


# === Layers ===


def _copy(layer: keras.layers.Layer, **changes: Any) -> keras.layers.Layer:
    """A layer of the same weights and arguments, but for those given."""
    copy = type(layer).from_config(layer.get_config() | changes)
    copy.build_from_config(layer.get_build_config() or {})
    copy.set_weights(layer.get_weights())
    return copy


def _gelu(values: tf.Tensor) -> tf.Tensor:
    return 0.5 * values * (1.0 + tf.math.erf(values * math.sqrt(0.5)))


def _softsign(values: tf.Tensor) -> tf.Tensor:
    return values / (1.0 + tf.abs(values))


# TensorFlow's own become operations that tf2onnx 1.17 (`Erfc`, `Expm1`) or LiteRT of TensorFlow 2.19 (`Softsign`) lack.
SAME = {"gelu": _gelu, "celu": keras.activations.elu, "softsign": _softsign}


def _known_activation(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A layer that computes the same by an activation that the converters know, or the layer itself."""
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return _copy(layer, activation=SAME[name]) if name in SAME else layer


# === ONNX ===


def _to_onnx(model: keras.Model, file: Path) -> bytes:
    import onnx  # comes with tf2onnx

    # Keras sets this itself when it exports, for tf2onnx under numpy 2; its look for it makes numpy warn.
    vars(np).setdefault("object", object)
    known = keras.models.clone_model(model, clone_function=_known_activation, recursive=True)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / file.name
        known.export(str(made), format="onnx", verbose=False, input_signature=_signature(model, file))
        try:
            onnx.checker.check_model(str(made))  # tf2onnx only logs what it doesn't know
        except onnx.checker.ValidationError as error:
            raise ValueError(_refusal(file, "ONNX", "litert", error)) from error
        return made.read_bytes()


# === LiteRT ===


class NearestUpSampling(keras.layers.Layer):
    """Computes an `UpSampling2D` by `"nearest"`, whose own operations are built-in only for images of one known size.

    Input shape:
        `(N, H, W, C)`.

    Output shape:
        `(N, H * rows, W * columns, C)`.
    """

    def __init__(self, layer: keras.layers.UpSampling2D) -> None:
        super().__init__(dtype=layer.dtype_policy)
        self.layer = layer

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self.layer.compute_output_shape(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.image.resize(inputs, tf.shape(inputs)[1:3] * self.layer.size, "nearest")


class Recurrent(keras.layers.Layer):
    """Computes an `LSTM` or a `GRU` with its weights; Keras's loop keeps steps in lists, which LiteRT lacks.

    A loop, too: unrolled, a sequence of 150 steps takes minutes to convert, and three times the space.

    Input shape:
        `(N, timesteps, features)`.

    Output shape:
        `(N, units)`, or `(N, timesteps, units)`, as of the layer.
    """

    def __init__(self, layer: keras.layers.RNN) -> None:
        super().__init__(dtype=layer.dtype_policy)
        self.layer = layer
        self.supports_masking = True
        self.built = True

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs: keras.KerasTensor, mask: keras.KerasTensor | None) -> keras.KerasTensor | None:
        return self.layer.compute_mask(inputs, mask)

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        cell, count, steps = self.layer.cell, tf.shape(inputs)[0], inputs.shape[1]
        states = self.layer.get_initial_state(count)  # the first of them is also the output
        outputs = tf.zeros((count, steps if self.layer.return_sequences else 0, cell.units), self.compute_dtype)

        def step(time: tf.Tensor, states: list[tf.Tensor], outputs: tf.Tensor) -> tuple[Any, ...]:
            _, after = cell(tf.gather(inputs, time, axis=1), states)
            if mask is not None:
                is_seen = tf.gather(mask, time, axis=1)[:, None]
                after = [tf.where(is_seen, new, old) for new, old in zip(after, states, strict=True)]
            if self.layer.return_sequences:
                outputs = tf.where((tf.range(steps) == time)[:, None], after[0][:, None], outputs)
            return time + 1, list(after), outputs

        _, states, outputs = tf.while_loop(lambda time, *_: time < steps, step, (0, states, outputs))
        return outputs if self.layer.return_sequences else states[0]


def _to_litert(model: keras.Model, file: Path) -> bytes:
    # By way of a SavedModel: Keras 3.12 doesn't export to LiteRT, and later ones let TensorFlow's operations in.
    built_in = keras.models.clone_model(model, clone_function=_built_in, recursive=True)
    with tempfile.TemporaryDirectory() as scratch:
        built_in.export(scratch, format="tf_saved_model", verbose=False, input_signature=_signature(model, file))
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return converter.convert()
        except Exception as error:  # the class that the converter raises isn't public
            lacking = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
            raise ValueError(_refusal(file, "LiteRT", "onnx", ", ".join(lacking) or error)) from error


def _built_in(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A layer that computes the same by LiteRT's built-in operations, or the layer itself."""
    if isinstance(layer, keras.layers.Layer) and layer.compute_dtype != "float32":
        layer = _copy(layer, dtype="float32")  # few of them take float16
    if isinstance(layer, keras.layers.UpSampling2D) and layer.interpolation == "nearest":
        return NearestUpSampling(layer)
    if isinstance(layer, keras.layers.RNN):
        return Recurrent(layer)
    return _known_activation(layer)


def _refusal(file: Path, runtime: str, other: str, what: object) -> str:
    return (
        f"{file.name} can't be written, and nothing was: {file.stem} needs operations that {runtime} lacks. Use "
        f"`format={other!r}`, or other layers or activations. Received: {printable(what, 500)}"
    )
