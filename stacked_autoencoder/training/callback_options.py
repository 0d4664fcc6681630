"""The argument `callbacks` of `train` and `fine_tune`: the callbacks of each level, checks, and their paths.

All checks run before the first step, since an error in the last level would cost the training of the others.
"""

from __future__ import annotations

import copy
import csv
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from string import Formatter
from typing import Any

import keras

from stacked_autoencoder.optimizers import fixed_rate
from stacked_autoencoder.utils.checks import whole
from stacked_autoencoder.utils.files import replacing

Callback = keras.callbacks.Callback
OneOrMore = Callback | Sequence[Callback] | None
Callbacks = OneOrMore | Mapping[int, OneOrMore] | Callable[[int], OneOrMore]

ALL_LEVELS = "all"  # replaces the level index in joint training
CallbacksOfLevels = Mapping[int | str, Sequence[Callback]]


# === The callbacks of each level ===


def callbacks_of_levels(callbacks: Callbacks, levels: Sequence[int], n_levels: int) -> dict[int | str, list[Callback]]:
    """Returns a dict from the index of each level to train to its callbacks.

    Args:
        callbacks: the argument of `train`.
        levels: indices of the levels to train.
        n_levels: number of levels in the stack, for negative indices.

    Raises:
        ValueError: the argument has the wrong type, or a key is a level that isn't trained.
    """
    if isinstance(callbacks, Mapping):
        return _from_dict(callbacks, levels, n_levels)
    if callable(callbacks) and not isinstance(callbacks, (type, Callback)):
        return {level: _as_list(callbacks(level)) for level in levels}
    return dict.fromkeys(levels, _as_list(callbacks))


def _from_dict(
    callbacks: Mapping[int, OneOrMore], levels: Sequence[int], n_levels: int
) -> dict[int | str, list[Callback]]:
    result = {}
    for key, each in callbacks.items():
        index = whole(key)
        index = index + n_levels if index is not None and index < 0 else index
        if index not in levels:
            raise ValueError(
                "The keys of `callbacks` must be indices of levels that this call trains: "
                f"{', '.join(map(str, levels))} (or negative, from the last of {n_levels} levels). Received: {key!r}"
            )
        if index in result:
            raise ValueError(
                f"Two keys of `callbacks` mean level {index}. Put its callbacks into one list, under one key. "
                f"Received: callbacks with keys {list(callbacks)}"
            )
        result[index] = _as_list(each)
    return {level: result.get(level, []) for level in levels}


def joint_callbacks(callbacks: Callbacks) -> list[Callback]:
    """Returns the callbacks of `fine_tune` as a list.

    Raises:
        ValueError: the argument has the wrong type, or names single levels.
    """
    if isinstance(callbacks, Mapping) or (callable(callbacks) and not isinstance(callbacks, (type, Callback))):
        raise ValueError(
            "`fine_tune` trains all levels jointly, so `callbacks` must be one Keras callback or a list of them. "
            f"Received: callbacks of type {type(callbacks).__name__}"
        )
    return _as_list(callbacks)


def _as_list(callbacks: Any) -> list[Callback]:
    if callbacks is None:
        return []
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    if isinstance(callbacks, (list, tuple)):
        return [callback for each in callbacks for callback in _as_list(each)]
    if not isinstance(callbacks, Callback):
        is_class = isinstance(callbacks, type) and issubclass(callbacks, Callback)
        advice = f" Pass an instance, `{callbacks.__name__}(…)`, instead of the class." if is_class else ""
        raise ValueError(
            "`callbacks` must be a Keras callback, a list of them, a dict `{level index: callbacks}`, or a function "
            f"that takes a level index and returns callbacks.{advice} Received: {callbacks!r}"
        )
    return [callbacks]


# === Callbacks that can't be used ===

