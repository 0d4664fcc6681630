"""The function of each command of `stacked-autoencoder`.

Each returns its result as a dict, and prints what it does unless `--json` or `--quiet` is given.
"""

from __future__ import annotations

from argparse import Namespace

import tensorflow as tf

from stacked_autoencoder.cli.anomalies import anomalies
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
    "anomalies": anomalies,
    "demo": demo,
}


def find_devices() -> None:
    """Lists the devices now, while standard error is silenced: TensorFlow reports missing GPUs there."""
    tf.config.list_physical_devices()


def run(arguments: Namespace) -> Result:
    """Runs the command that the arguments name."""
    tf.get_logger().setLevel("ERROR")  # TensorFlow warns of retracing, which users of the command can't change
    say: Say = (lambda _: None) if arguments.json or getattr(arguments, "quiet", False) else print
    return COMMANDS[arguments.command](arguments, say)
