"""The argument `callbacks` of `train` and `fine_tune`: for which level each is, what is refused, and where each writes.

Errors are raised before the first step: a callback that fails in the last level would cost the training of all others.
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

ALL_LEVELS = "all"  # in place of a level's index where all are trained jointly
CallbacksOfLevels = Mapping[int | str, Sequence[Callback]]


# === Which callbacks are for which level ===


def callbacks_of_levels(callbacks: Callbacks, levels: Sequence[int], n_levels: int) -> dict[int | str, list[Callback]]:
    """Index of a level to train → its callbacks.

    Args:
        callbacks: as `train` takes them.
        levels: indices of the levels to train.
        n_levels: of the stack, from whose end negative indices count.

    Raises:
        ValueError: these aren't callbacks, or are for a level that isn't trained.
    """
    if isinstance(callbacks, Mapping):
        return _of_mapping(callbacks, levels, n_levels)
    if callable(callbacks) and not isinstance(callbacks, (type, Callback)):
        return {level: _as_list(callbacks(level)) for level in levels}
    return dict.fromkeys(levels, _as_list(callbacks))


def _of_mapping(
    callbacks: Mapping[int, OneOrMore], levels: Sequence[int], n_levels: int
) -> dict[int | str, list[Callback]]:
    given = {}
    for key, each in callbacks.items():
        index = whole(key)
        index = index + n_levels if index is not None and index < 0 else index
        if index not in levels:
            raise ValueError(
                "The keys of `callbacks` are indices of levels that this call trains: "
                f"{', '.join(map(str, levels))} (or negative, from the last of {n_levels}). Received: {key!r}"
            )
        if index in given:
            raise ValueError(
                f"Two keys of `callbacks` are for level {index}: put its callbacks into one list. "
                f"Received: {list(callbacks)}"
            )
        given[index] = _as_list(each)
    return {level: given.get(level, []) for level in levels}


def joint_callbacks(callbacks: Callbacks) -> list[Callback]:
    """The callbacks of a training of all levels at once.

    Raises:
        ValueError: these aren't callbacks, or are for single levels.
    """
    if isinstance(callbacks, Mapping) or (callable(callbacks) and not isinstance(callbacks, (type, Callback))):
        raise ValueError(
            "`fine_tune` trains all levels at once, so `callbacks` must be one Keras callback or a list of them. "
            f"Received: {type(callbacks).__name__}"
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
        made = isinstance(callbacks, type) and issubclass(callbacks, Callback)
        advice = f": call the class, `{callbacks.__name__}(…)`" if made else ""
        raise ValueError(
            "`callbacks` must be a Keras callback, a list of them, a dict `{level: callbacks}` or a function of the "
            f"level that returns its callbacks{advice}. Received: {callbacks!r}"
        )
    return [callbacks]


# === What is refused ===

SETS_THE_RATE = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)
NO_PLACE = {
    "BackupAndRestore": "Use `checkpoint_dir=…` instead: after a kill, the same call then continues in the level and "
    "the epoch where it was.",
    "OrbaxCheckpoint": "Use `checkpoint_dir=…` to go on after a kill, or `keras.callbacks.ModelCheckpoint` to keep the "
    "model of an epoch.",
    "SwapEMAWeights": "The weights that training keeps would not be those whose validation loss it measures. Leave it "
    "out: with the default optimizer the learning rate falls to zero, which averages over the last steps as well.",
}
NEEDS = {"TensorBoard": "tensorboard", "RemoteMonitor": "requests"}  # packages that Keras imports late or not at all


def check_callbacks(
    callbacks: CallbacksOfLevels, optimizer: keras.optimizers.Optimizer | None, *, has_validation: bool
) -> None:
    """Raises `ValueError` or `ImportError` for callbacks of Keras's that would fail in training."""
    for callback in {id(each): each for of_level in callbacks.values() for each in of_level}.values():
        name = type(callback).__name__
        for refused, advice in NO_PLACE.items():
            if _is_a(callback, refused):
                raise ValueError(f"`{refused}` can't be used with stacks. {advice} Received: callbacks=[{name}]")
        if isinstance(callback, SETS_THE_RATE) and (optimizer is None or fixed_rate(optimizer) is None):
            raise ValueError(
                f"`{name}` sets the learning rate, which follows a schedule here. Give an optimizer with a number as "
                "its learning rate, such as `optimizer=keras.optimizers.Adam(1e-3)`, and leave `learning_rate` out; or "
                "leave the callback out: by default the rate warms up and falls to zero by a cosine. "
                f"Received: callbacks=[{name}], optimizer={optimizer!r}"
            )
        for needing, package in NEEDS.items():
            if _is_a(callback, needing) and find_spec(package) is None:
                raise ImportError(
                    f"`keras.callbacks.{needing}` needs the package {package}: `pip install {package}`. "
                    f"Received: callbacks=[{name}]"
                )
        if isinstance(callback, keras.callbacks.ModelCheckpoint) and not has_validation:
            fields = {field for _, field, *_ in Formatter().parse(callback.filepath) if field}
            if measured := sorted(field for field in fields if field.startswith("val_")):
                raise ValueError(
                    f"The path of this `{name}` needs `{measured[0]}`, which only validation data give: pass "
                    f"`validation_data=…`, or leave it out of the path. Received: filepath={callback.filepath!r}"
                )


