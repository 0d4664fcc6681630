"""What each command of `stacked-autoencoder` does.

Each returns its result, and prints as it goes, unless `--json` or `--quiet` is given.
"""

from __future__ import annotations

from argparse import Namespace

import tensorflow as tf

from stacked_autoencoder.cli.common import Result, Say
from stacked_autoencoder.cli.demo import demo
from stacked_autoencoder.cli.train import train
from stacked_autoencoder.cli.use import decode, encode, evaluate, export, generate, info, reconstruct

COMMANDS = {
    "train": train,
    "info": info,
    "evaluate": evaluate,
    "encode": encode,
    "decode": decode,
    "reconstruct": reconstruct,
    "generate": generate,
    "export": export,
    "demo": demo,
}


def find_devices() -> None:
    """Looks for them now, since TensorFlow writes what it doesn't find to standard error."""
    tf.config.list_physical_devices()


def run(arguments: Namespace) -> Result:
    """Runs the command that was asked for."""
    tf.get_logger().setLevel("ERROR")  # it warns of tracing anew, which users of a command can't change
    say: Say = (lambda _: None) if arguments.json or getattr(arguments, "quiet", False) else print
    return COMMANDS[arguments.command](arguments, say)
