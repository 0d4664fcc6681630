"""The command `train`: trains a stack on a folder of pictures."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import keras

from stacked_autoencoder.autoencoder import Autoencoder
from stacked_autoencoder.cli.checks import ARCHITECTURE
from stacked_autoencoder.cli.common import Result, Say, pictures_of, shows_progress
from stacked_autoencoder.inference.evaluation import table


def train(arguments: Namespace, say: Say) -> Result:
    keras.utils.set_random_seed(arguments.seed)
    sae = _stack_to_train(arguments)
    if arguments.valid_split is None:
        images = pictures_of(arguments.folder, arguments, sae)
        valid = None if arguments.valid is None else pictures_of(arguments.valid, arguments, sae)
    else:
        images, valid = (pictures_of(arguments.folder, arguments, sae, subset) for subset in ("training", "validation"))
    sae.summary(say)
    options = {
        "validation_data": valid,
        "batch_size": arguments.batch_size,
        "checkpoint_dir": arguments.checkpoint_dir,
        "verbose": 0 if not shows_progress(arguments) else 1 if sys.stdout.isatty() else 2,
    }
    epochs, rate = arguments.epochs, arguments.learning_rate
    began, last = time.perf_counter(), len(sae.levels) - 1
    before = sae.stack.fingerprint(last)
    try:
        histories = sae.train(images, epochs[0] if len(epochs) == 1 else epochs, learning_rate=rate, **options)
        if arguments.fine_tune:
            rate = None if rate is None else rate / 5  # as the defaults of `train` and `fine_tune`
            histories.append(sae.fine_tune(images, arguments.fine_tune, learning_rate=rate, **options))
    except BaseException as error:  # keep what has been trained, which may have taken hours
        if arguments.checkpoint_dir is not None:
            error.add_note("Run the same command again to resume from the last checkpoint.")
        elif sae.stack.fingerprint(last) != before:
            path = _save_somewhere(sae)
            path = sae.save_path if path == sae.save_path.resolve() else path
            error.add_note(f"The best weights so far are saved in {path}. Use --continue to train them further.")
        raise
    path = _save_somewhere(sae)
    if path != sae.save_path.resolve():
        raise OSError(
            f"The stack couldn't be saved to --save-path {sae.save_path}, so it was saved to {path}. Move that folder "
            "where you want it."
        )
    result = {
        "model": str(path),
        "seconds": time.perf_counter() - began,
        "histories": [{"start_loss": history.start_loss, **history.history} for history in histories],
    }
    if valid is not None:
        result["budget"] = sae.evaluate(valid, return_dict=True)
        say("\n" + "\n".join(table(result["budget"])))
    say(f"\nSaved to {path}, after {result['seconds']:.0f} s.")
    return result


def _save_somewhere(sae: Autoencoder) -> Path:
    """Saves to `--save-path`, or else to another folder, since training may have taken hours.

    Raises:
        OSError: the stack can't be saved anywhere.
    """
    try:
        return sae.save()
    except OSError as error:
        reason = error
    for folder in (sae.save_path.parent, Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
        try:
            folder = Path(tempfile.mkdtemp(prefix="stacked-autoencoder-", dir=folder))
        except OSError:
            continue
        try:
            return sae.save(folder / "model")
        except OSError:
            with suppress(OSError):
                os.rmdir(folder)
    raise reason


def _stack_to_train(arguments: Namespace) -> Autoencoder:
    path = arguments.save_path
    if arguments.go_on:
        sae = Autoencoder.load(path)
        sae.save_path = path
        return sae
    given = {name: getattr(arguments, name) for name in ARCHITECTURE if getattr(arguments, name) is not None}
    side = arguments.side or arguments.crop
    shape = (side, side, 1 if given.pop("grey", False) else 3)
    return Autoencoder(shape=shape, save_path=path, **given)
