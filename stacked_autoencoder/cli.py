"""The command `stacked-autoencoder`: its arguments, and how it ends.

TensorFlow is imported with `commands`, when the arguments are known to be right, so that `--help` comes at once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from stacked_autoencoder import __version__
from stacked_autoencoder.errors import printable
from stacked_autoencoder.levels.presets import PRESETS

NAME = "stacked-autoencoder"
FAILED = 1  # 2, for invalid arguments, is argparse's
# A batch system ends a job by SIGTERM, a closed terminal by SIGHUP: both must leave what an interrupt leaves.
TERMINATING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
LONGEST_LINE = 10_000  # characters of a message


class Terminated(KeyboardInterrupt):
    """A signal has asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0, 1 if it failed, 130 if it was interrupted, 128 + n after signal n.

    Errors are printed in one line on standard error.
    """
    _open_standard_streams()
    arguments = parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's lines once it has started
    with warnings.catch_warnings(), _terminated_as_interrupted():
        warnings.showwarning = lambda message, *_, **__: _print_error(f"warning: {_line(message)}")
        return _run(arguments)


def _open_standard_streams() -> None:
    """Opens the null device for streams that the caller has closed, so that no other file gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Raises `Terminated` in the main thread when a signal asks the process to end, so that work is saved."""

    def terminate(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        raise Terminated(number)

    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield
        return
    # A signal that the caller ignores, as `nohup` does, stays ignored.
    before = {number: signal.getsignal(number) for number in TERMINATING}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _run(arguments: argparse.Namespace) -> int:
    try:
        with nullcontext() if arguments.debug else _deaf():
            from stacked_autoencoder import commands

            commands.find_devices()
        result = commands.run(arguments)
        if arguments.json:
            print(json.dumps(_plain(result), default=float))
        sys.stdout.flush()  # here, where a reader that is gone can be dealt with
    except KeyboardInterrupt as error:
        number = getattr(error, "number", None) or getattr(error.__context__, "number", signal.SIGINT)
        what = "interrupted." if number == signal.SIGINT else f"ended by {signal.Signals(number).name}."
        _report(what, error, arguments)
        return 128 + number
    except BrokenPipeError:  # what reads our output, such as `head`, has seen enough
        with suppress(OSError, ValueError):  # no file behind it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        is_expected = isinstance(error, (ValueError, OSError, RuntimeError, ArithmeticError, ImportError))
        _report(f"error: {'' if is_expected else f'{type(error).__name__}: '}{_line(error)}", error, arguments)
        return FAILED
    return 0


@contextmanager
def _deaf() -> Iterator[None]:
    """Drops what C++ writes to standard error: TensorFlow tells of graphics cards that aren't there."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _report(message: str, error: BaseException, arguments: argparse.Namespace) -> None:
    if arguments.debug:
        with suppress(OSError):
            traceback.print_exception(error)
    _print_error(" ".join([message, *map(_line, getattr(error, "__notes__", []))]))


def _print_error(message: str) -> None:
    with suppress(OSError):  # nobody reads it
        print(f"{NAME}: {message}", file=sys.stderr)


def _line(text: object) -> str:
    """Text in one line, without terminal escape sequences: names in files from others can hold anything."""
    return printable(text, LONGEST_LINE)


def _plain(result: Any) -> Any:
    """With `None` for numbers that JSON has no name for."""
    if isinstance(result, dict):
        return {str(name): _plain(value) for name, value in result.items()}
    if isinstance(result, (list, tuple)):
        return [_plain(value) for value in result]
    return None if isinstance(result, float) and not math.isfinite(result) else result


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
    parser.add_argument("--format", choices=("onnx", "litert"), default="onnx")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for pictures and model (demo)")
    parser.add_argument("--crops", type=int, default=4000, help="number of 64x64 training pictures (4000)")
    parser.add_argument("--size", type=int, default=48, help="width of the network (48)")
    parser.add_argument("--epochs", type=int, nargs=2, default=[3, 6], help="for the two levels (3 6)")


if __name__ == "__main__":
    sys.exit(main())
