"""Export of encoder and decoder to runtimes without Keras: ONNX and LiteRT (formerly TensorFlow Lite)."""

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
    """Returns `"onnx"` if its extra is installed, otherwise `"litert"`, which needs no extra."""
    return "litert" if importlib.util.find_spec("tf2onnx") is None else "onnx"


def export_models(models: dict[str, keras.Model], folder: str | os.PathLike[str], format: str = "onnx") -> list[Path]:
    """Exports Functional models with one input, each to a file of its name.

    The batch size stays open, and so do height and width if the model leaves them open. In LiteRT, set them with
    `resize_tensor_input`. The input is named `images` in files whose names begin with `encoder`, and `encodings` in
    others. LiteRT files contain only built-in operations, so they run in interpreters without TensorFlow operations
    (Flex).

    Args:
        models: name of a file without suffix → model.
        folder: folder of the files. Existing files of the same names are replaced.
        format: `"onnx"`, which needs `pip install "stacked_autoencoder[onnx]"`, or `"litert"` (alias `"tflite"`).

    Returns:
        Paths of the files.

    Raises:
        ValueError: `format` is unknown, or lacks operations of a model.
        ImportError: tf2onnx is not installed.
        OSError: the files cannot be written, for example because the disk is full.

        After any of these errors, the folder and its files are unchanged.
    """
    kind = ALIASES.get(format, format)
    if kind not in SUFFIXES:
        raise ValueError(f"`format` must be one of {', '.join([*SUFFIXES, *ALIASES])}. Received: format={format!r}")
    if kind == "onnx" and default_format() != "onnx":
        raise ImportError(
            f'`format="onnx"` needs tf2onnx: `{EXTRA}`. Or use `format="litert"`, which needs no extra. Received: '
            f"format={format!r}"
        )
    check_writable(folder, "path")
    folder = resolved(folder, "path")
    files = {folder / f"{name}{SUFFIXES[kind]}": model for name, model in models.items()}
    convert = _to_onnx if kind == "onnx" else _to_litert
    try:
        # Convert all models before writing the first file, so that the files are replaced together.
        _write({file: convert(model, file) for file, model in files.items()}, folder)
    except (OSError, tf.errors.OpError) as error:
        raise OSError(
            f"{' and '.join(file.name for file in files)} could not be exported: {printable(error)}. Free disk space "
            f"in this folder and in the folder of temporary files, {tempfile.gettempdir()} (the environment variable "
            f"TMPDIR chooses another), or use another `path`. Received: path={str(folder)!r}"
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
    """Returns a layer with the same weights and arguments, except for `changes`."""
    copy = type(layer).from_config(layer.get_config() | changes)
    copy.build_from_config(layer.get_build_config() or {})
    copy.set_weights(layer.get_weights())
    return copy


def _gelu(values: tf.Tensor) -> tf.Tensor:
    return 0.5 * values * (1.0 + tf.math.erf(values * math.sqrt(0.5)))


def _softsign(values: tf.Tensor) -> tf.Tensor:
    return values / (1.0 + tf.abs(values))


# TensorFlow's own functions use operations that are missing from tf2onnx 1.17 (`Erfc`, `Expm1`) or from LiteRT of
# TensorFlow 2.19 (`Softsign`).
EQUIVALENT = {"gelu": _gelu, "celu": keras.activations.elu, "softsign": _softsign}


def _with_supported_activation(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns an equivalent layer whose activation the converters support, or the layer itself."""
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return _copy(layer, activation=EQUIVALENT[name]) if name in EQUIVALENT else layer


# === ONNX ===


def _to_onnx(model: keras.Model, file: Path) -> bytes:
    import onnx  # comes with tf2onnx

    # Keras sets this for tf2onnx under numpy 2, but its check for the attribute makes numpy warn.
    vars(np).setdefault("object", object)
    supported = keras.models.clone_model(model, clone_function=_with_supported_activation, recursive=True)
    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch) / file.name
        supported.export(str(exported), format="onnx", verbose=False, input_signature=_signature(model, file))
        try:
            onnx.checker.check_model(str(exported))  # tf2onnx only logs unsupported operations
        except onnx.checker.ValidationError as error:
            raise ValueError(_unsupported_message(file, "ONNX", "litert", error)) from error
        return exported.read_bytes()


# === LiteRT ===


class NearestUpSampling(keras.layers.Layer):
    """Computes an `UpSampling2D` layer with `"nearest"`.

    The operations of the original layer are built into LiteRT only for images of one known size.

    Input shape:
        `(N, height, width, channels)`.

    Output shape:
        `(N, height * rows, width * columns, channels)`.
    """

    def __init__(self, layer: keras.layers.UpSampling2D) -> None:
        super().__init__(dtype=layer.dtype_policy)
        self.layer = layer

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self.layer.compute_output_shape(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.image.resize(inputs, tf.shape(inputs)[1:3] * self.layer.size, "nearest")


class Recurrent(keras.layers.Layer):
    """Computes an `LSTM` or `GRU` layer with its weights.

    Keras's loop stores steps in tensor lists, which LiteRT does not support. This layer uses another loop. An unrolled
    sequence of 150 steps would take minutes to convert and three times the space.

    Input shape:
        `(N, timesteps, features)`.

    Output shape:
        `(N, units)`, or `(N, timesteps, units)` if the layer returns sequences.
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
        states = self.layer.get_initial_state(count)  # the first state is also the output
        outputs = tf.zeros((count, steps if self.layer.return_sequences else 0, cell.units), self.compute_dtype)

        def step(time: tf.Tensor, states: list[tf.Tensor], outputs: tf.Tensor) -> tuple[Any, ...]:
            _, after = cell(tf.gather(inputs, time, axis=1), states)
            if mask is not None:
                is_step = tf.gather(mask, time, axis=1)[:, None]
                after = [tf.where(is_step, new, old) for new, old in zip(after, states, strict=True)]
            if self.layer.return_sequences:
                outputs = tf.where((tf.range(steps) == time)[:, None], after[0][:, None], outputs)
            return time + 1, list(after), outputs

        _, states, outputs = tf.while_loop(lambda time, *_: time < steps, step, (0, states, outputs))
        return outputs if self.layer.return_sequences else states[0]


def _to_litert(model: keras.Model, file: Path) -> bytes:
    # Converts a SavedModel, because Keras 3.12 cannot export to LiteRT, and later versions allow TensorFlow operations.
    built_in = keras.models.clone_model(model, clone_function=_built_in, recursive=True)
    with tempfile.TemporaryDirectory() as scratch:
        built_in.export(scratch, format="tf_saved_model", verbose=False, input_signature=_signature(model, file))
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return converter.convert()
        except Exception as error:  # the converter's exception class is not public
            missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
            raise ValueError(_unsupported_message(file, "LiteRT", "onnx", ", ".join(missing) or error)) from error


def _built_in(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns an equivalent layer that uses LiteRT's built-in operations, or the layer itself."""
    if isinstance(layer, keras.layers.Layer) and layer.compute_dtype != "float32":
        layer = _copy(layer, dtype="float32")  # few built-in operations support float16
    if isinstance(layer, keras.layers.UpSampling2D) and layer.interpolation == "nearest":
        return NearestUpSampling(layer)
    if isinstance(layer, keras.layers.RNN):
        return Recurrent(layer)
    return _with_supported_activation(layer)


def _unsupported_message(file: Path, runtime: str, other: str, what: object) -> str:
    return (
        f"{file.name} cannot be written, because {file.stem} needs operations that {runtime} lacks. Nothing was "
        f"written. Use `format={other!r}`, or other layers or activations. Received: {printable(what, 500)}"
    )
