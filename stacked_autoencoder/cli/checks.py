"""Checks of a command's arguments that need no TensorFlow, so that a mistake is reported at once.

An invalid combination of arguments ends the command with argparse's exit code, 2. A missing file or folder is an error
with exit code 1.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from stacked_autoencoder.saving.manifest import MANIFEST, folder_at, read_manifest

ARCHITECTURE = (
    *("size", "preset", "n_out", "n_scalings", "n_levels", "latent_dim", "nested"),
    *("grey", "value_range", "missing"),
)


def check(arguments: Namespace) -> None:
    """Checks the arguments of a command, and the folders that it is going to read and write.

    Raises:
        ValueError: the arguments contradict the files on the disk.
        OSError: a file or folder is missing or can't be read.
        SystemExit: the arguments contradict each other.
    """
    given = vars(arguments)
    if arguments.command == "train":
        _check_training(arguments)
    for name, what in (("folder", "Folder of pictures"), ("valid", "--valid: folder of pictures")):
        if given.get(name) is not None:
            _check_folder(given[name], what)
    if "model" in given and not (arguments.command == "info" and is_store(arguments.model)):
        n_levels = _n_levels(arguments.model, "Folder of a saved stack")
        level = given.get("level")
        if level is not None and not -n_levels <= level < n_levels:
            arguments.refuse(
                f"argument --level: expected a level index from 0 to {n_levels - 1} (or -1 for the last level) of the "
                f"stack in {str(arguments.model)!r}, received '{level}'"
            )
    if arguments.command == "encode" and arguments.store.exists():
        _check_folder(arguments.store, "Store of encodings")
    if arguments.command == "decode":
        _check_folder(arguments.store, "Store of encodings")
    if arguments.command == "anomalies" and arguments.action == "fit":
        _check_new(arguments.detector)
    if arguments.command == "anomalies" and arguments.action == "score":
        _check_folder(arguments.detector, "Folder of a saved detector")
        _check_new(arguments.out)
    if arguments.command == "generate" and not arguments.head.exists():
        raise FileNotFoundError(f"File of a saved head {str(arguments.head)!r} does not exist.")
    if arguments.command in ("decode", "reconstruct", "generate", "demo"):
        _check_new(arguments.out)


def _check_training(arguments: Namespace) -> None:
    path = arguments.save_path
    if arguments.go_on:
        given = [f"--{name.replace('_', '-')}" for name in ARCHITECTURE if getattr(arguments, name) is not None]
        if given:
            arguments.refuse(
                f"argument --continue: not allowed with {', '.join(given)}, since the stack in --save-path keeps its "
                "architecture"
            )
        if not (folder_at(path) / MANIFEST).exists():
            raise FileNotFoundError(
                f"--continue: no saved stack in --save-path {str(path)!r}. To train a new stack there, leave out "
                "--continue. To train a saved stack further, set --save-path to its folder."
            )
        n_levels = _n_levels(path, "--save-path: folder of a saved stack")
    else:
        if (path / MANIFEST).exists() and not arguments.overwrite:
            raise FileExistsError(
                f"--save-path {str(path)!r} already contains a stack. Use --continue to train it further, or "
                "--overwrite to replace it."
            )
        if arguments.latent_dim is not None and arguments.side is None and arguments.crop is None:
            arguments.refuse("argument --latent-dim: requires --side or --crop, since it needs pictures of one size")
        n_levels = 1 if arguments.n_levels is None else arguments.n_levels
        _check_square(arguments, n_levels)
    if len(arguments.epochs) not in (1, n_levels):
        arguments.refuse(
            f"argument --epochs: expected one number, or one for each level of the stack ({n_levels}), received "
            f"'{','.join(map(str, arguments.epochs))}'"
        )


def _check_square(arguments: Namespace, n_levels: int) -> None:
    """Refuses pictures that are smaller than the factor of a new stack."""
    n_scalings = 2 if arguments.n_scalings is None else arguments.n_scalings
    if arguments.latent_dim is not None:
        n_levels = max(1, n_levels - 1)  # the last of several levels then takes inputs of any size
    factor = 2 ** (n_scalings * n_levels)
    for name in ("side", "crop"):
        square = getattr(arguments, name)
        if square is not None and square < factor:
            arguments.refuse(
                f"argument --{name}: expected at least {factor}, by which this stack divides height and width "
                f"(2 to the power of --n-scalings {n_scalings}, for each of {n_levels} levels), received '{square}'"
            )


def _n_levels(path: Path, what: str) -> int:
    """Returns the number of levels of a saved stack. `Autoencoder.load` checks its files later."""
    folder = folder_at(path)
    _check_folder(path if folder.name == path.name else folder, what)
    if not (folder / MANIFEST).exists():
        raise FileNotFoundError(
            f"{what} {str(path)!r} contains no {MANIFEST}, so `train` did not save it, or it was copied incompletely."
        )
    return len(read_manifest(folder)["levels"])


def is_store(path: Path) -> bool:
    """Whether a folder looks like a store of encodings. `store.manifest` would tell for sure, but imports numpy."""
    return not (path / MANIFEST).exists() and ((path / "manifest.json").exists() or any(path.glob("part*-of-*")))


def _check_folder(path: Path, what: str) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{what} {str(path)!r} does not exist.")
    if not path.is_dir():
        raise NotADirectoryError(f"{what} {str(path)!r} is a file. Name a folder.")


def _check_new(path: Path) -> None:
    """Refuses a folder in which files could be overwritten."""
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"Output folder {str(path)!r} is a file. Choose a new folder.")
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(
            f"Output folder {str(path)!r} is not empty, and existing files are never overwritten. Choose a new folder."
        )