def _is_a(callback: Callback, name: str) -> bool:
    """Whether it is of this class of Keras's, which this version of Keras may not have."""
    kind = getattr(keras.callbacks, name, None)
    return kind is not None and isinstance(callback, kind)


# === Where callbacks write ===

PATHS = (
    (keras.callbacks.ModelCheckpoint, "filepath"),
    (keras.callbacks.TensorBoard, "log_dir"),
    (keras.callbacks.CSVLogger, "filename"),
)
ENDINGS = (".weights.h5", ".keras", ".h5")  # of what a `ModelCheckpoint` writes
LEVEL = re.compile(r"\{level(:[^{}]*)?\}")


def writing_apart(callbacks: CallbacksOfLevels) -> dict[int | str, list[Callback]]:
    """Callbacks of which none overwrites what one of another level has written.

    `{level}` in a path becomes the level. Where a path without it is that of several levels, a `ModelCheckpoint` or
    `TensorBoard` gets one for each level, and a `CSVLogger` continues its one file. Callbacks that write elsewhere are
    copies: the user's own stay as they are.
    """
    used: dict[tuple[type, str], int] = {}  # class and path → how many levels write there
    for of_level in callbacks.values():
        for place in {(kind, path) for kind, _, path in map(_place, of_level) if kind is not None}:
            used[place] = used.get(place, 0) + 1
    written: set[str] = set()  # files of `CSVLogger`s in lower levels
    result = {}
    for level, of_level in callbacks.items():
        result[level] = [_for_level(callback, level, used, written) for callback in of_level]
        written |= {each.filename for each in result[level] if isinstance(each, keras.callbacks.CSVLogger)}
    return result


def _place(callback: Callback) -> tuple[type | None, str, str]:
    """The class that says where a callback writes, the attribute, and its value."""
    for kind, name in PATHS:
        if isinstance(callback, kind):
            return kind, name, getattr(callback, name)
    return None, "", ""


def _for_level(
    callback: Callback, level: int | str, used: Mapping[tuple[type, str], int], written: Iterable[str]
) -> Callback:
    kind, name, path = _place(callback)
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
    """`best.keras` → `best_level0.keras`, and a folder → a folder in it."""
    for ending in ENDINGS:
        if path.endswith(ending):
            return f"{path.removesuffix(ending)}_level{level}{ending}"
    return os.path.join(path, f"level{level}")


# === The one file of a CSVLogger ===


def go_on_writing(callbacks: Iterable[Callback]) -> None:
    """Makes callbacks of a resumed training keep what they wrote before the kill."""
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger):
            callback.append = True


def close_files(callbacks: Iterable[Callback]) -> None:
    """Closes what Keras leaves open where training ends with an error."""
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger) and callback.csv_file is not None:
            callback.csv_file.close()


def _rows_of_level(
    logger: keras.callbacks.CSVLogger, path: str, level: int | str | None, append: bool
) -> keras.callbacks.CSVLogger:
    """A copy that writes the rows of a level, after those of the levels below; `level` is a column unless `None`."""
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
    """Gives the rows that are in the file and those to come the same columns: the losses of levels have other terms.

    Args:
        is_free: whether Keras may choose the columns of a file that has none yet.
    """
    file = Path(logger.filename)
    if not file.is_file():  # on a remote file system
        return
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream, delimiter=logger.sep)
        before, rows = list(reader.fieldnames or ()), list(reader)
    logger.append_header = not before
    if before[:1] not in ([], ["epoch"]) or (is_free and not before):
        return
    columns = [*(before or ["epoch"]), *(name for name in row if name not in before)]
    if before and columns != before:
        text = StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="NA", delimiter=logger.sep)
        writer.writeheader()
        writer.writerows(rows)
        with replacing(file) as stream:
            stream.write(text.getvalue().encode())
        keras.callbacks.CSVLogger.on_train_begin(logger)  # the file that it has open isn't this one any more
    logger.keys = columns[1:]