SETS_LEARNING_RATE = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)
UNSUPPORTED = {
    "BackupAndRestore": "Use `checkpoint_dir=…` instead: after an interruption, the same call continues from the last "
    "checkpoint.",
    "OrbaxCheckpoint": "Use `checkpoint_dir=…` to continue after an interruption, or `keras.callbacks.ModelCheckpoint` "
    "to save the model of an epoch.",
    "SwapEMAWeights": "Training would keep other weights than those whose validation loss it measures. Remove the "
    "callback: with the default optimizer, the learning rate falls to zero, which has a similar effect.",
}
NEEDS = {"TensorBoard": "tensorboard", "RemoteMonitor": "requests"}  # packages that Keras doesn't import beforehand


def check_callbacks(
    callbacks: CallbacksOfLevels, optimizer: keras.optimizers.Optimizer | None, *, has_validation: bool
) -> None:
    """Checks for Keras callbacks that would fail in training.

    Raises:
        ValueError: a callback can't be used with stacks, with this optimizer, or without validation data.
        ImportError: a callback needs a package that isn't installed.
    """
    for callback in {id(each): each for of_level in callbacks.values() for each in of_level}.values():
        name = type(callback).__name__
        for unsupported, advice in UNSUPPORTED.items():
            if _is_a(callback, unsupported):
                raise ValueError(f"`{unsupported}` can't be used with stacks. {advice} Received: callbacks=[{name}]")
        if isinstance(callback, SETS_LEARNING_RATE) and (optimizer is None or fixed_rate(optimizer) is None):
            raise ValueError(
                f"`{name}` sets the learning rate, which follows a schedule here. Pass an optimizer with a constant "
                "learning rate, such as `optimizer=keras.optimizers.Adam(1e-3)`, and no `learning_rate`. Or remove the "
                "callback: by default, the learning rate warms up and decays to zero along a cosine. "
                f"Received: callbacks=[{name}], optimizer={optimizer!r}"
            )
        for needing, package in NEEDS.items():
            if _is_a(callback, needing) and find_spec(package) is None:
                raise ImportError(
                    f"`keras.callbacks.{needing}` needs the package {package}. Install it with `pip install {package}`."
                    f" Received: callbacks=[{name}]"
                )
        if isinstance(callback, keras.callbacks.ModelCheckpoint) and not has_validation:
            fields = {field for _, field, *_ in Formatter().parse(callback.filepath) if field}
            if measured := sorted(field for field in fields if field.startswith("val_")):
                raise ValueError(
                    f"The path of this `{name}` contains `{measured[0]}`, which exists only with validation data. Pass "
                    f"`validation_data=…`, or remove the field from the path. Received: filepath={callback.filepath!r}"
                )


def _is_a(callback: Callback, name: str) -> bool:
    """Returns whether a callback is an instance of a Keras class, which older versions of Keras may lack."""
    kind = getattr(keras.callbacks, name, None)
    return kind is not None and isinstance(callback, kind)


# === The paths that callbacks write to ===

PATHS = (
    (keras.callbacks.ModelCheckpoint, "filepath"),
    (keras.callbacks.TensorBoard, "log_dir"),
    (keras.callbacks.CSVLogger, "filename"),
)
ENDINGS = (".weights.h5", ".keras", ".h5")  # of the files that a `ModelCheckpoint` writes
LEVEL = re.compile(r"\{level(:[^{}]*)?\}")


def with_separate_paths(callbacks: CallbacksOfLevels) -> dict[int | str, list[Callback]]:
    """Returns callbacks with separate paths for each level, so that no level overwrites the files of another.

    `{level}` in a path is replaced by the level index. If several levels share a path without `{level}`, a
    `ModelCheckpoint` or `TensorBoard` gets one path for each level, and a `CSVLogger` appends to one file. Callbacks
    whose path changes are copied; the user's callbacks don't change.
    """
    used: dict[tuple[type, str], int] = {}  # class and path → number of levels that write there
    for of_level in callbacks.values():
        for target in {(kind, path) for kind, _, path in map(_target, of_level) if kind is not None}:
            used[target] = used.get(target, 0) + 1
    written: set[str] = set()  # CSV files of lower levels
    result = {}
    for level, of_level in callbacks.items():
        result[level] = [_for_level(callback, level, used, written) for callback in of_level]
        written |= {each.filename for each in result[level] if isinstance(each, keras.callbacks.CSVLogger)}
    return result


