"""The arguments of the command. The module imports nothing heavy, so that `--help` and errors appear at once."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stacked_autoencoder import __version__
from stacked_autoencoder.levels.presets import PRESETS

NAME = "stacked-autoencoder"
EPOCHS = "--epochs"
LARGEST_SEED = (1 << 32) - 1  # of numpy


class Parser(argparse.ArgumentParser):
    """Reads `--epochs 3 6` as `--epochs=3,6`, so that a folder that follows is not read as a number of epochs."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        return super().parse_known_args(_with_joined_epochs(sys.argv[1:] if args is None else args), namespace)


def _with_joined_epochs(words: Sequence[str]) -> list[str]:
    joined: list[str] = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if word == "--":  # all words after it are paths
            return [*joined, word, *remaining]
        numbers = []
        if len(word) > 2 and EPOCHS.startswith(word):
            while remaining and re.fullmatch(r"-?\d+", remaining[0]):
                numbers.append(remaining.pop(0))
        joined.append(f"{EPOCHS}={','.join(numbers)}" if numbers else word)
    return joined


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=NAME,
        description="Train stacked autoencoders on folders of pictures, and use them to compress pictures.",
        epilog=f"`{NAME} COMMAND --help` lists the options of a command. `{NAME} demo` shows a complete example. "
        "Exit codes: 0 success, 1 error (one-line message), 2 invalid arguments, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, description: str, *groups: Callable[[argparse.ArgumentParser], None], subparsers: Any = commands
    ) -> None:
        subparser = subparsers.add_parser(name, **_described(description))
        for add in groups:
            add(subparser)
        subparser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")
        subparser.add_argument("--debug", action="store_true", help="print the traceback of an error")
        # `cli.checks` refuses combinations of arguments, and argparse prints the usage of the subparser.
        subparser.set_defaults(refuse=subparser.error)

    command(
        "train", "train a stack on a folder of pictures and save it", _pictures, _stack, _training, _learning, _quiet
    )
    command("info", "show the levels, shapes and versions of a saved stack", _model)
    command("evaluate", "measure the reconstruction loss of each level on a folder of pictures", _model, _pictures)
    command("encode", "encode a folder of pictures to a store on disk", _model, _pictures, _encoding, _quiet)
    command("decode", "decode a store to PNG files", _model, _store, _out, _quiet)
    command(
        "reconstruct",
        "encode and decode pictures, and write the results as PNG files",
        _model,
        _pictures,
        _out,
        _level,
        _quiet,
    )
    command("generate", "generate pictures with a saved head, and write them as PNG files", _model, _head, _out, _level)
    command("export", "write encoder and decoder for other runtimes", _model, _out, _level, _format)
    anomalies = commands.add_parser("anomalies", **_described("find pictures that are unlike normal pictures"))
    actions = anomalies.add_subparsers(dest="action", required=True, metavar="ACTION")
    command(
        "fit",
        "fit a detector to a folder of normal pictures and save it",
        _model,
        _pictures,
        _detector,
        _contamination,
        _quiet,
        subparsers=actions,
    )
    command(
        "score",
        "score a folder of pictures, and write scores and heat maps",
        _saved_detector,
        _pictures,
        _out,
        _threshold,
        _quiet,
        subparsers=actions,
    )
    command("demo", "train on the photographs of scikit-image, and show the results", _demo, _quiet)
    return parser


def _described(description: str) -> dict[str, str]:
    return {"help": description, "description": f"{description[0].upper()}{description[1:]}."}


# === Types of values ===


def _whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    """A whole number in a range."""
    limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"

    def converted(text: str) -> int:
        number = _number(int, text)
        if number is None or not least <= number <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number {limits}, received {text!r}")
        return number

    return converted


def _above_zero(text: str) -> float:
    number = _number(float, text)
    if number is None or not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number greater than 0, received {text!r}")
    return number


def _fraction(text: str) -> float:
    number = _number(float, text)
    if number is None or not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, such as 0.1, received {text!r}")
    return number


def _at_least_zero(text: str) -> float:
    number = _number(float, text)
    if number is None or not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, received {text!r}")
    return number


