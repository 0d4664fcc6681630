"""What each command of `stacked-autoencoder` does. Each prints as it goes, unless `--json`, and returns its result."""

from __future__ import annotations

from argparse import Namespace

import tensorflow as tf

from stacked_autoencoder.commands import coding, demo, looking, training
from stacked_autoencoder.commands.shared import Result, Say

COMMANDS = {
    "train": training.train,
    "info": looking.info,
    "evaluate": looking.evaluate,
    "encode": coding.encode,
    "decode": coding.decode,
    "reconstruct": coding.reconstruct,
    "generate": coding.generate,
    "export": coding.export,
    "demo": demo.demo,
}


def find_devices() -> None:
    """Looks for them now, since TensorFlow writes what it doesn't find to standard error."""
    tf.config.list_physical_devices()


def run(arguments: Namespace) -> Result:
    """Runs the command that was asked for."""
    tf.get_logger().setLevel("ERROR")  # it warns of tracing anew, which users of a command can't change
    say: Say = (lambda _: None) if arguments.json else print
    return COMMANDS[arguments.command](arguments, say)