def _target(callback: Callback) -> tuple[type | None, str, str]:
    """Returns the class that defines the path of a callback, the name of the attribute, and the path."""
    for kind, name in PATHS:
        if isinstance(callback, kind):
            return kind, name, getattr(callback, name)
    return None, "", ""


def _for_level(
    callback: Callback, level: int | str, used: Mapping[tuple[type, str], int], written: Iterable[str]
) -> Callback:
    kind, name, path = _target(callback)
    if kind is None:
        return callback
    is_shared = used[kind, path] > 1
    own = LEVEL.sub(lambda field: field[0].format(level=level), path)
    if kind is keras.callbacks.CSVLogger:
        return _rows_of_level(callback, own, level if is_shared and own == path else None, own in written)
    if is_shared and own == path:
        own = _with_level(path, level)
    elif own == path:
        return callback
    callback = copy.copy(callback)
    setattr(callback, name, own)
    return callback


def _with_level(path: str, level: int | str) -> str:
    """Adds the level to a path: `best.keras` becomes `best_level0.keras`, and `logs` becomes `logs/level0`."""
    for ending in ENDINGS:
        if path.endswith(ending):
            return f"{path.removesuffix(ending)}_level{level}{ending}"
    return os.path.join(path, f"level{level}")


# === The file of a CSVLogger ===


def keep_written_rows(callbacks: Iterable[Callback]) -> None:
    """Makes callbacks append to the files that they wrote before training was interrupted."""
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger):
            callback.append = True


def close_files(callbacks: Iterable[Callback]) -> None:
    """Closes files that Keras leaves open when training ends with an error."""
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger) and callback.csv_file is not None:
            callback.csv_file.close()


def _rows_of_level(
    logger: keras.callbacks.CSVLogger, path: str, level: int | str | None, append: bool
) -> keras.callbacks.CSVLogger:
    """Returns a copy that appends the rows of a level to those of the levels below, with a column `level` if given."""
    logger = copy.copy(logger)
    logger.filename, logger.append = path, append or logger.append
    write = logger.on_epoch_end

    def on_epoch_end(epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        row = logs if level is None else {"level": level, **{name: logs[name] for name in sorted(logs)}}
        if logger.writer is None:  # the first row
            _set_columns(logger, row, is_free=level is None)
        write(epoch, row)

    logger.on_epoch_end = on_epoch_end
    return logger


def _set_columns(logger: keras.callbacks.CSVLogger, row: Mapping[str, Any], *, is_free: bool) -> None:
    """Gives old and new rows of the file the same columns, since levels can have losses with different terms.

    Args:
        logger: the callback.
        row: the first new row.
        is_free: whether Keras may choose the columns of an empty file.
    """
    file = Path(logger.filename)
    if not file.is_file():  # on a remote file system
        return
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream, delimiter=logger.sep)
        old_columns, rows = list(reader.fieldnames or ()), list(reader)
    logger.append_header = not old_columns
    if old_columns[:1] not in ([], ["epoch"]) or (is_free and not old_columns):
        return
    columns = [*(old_columns or ["epoch"]), *(name for name in row if name not in old_columns)]
    if old_columns and columns != old_columns:
        text = StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="NA", delimiter=logger.sep)
        writer.writeheader()
        writer.writerows(rows)
        with replacing(file) as stream:
            stream.write(text.getvalue().encode())
        keras.callbacks.CSVLogger.on_train_begin(logger)  # reopens the file, which was replaced
    logger.keys = columns[1:]