def _index(text: str) -> int:
    number = _number(int, text)
    if number is None:
        raise argparse.ArgumentTypeError(
            f"expected a level index (0 is the first level, -1 the last), received {text!r}"
        )
    return number


def _epochs(text: str) -> list[int]:
    numbers = [_number(int, part) for part in text.split(",")]
    if any(number is None or number < 0 for number in numbers):
        raise argparse.ArgumentTypeError(
            f"expected whole numbers of at least 0, one for all levels (10) or one per level (3,6), received {text!r}"
        )
    return numbers


def _epochs_of_two_levels(text: str) -> list[int]:
    numbers = _epochs(text)
    if len(numbers) > 2:
        raise argparse.ArgumentTypeError(f"expected one or two numbers, for the two levels, received {text!r}")
    return numbers


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    part = _number(int, index), _number(int, count)
    if None in part or not 0 <= part[0] < part[1]:
        raise argparse.ArgumentTypeError(
            f"expected I/N with I from 0 to N - 1, such as 0/4, 1/4, 2/4 and 3/4, received {text!r}"
        )
    return part


def _number(kind: type, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        return None


# === Arguments of the commands ===


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a saved stack")


def _pictures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="folder of pictures, searched with all folders below it"
    )
    square = parser.add_mutually_exclusive_group()
    square.add_argument(
        "--side", type=_whole(1), metavar="N", help="resize the central square of each picture to NxN pixels"
    )
    square.add_argument("--crop", type=_whole(1), metavar="N", help="take a random crop of NxN pixels of each picture")
    parser.add_argument(
        "--max-pixels",
        type=_whole(1),
        metavar="N",
        help="skip pictures with more than N pixels, which may be decompression bombs (default: 89478485)",
    )


def _stack(parser: argparse.ArgumentParser) -> None:
    """Adds options of the architecture. They are `None` unless given; `Autoencoder` has the defaults."""
    group = parser.add_argument_group("architecture")
    width = group.add_mutually_exclusive_group()
    width.add_argument("--size", type=_whole(1), metavar="N", help="filters per convolution (default: 64)")
    width.add_argument("--preset", choices=tuple(PRESETS), help="width and depth of the networks by name")
    group.add_argument(
        "--n-out", type=_whole(1), metavar="N", help="channels of the encodings of each level (default: 32)"
    )
    group.add_argument(
        "--n-scalings",
        type=_whole(0),
        metavar="N",
        help="how often each level halves height and width (default: 2)",
    )
    group.add_argument(
        "--n-levels",
        type=_whole(1),
        metavar="N",
        help="number of levels; each compresses the encodings of the level before (default: 1)",
    )
    group.add_argument(
        "--latent-dim",
        type=_whole(1),
        metavar="N",
        help="make the encoding of the last level a vector of N values; requires --side or --crop",
    )
    group.add_argument(
        "--nested",
        action="store_const",
        const=True,
        help="train so that encodings can be cut to their leading features (default: all features are needed)",
    )
    group.add_argument(
        "--value-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="lowest and highest value of pictures with more than 8 bits, such as 0 65535; PNG files are written in it",
    )
    group.add_argument(
        "--missing",
        choices=("error", "ignore"),
        help="what to do with NaN in TIFF and .npy pictures of floats: `ignore` leaves these pixels out of the loss "
        "(default: error)",
    )
    group.add_argument(
        "--grey", "--gray", action="store_const", const=True, help="train on greyscale pictures (1 channel, not 3)"
    )


def _training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--save-path", type=Path, metavar="MODEL", required=True, help="folder to save the stack to")
    present = parser.add_mutually_exclusive_group()
    present.add_argument(
        "--continue", dest="go_on", action="store_true", help="continue to train the stack in --save-path"
    )
    present.add_argument("--overwrite", action="store_true", help="replace the stack in --save-path")
    validation = parser.add_mutually_exclusive_group()
    validation.add_argument(
        "--valid", type=Path, metavar="FOLDER", help="folder of validation pictures, which select the weights to keep"
    )
    validation.add_argument(
        "--valid-split",
        type=_fraction,
        metavar="FRACTION",
        help="use this fraction of the pictures, selected by --seed, for validation and not for training",
    )
    parser.add_argument("--checkpoint-dir", type=Path, metavar="FOLDER", help="resume from here if training is killed")


