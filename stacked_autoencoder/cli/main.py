"""The command `stacked-autoencoder`: its arguments, and how it ends.

TensorFlow is imported with `commands`, once `checks` has passed the arguments: `--help` and mistakes don't wait for it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any

from stacked_autoencoder.cli.arguments import NAME, parser
from stacked_autoencoder.cli.checks import check
from stacked_autoencoder.utils.console import open_line
from stacked_autoencoder.utils.errors import printable

FAILED = 1  # 2, for invalid arguments, is that of argparse
# A batch system ends a job by SIGTERM, a closed terminal by SIGHUP: both must leave what an interrupt leaves.
TERMINATING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
LONGEST_LINE = 10_000  # characters of a message
# Of a `Namespace`, what isn't an option of the same name.
NO_OPTIONS = {"command", "refuse", "go_on", "folder", "model", "store", "out", "head", "n"}
# What the library calls some options, and values as they are typed.
LIBRARY_NAMES = {"valid": "validation_data", "valid_split": "validation_split", "label": "labels"}
TYPED = {"(i, n)": "I/N", '"float32"': "float32"}


class Terminated(KeyboardInterrupt):
    """A signal has asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code.

    It is 0 after success, 1 after an error, 130 after an interrupt, and 128 + n after signal n. Errors are printed in
    one line on standard error.

    Raises:
        SystemExit: 2, for invalid arguments; 0, after `--help`.
    """
    _open_standard_streams()
    arguments = parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's lines once it has started
    with warnings.catch_warnings(), _terminated_as_interrupted():
        warnings.showwarning = lambda message, *_, **__: _print_error(f"warning: {_line(message, arguments)}")
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
        check(arguments)
        with nullcontext() if arguments.debug else _deaf():
            from stacked_autoencoder.cli import commands

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
        _report(
            f"error: {'' if is_expected else f'{type(error).__name__}: '}{_line(error, arguments)}", error, arguments
        )
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
    _print_error(" ".join([message, *(_line(note, arguments) for note in getattr(error, "__notes__", []))]))


def _print_error(message: str) -> None:
    with suppress(OSError):  # nobody reads it
        if sys.stderr.isatty():
            open_line.end()
        print(f"{NAME}: {message}", file=sys.stderr)


def _line(text: object, arguments: argparse.Namespace) -> str:
    """Text in one line, without terminal escape sequences: names in files from others can hold anything."""
    return printable(_in_options(str(text), arguments), LONGEST_LINE)


def _in_options(message: str, arguments: argparse.Namespace) -> str:
    """A message of the library, with the options of the command in place of the arguments of Python."""
    asked = [name for name in vars(arguments) if name not in NO_OPTIONS]
    options = {LIBRARY_NAMES.get(name, name): f"--{name.replace('_', '-')}" for name in asked}
    names = "|".join(options)

    def quoted(match: re.Match[str]) -> str:
        option, value = options[match["name"]], match["value"]
        return f"`{option}`" if value in (None, "True") else f"`{option} {TYPED.get(value, value)}`"

    message = re.sub(rf"`(?P<name>{names})(=(?P<value>[^`]+))?`", quoted, message)
    return re.sub(rf"(?<=Received: )({names})=(?=\S)", lambda match: f"{options[match[1]]} ", message)


def _plain(result: Any) -> Any:
    """With `None` for numbers that JSON has no name for."""
    if isinstance(result, dict):
        return {str(name): _plain(value) for name, value in result.items()}
    if isinstance(result, (list, tuple)):
        return [_plain(value) for value in result]
    return None if isinstance(result, float) and not math.isfinite(result) else result


if __name__ == "__main__":
    sys.exit(main())
