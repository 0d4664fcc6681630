"""The command `demo`: runs other commands on the photographs of scikit-image."""

from __future__ import annotations

import shlex
from argparse import Namespace

from stacked_autoencoder.cli.arguments import NAME, parser
from stacked_autoencoder.cli.checks import check
from stacked_autoencoder.cli.common import Result, Say
from stacked_autoencoder.cli.png import write_png
from stacked_autoencoder.cli.train import train
from stacked_autoencoder.cli.use import info, reconstruct

SIDE = 64
SHOWN = {"train": train, "info": info, "reconstruct": reconstruct}


def demo(arguments: Namespace, say: Say) -> Result:
    """Runs other commands one after the other, and prints each as a user would type it."""
    # imported here because the photographs need an extra
    from stacked_autoencoder.datasets import HELD_OUT, TRAINING, photograph, random_crops, tiles

    training, held_out, model = (arguments.out / name for name in ("training", "held-out", "model"))
    sets = {
        training: random_crops([photograph(name) for name in TRAINING], arguments.crops, SIDE),
        held_out: tiles([photograph(name) for name in HELD_OUT], SIDE),
    }
    for folder, pictures in sets.items():
        say(f"Wrote {len(pictures):,} pictures of {SIDE}x{SIDE} pixels to {folder}")
        for index, picture in enumerate(pictures):
            write_png(folder / f"{index:05d}.png", picture)
    sizes = ["--size", arguments.size, "--n-levels", 2, "--epochs", ",".join(map(str, arguments.epochs))]
    lines = [
        ["train", training, "--valid", held_out, "--save-path", model, "--side", SIDE, *sizes],
        ["info", model],
        ["reconstruct", model, held_out, arguments.out / "reconstructed"],
    ]
    results = {}
    for words in (list(map(str, line)) for line in lines):
        say(f"\n$ {NAME} {shlex.join(words)}")
        each = parser().parse_args(words)
        each.json, each.quiet = arguments.json, arguments.quiet
        check(each)
        results[each.command] = SHOWN[each.command](each, say)
    return results