def _learning(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument(
        EPOCHS,
        type=_epochs,
        metavar="N[,N...]",
        default=[10],
        help="passes over the pictures: one number for all levels, or one per level, such as 3,6 (default: 10)",
    )
    group.add_argument(
        "--fine-tune",
        type=_whole(0),
        default=0,
        metavar="N",
        help="train all levels jointly for N epochs at the end (default: 0)",
    )
    group.add_argument("--batch-size", type=_whole(1), default=32, metavar="N", help="pictures per step (default: 32)")
    group.add_argument(
        "--learning-rate",
        type=_above_zero,
        metavar="RATE",
        help="peak learning rate; --fine-tune uses a fifth of it (default: 0.01)",
    )
    group.add_argument(
        "--seed",
        type=_whole(0, LARGEST_SEED),
        default=0,
        metavar="N",
        help="seed of weights, order and --valid-split (default: 0)",
    )


def _level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--level", type=_index, metavar="INDEX", help="level index (0 is the first; default: the last)")


def _encoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "store", type=Path, metavar="STORE", help="folder to write encodings to; an interrupted store is continued"
    )
    _level(parser)
    parser.add_argument(
        "--shard", type=_shard, metavar="I/N", help="encode only part I of N; parts are numbered from 0, such as 0/4"
    )
    stored_as = parser.add_mutually_exclusive_group()
    stored_as.add_argument(
        "--dtype",
        choices=("float16", "float32", "int8"),
        help="data type of the store; int8 needs half the space of float16 (default: float16)",
    )
    stored_as.add_argument(
        "--loss-budget",
        type=_above_zero,
        metavar="SHARE",
        help="share by which the loss of reconstructions may grow, such as 0.01; the encodings are rounded accordingly "
        "and compressed, which needs about a quarter of the space of float16",
    )
    parser.add_argument(
        "--labels",
        action="store_true",
        help="store the names of the top-level folders as labels, numbered in alphabetical order",
    )


def _store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="folder that `encode` wrote")


def _out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder")


def _head(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "head", type=Path, metavar="HEAD", help="file that `head.save` wrote; loading it can run code, so trust it"
    )
    parser.add_argument("-n", type=_whole(1), default=64, metavar="N", help="number of pictures (default: 64)")
    parser.add_argument(
        "--seed", type=_whole(0, LARGEST_SEED), default=0, metavar="N", help="seed of the random numbers (default: 0)"
    )
    parser.add_argument(
        "--label", type=_whole(0), metavar="N", help="class of the pictures; requires a head with classes"
    )
    parser.add_argument(
        "--guidance",
        type=_at_least_zero,
        metavar="WEIGHT",
        help="classifier-free guidance; above 1 follows --label more closely; requires a head with classes",
    )


def _detector(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("detector", type=Path, metavar="DETECTOR", help="new folder to save the detector to")


def _saved_detector(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("detector", type=Path, metavar="DETECTOR", help="folder that `anomalies fit` wrote")


def _contamination(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--contamination",
        type=_fraction,
        default=0.01,
        metavar="FRACTION",
        help="fraction of normal pictures with a score above the threshold (default: 0.01)",
    )


def _threshold(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold",
        type=_above_zero,
        metavar="SCORE",
        help="score above which a picture is an anomaly (default: that of the detector)",
    )


def _format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=("onnx", "litert", "tflite"),
        help="tflite is another name for litert; default: onnx if tf2onnx is installed, else litert",
    )


def _quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="print only warnings and errors")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, metavar="OUT", default=Path("demo"), help="folder for pictures and model (default: demo)"
    )
    parser.add_argument(
        "--crops", type=_whole(1), metavar="N", default=4000, help="number of training pictures (default: 4000)"
    )
    parser.add_argument("--size", type=_whole(1), metavar="N", default=48, help="filters per convolution (default: 48)")
    parser.add_argument(
        EPOCHS,
        type=_epochs_of_two_levels,
        metavar="N[,N]",
        default=[3, 6],
        help="passes over the pictures, for both levels or one number per level (default: 3,6)",
    )
