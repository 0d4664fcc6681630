"""Creation of levels from the description in a saved stack, which may be untrusted.

Levels are created from the few arguments of their classes, never from Keras's `config.json`. Before memory is allocated
for weights, the stack is built without them, and its shapes must match those in the files.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stacked_autoencoder.levels.base import Level
from stacked_autoencoder.levels.objective import KNOWN
from stacked_autoencoder.levels.stack import KINDS, Stack
from stacked_autoencoder.pca import LinearCode
from stacked_autoencoder.saving.arrays import WEIGHTS, read_arrays, read_weights, shapes_in
from stacked_autoencoder.saving.manifest import SavedStack, folder_at, identity, read, snapshot
from stacked_autoencoder.utils.errors import LoadError, printable
from stacked_autoencoder.utils.images import Shape, padded_shape, widened

LINEAR = tuple(field.name for field in dataclasses.fields(LinearCode))  # arrays of a PCA
LARGEST = 1 << 31  # largest number in the description of a level
MOST_ATTEMPTS = 20  # attempts to load a stack while other processes save to its folder
MOST_HALVINGS = 24


def load_stack(path: str | os.PathLike[str], trusted: bool = False) -> Stack:
    """Loads the stack that `save_stack` wrote. Tries again if another process saves or moves files at the same time.

    Args:
        path: folder of the stack.
        trusted: as in `Autoencoder.load`.

    Raises:
        FileNotFoundError: there is no saved stack, or a part of it is missing.
        LoadError: the folder does not contain a saved stack, or its files differ from what was saved.
    """
    path = folder_at(path)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        before = snapshot(path)
        try:
            stack = _read_stack(path, trusted)
        except (LoadError, FileNotFoundError):
            # The error is final unless another process saved or moved files during the attempt.
            if attempt == MOST_ATTEMPTS or snapshot(path) == before:
                raise
        else:
            if identity(path) == before.manifest:
                return stack
    raise LoadError(
        f"Other processes saved to this folder during each of {MOST_ATTEMPTS} attempts to load it. Load it after they "
        f"have finished. Received: {printable(repr(str(path)))}"
    )


def _read_stack(path: Path, trusted: bool) -> Stack:
    saved = read(path, trusted=trusted)
    manifest = saved.manifest
    try:
        is_given = manifest.get("value_range_is_given", False)
        value_range = manifest["value_range"] if is_given else None
        missing = manifest.get("missing", "error")
        stack = Stack(tuple(manifest["shape"]), manifest["check_range"], value_range, missing)
    except ValueError as error:
        raise LoadError(f"{error} Received: {str(path)!r}") from None
    if manifest["levels"][0]["started"]:
        stack.values = stack.values.found(widened(*manifest["value_range"]))
    fill(stack, saved, trusted)
    return stack


def fill(stack: Stack, saved: SavedStack, trusted: bool) -> None:
    """Adds the saved levels to an empty stack of the same shape.

    Args:
        stack: stack without levels.
        saved: the saved stack.
        trusted: whether losses, penalties and corruption may be objects that the program has registered with Keras.

    Raises:
        LoadError: levels are impossible, or differ from those in the files.
    """
    manifest = saved.manifest
    try:
        unknown = [each["kind"] for each in manifest["levels"] if each["kind"] not in KINDS]
        if unknown:
            raise LoadError(
                f"The stack has a level of the kind {unknown[0]!r}, but this version of stacked_autoencoder supports "
                f"{', '.join(KINDS)}. Upgrade with `pip install --upgrade stacked_autoencoder`."
            )
        if not trusted:
            for description in manifest["levels"]:
                check_known(description["config"])
        shapes = _shapes_on_disk(saved)
        with ThreadPoolExecutor(1) as executor:  # Keras keeps its state for this per thread
            executor.submit(_check_shapes, stack.shape, manifest["levels"], shapes).result()
        for level in _levels(manifest["levels"]):
            stack.add(level)
        for index, (level, description) in enumerate(zip(stack.levels, manifest["levels"], strict=True)):
            for name, model in level.models().items():
                read_weights(saved.file(f"{name}{index}/{WEIGHTS}"), model)
            _set_state(level, description)
            if f"training{index}.npz" in manifest["files"]:
                names = [f"weight{number}" for number in range(len(level.get_training_weights()))]
                weights = read_arrays(saved.file(f"training{index}.npz"), names)
                level.set_training_weights([weights[name] for name in names])
            if f"linear{index}.npz" in manifest["files"]:
                level.linear_code = _linear_code(read_arrays(saved.file(f"linear{index}.npz"), LINEAR))
    except LoadError as error:
        received = "" if "Received:" in str(error) else f" Received: {str(saved.path)!r}"
        raise LoadError(f"{error}{received}") from error.__cause__
    except Exception as error:  # arguments that a level or Keras rejects
        raise LoadError(
            f"The levels that autoencoder.json describes cannot be created: {error} The file was edited or is not from "
            f"`save`. Copy the folder again. Received: {str(saved.path)!r}"
        ) from error


def _levels(descriptions: Sequence[Mapping[str, Any]]) -> list[Level]:
    return [KINDS[description["kind"]](**description["config"]) for description in descriptions]


def _shapes_on_disk(saved: SavedStack) -> dict[str, list[tuple[int, ...]]]:
    """Returns the shapes of the weights of each model, by the name of the model."""
    shapes = {}
    for index in range(len(saved.manifest["levels"])):
        for name in (f"encoder{index}", f"decoder{index}", f"predictor{index}"):
            if f"{name}/{WEIGHTS}" in saved.manifest["files"]:
                shapes[name] = shapes_in(saved.file(f"{name}/{WEIGHTS}"))
            elif not name.startswith("predictor"):
                raise LoadError(
                    f"{name}/{WEIGHTS} is not among the files that autoencoder.json lists. Copy the folder again."
                )
    return shapes


def _check_shapes(
    shape: Shape, descriptions: Sequence[Mapping[str, Any]], on_disk: Mapping[str, list[tuple[int, ...]]]
) -> None:
    """Builds the stack without memory for weights, and checks that its shapes are those on disk.

    Raises:
        LoadError: they differ, so that building the stack might take any amount of time or memory.
    """
    most = max(map(len, on_disk.values()))
    for description in descriptions:
        _check_numbers(description["config"], most)
    levels = _levels(descriptions)
    # Pad for all levels at once: adding a level must not rebuild a lower level with its weights.
    stack = Stack(padded_shape(shape, math.prod(level.factor for level in levels)))
    with keras.StatelessScope(initialize_variables=False):
        for index, level in enumerate(levels):
            input_shape = stack.shape if index == 0 else levels[index - 1].encoding_shape
            sizes = {size for each in on_disk[f"decoder{index}"] for size in each}
            if not sizes.issuperset(level.sizes(input_shape)):
                raise LoadError(
                    f"The weights of decoder{index} do not belong to a {type(level).__name__} for inputs "
                    f"{input_shape}. Copy the folder again."
                )
            stack.add(level)
        for index, level in enumerate(levels):
            for name, model in level.models().items():
                expected = sorted(tuple(weight.shape) for weight in model.weights)
                if expected != sorted(on_disk.get(f"{name}{index}", [])):
                    raise LoadError(
                        f"The weights of {name}{index} do not belong to the level that autoencoder.json describes: one "
                        "of the two files was changed. Copy the folder again."
                    )


def _check_numbers(config: Mapping[str, Any], most: int) -> None:
    """Checks the numbers of a level's description before the level is built.

    Args:
        config: arguments of the level.
        most: largest number of weight arrays in one file. Every layer has at least one.
    """
    limits = {"depth": most, "n_scalings": MOST_HALVINGS}
    for name, value in config.items():
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) > most or any(isinstance(each, int) and each > limits.get(name, LARGEST) for each in numbers):
            raise LoadError(
                f"`{name}` in autoencoder.json is too large for a level with these weights. Copy the folder again."
            )


def _set_state(level: Level, description: Mapping[str, Any]) -> None:
    level.set_state(description)
    channels = level.encoding_shape[-1]
    for values in (level.mean, level.std):
        if values is not None and (values.shape != (channels,) or not np.isfinite(values).all()):
            raise LoadError(f"`mean` and `std` must be {channels} finite numbers each.")
    fill, channels = level.fill_values, level.input_shape[-1]
    if fill is not None and (fill.shape != (channels,) or not np.isfinite(fill).all()):
        raise LoadError(f"`fill_values` must be {channels} finite numbers.")
    if level.std is not None:
        level.std[level.std == 0] = 1.0  # version 0.1 wrote 0 for channels that never change


def _linear_code(arrays: Mapping[str, np.ndarray]) -> LinearCode:
    code = LinearCode(**arrays)
    patch, n = code.components.shape
    if code.mean.shape != (patch,) or code.variances.shape != (n,) or np.shape(code.residual) != ():
        raise LoadError("The shapes of mean, components and variances of the PCA do not match.")
    return code


def check_known(config: Mapping[str, Any]) -> None:
    """Checks that a file names only losses, penalties and corruption of Keras or of this package.

    Raises:
        LoadError: it names something else, which might be harmful.
    """
    for argument, known in KNOWN.items():
        value = config.get(argument)
        name = value.get("name") if isinstance(value, Mapping) else value
        if name is not None and name not in known:
            raise LoadError(
                f"`{argument}` is {name!r}, which belongs neither to Keras nor to this package. If it is your own and "
                "you trust the folder, register it with Keras and call `Autoencoder.load(…, trusted=True)`."
            )
