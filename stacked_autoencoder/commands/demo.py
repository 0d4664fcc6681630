"""`demo`: other commands, one after the other, on photographs that come with scikit-image."""

from __future__ import annotations

import shlex
from argparse import Namespace

from stacked_autoencoder import cli, commands
from stacked_autoencoder.commands.shared import Result, Say, new_folder
from stacked_autoencoder.picture_files import write_png

SIDE = 64


def demo(arguments: Namespace, say: Say) -> Result:
    """The other commands, one after the other, on photographs, each shown as a user would type it."""
    # here, since they need an extra
    from stacked_autoencoder.photographs import HELD_OUT, TRAINING, photograph, random_crops, tiles

    training, held_out, model = (new_folder(arguments.out) / name for name in ("training", "held-out", "model"))
    sets = {
        training: random_crops([photograph(name) for name in TRAINING], arguments.crops, SIDE),
        held_out: tiles([photograph(name) for name in HELD_OUT], SIDE),
    }
    for folder, pictures in sets.items():
        say(f"{len(pictures):,} pictures {SIDE}x{SIDE} in {folder}")
        for index, picture in enumerate(pictures):
            write_png(folder / f"{index:05d}.png", picture)
    sizes = ["--size", str(arguments.size), "--n-levels", "2", "--epochs", *map(str, arguments.epochs)]
    lines = [
        ["train", training, "--valid", held_out, "--save-path", model, "--side", SIDE, *sizes],
        ["info", model],
        ["reconstruct", model, held_out, arguments.out / "reconstructed"],
    ]
    results = {}
    for words in (list(map(str, line)) for line in lines):
        say(f"\n$ {cli.NAME} {shlex.join(words)}")
        results[words[0]] = commands.run(cli.parser().parse_args([*words, *(["--json"] if arguments.json else [])]))
    return results
