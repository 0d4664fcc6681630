"""The arguments of the command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from stacked_autoencoder import __version__
from stacked_autoencoder.levels.presets import PRESETS

NAME = "stacked-autoencoder"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog=NAME,
        description="Make pictures small once, then train on the small thing.",
        epilog=f"`{NAME} COMMAND --help` says what a command takes. `{NAME} demo` shows all of it.",
    )
    made.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    found = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, description: str, *asked: Callable[[argparse.ArgumentParser], None]) -> None:
        one = found.add_parser(name, help=description, description=f"{description[0].upper()}{description[1:]}.")
        for add in asked:
            add(one)
        one.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")
        one.add_argument("--debug", action="store_true", help="show where an error came from")

    command("train", "train a stack on a folder of pictures and save it", _pictures, _stack, _training)
    command("info", "show the levels, shapes and versions of a saved stack", _model)
    command("evaluate", "measure what each level loses of a folder of pictures", _model, _pictures)
    command("encode", "encode a folder of pictures to a store on disk", _model, _pictures, _encoding)
    command("decode", "decode a store to PNG files", _model, _store, _out)
    command("reconstruct", "encode and decode pictures: a PNG for each, and a sheet", _model, _pictures, _out, _level)
    command("generate", "draw encodings with a saved head, and decode them to PNG files", _model, _head, _out, _level)
    command("export", "write encoder and decoder for other runtimes", _model, _out, _level, _format)
    command("demo", "train on photographs that come with scikit-image, and look", _demo)
    return made


# === What commands take ===


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="folder of a saved stack")


def _pictures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="JPEG, PNG, WebP, BMP or GIF files, in it and the folders below")
    taken = parser.add_mutually_exclusive_group()
    taken.add_argument("--side", type=int, help="take the middle square, resized to so many pixels")
    taken.add_argument("--crop", type=int, help="take a square of so many pixels at random")
    parser.add_argument(
        "--max-pixels", type=int, help="skip pictures of more pixels, which may be decompression bombs (89478485)"
    )


def _stack(parser: argparse.ArgumentParser) -> None:
    """Defaults are those of `Autoencoder`; `None` says that nothing was asked for."""
    group = parser.add_argument_group("the stack")
    wide = group.add_mutually_exclusive_group()
    wide.add_argument("--size", type=int, help="width of the network, in filters (64)")
    wide.add_argument("--preset", choices=tuple(PRESETS), help="width and depth by name, from quick to thorough")
    group.add_argument("--n-out", type=int, help="features per pixel of each encoding (32)")
    group.add_argument("--n-scalings", type=int, help="halvings of height and width per level (2)")
    group.add_argument("--n-levels", type=int, help="levels, each trained on the encodings of the one below (1)")
    group.add_argument("--latent-dim", type=int, help="end the last level in a vector; needs --side or --crop")
    group.add_argument("--grey", action="store_const", const=True, help="one channel instead of three")


def _training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--save-path", type=Path, required=True, help="folder for the stack")
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--continue", dest="go_on", action="store_true", help="train the stack at --save-path further")
    there.add_argument("--overwrite", action="store_true", help="replace a stack at --save-path by the new one")
    parser.add_argument("--valid", type=Path, help="folder of pictures that decide which weights are kept")
    parser.add_argument("--epochs", type=int, nargs="+", default=[10], help="for all levels, or one for each (10)")
    parser.add_argument("--fine-tune", type=int, default=0, metavar="EPOCHS", help="of all levels jointly, at the end")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures per step (32)")
    parser.add_argument("--checkpoint-dir", type=Path, help="after a kill, the same command goes on from there")
    parser.add_argument("--seed", type=int, default=0, help="decides weights and order (0)")


def _level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--level", type=int, help="how deep, an index; the deepest by default")


def _encoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, help="folder for the encodings; called again, it goes on")
    _level(parser)
    parser.add_argument("--shard", type=_shard, metavar="I/N", help="the I-th of N parts, 0/4 to 3/4")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    parser.add_argument(
        "--labels",
        action="store_true",
        help="keep the folders right below as labels: numbers, in the order of their names",
    )


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    try:
        return int(index), int(count)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected I/N, such as 0/4. Received: {text!r}") from None


def _store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, help="folder that `encode` wrote")


def _out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="folder for what is written")


def _head(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("head", type=Path, help="file that `head.save` wrote, of somebody you trust")
    parser.add_argument("-n", type=int, default=64, help="how many (64)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", type=int, help="class of all of them, of a flow with classes")
    parser.add_argument("--guidance", type=float, help="how clearly they are to show it, from 1; of such a flow")


def _format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=("onnx", "litert", "tflite"),
        help="tflite is another name for litert; default: onnx if tf2onnx is installed, else litert",
    )


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for pictures and model (demo)")
    parser.add_argument("--crops", type=int, default=4000, help="number of 64x64 training pictures (4000)")
    parser.add_argument("--size", type=int, default=48, help="width of the network (48)")
    parser.add_argument("--epochs", type=int, nargs=2, default=[3, 6], help="for the two levels (3 6)")
