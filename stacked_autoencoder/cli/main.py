"""The command `stacked-autoencoder`: runs a command and converts errors and signals to exit codes.

`commands` imports TensorFlow, which takes seconds. It is imported after the arguments have been checked, so that
`--help` and errors appear at once.
"""

from __future__ import annotations

import argparse
import atexit
import json
import math
import os
import re
import signal
import sys
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
from stacked_autoencoder.utils.signals import TERMINATING, deferred_signals, signal_handler

FAILED = 1  # 2, for invalid arguments, is that of argparse
LONGEST_LINE = 10_000  # characters of a message
# Attributes of the `Namespace` that are no options of the same name.
NOT_OPTIONS = {"command", "action", "detector", "refuse", "go_on", "folder", "model", "store", "out", "head", "n"}
# Options whose names differ in Python, and values as they are written on the command line.
LIBRARY_NAMES = {"valid": "validation_data", "valid_split": "validation_split", "label": "labels"}
TYPED = {"(i, n)": "I/N", '"ignore"': "ignore", '"float32"': "float32"}


class Terminated(KeyboardInterrupt):
    """A signal has asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def run() -> int:
    """Runs the command of this process as `main` does, and ends the process without TensorFlow's destructors.

    These destructors take most of a second, and destroy what other threads of TensorFlow may still use. The process
    ends after all `atexit` functions that are registered from now on.

    Returns:
        The exit code.
    """
    exit_codes: list[int] = []
    atexit.register(_end_process, exit_codes)  # the first function that is registered is called last
    exit_codes.append(main())
    return exit_codes[0]


def _end_process(exit_codes: list[int]) -> None:
    if not exit_codes:  # an exception is ending the process
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(exit_codes[0])


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    An error is printed as one line on standard error.

    Returns:
        The exit code: 0 for success, 1 for an error, 130 after Ctrl-C, 128 + n after signal n.

    Raises:
        SystemExit: 2, for invalid arguments; 0, after `--help`.
    """
    _open_standard_streams()
    arguments = parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's lines once it has started
    with warnings.catch_warnings(), _terminated_as_interrupted():
        warnings.showwarning = lambda message, *_, **__: _print_error(f"warning: {_to_single_line(message, arguments)}")
        return _run(arguments)


def _open_standard_streams() -> None:
    """Opens the null device for closed standard streams, so that no other file gets their file descriptors."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  open until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Raises `Terminated` in the main thread when a signal ends the process, so that trained weights are saved."""

    def terminate(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        raise Terminated(number)

    with signal_handler(terminate, TERMINATING):
        yield


def _run(arguments: argparse.Namespace) -> int:
    try:
        check(arguments)
        with deferred_signals(), nullcontext() if arguments.debug else _silence_stderr():
            from stacked_autoencoder.cli import commands

            commands.find_devices()
        result = commands.run(arguments)
        if arguments.json:
            print(json.dumps(_to_json(result), default=float))
        sys.stdout.flush()  # here, where a closed pipe is handled
    except KeyboardInterrupt as error:
        number = getattr(error, "number", None) or getattr(error.__context__, "number", signal.SIGINT)
        what = "interrupted." if number == signal.SIGINT else f"ended by {signal.Signals(number).name}."
        _report(what, error, arguments)
        return 128 + number
    except BrokenPipeError:  # the program that reads the output, such as `head`, has ended
        with suppress(OSError, ValueError):  # standard output is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        is_expected = isinstance(error, (ValueError, OSError, RuntimeError, ArithmeticError, ImportError))
        _report(
            f"error: {'' if is_expected else f'{type(error).__name__}: '}{_to_single_line(error, arguments)}",
            error,
            arguments,
        )
        return FAILED
    return 0


@contextmanager
def _silence_stderr() -> Iterator[None]:
    """Discards what C++ code writes to standard error, such as TensorFlow's messages about missing GPUs."""
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
    _print_error(" ".join([message, *(_to_single_line(note, arguments) for note in getattr(error, "__notes__", []))]))


def _print_error(message: str) -> None:
    with suppress(OSError):  # standard error is closed
        if sys.stderr.isatty():
            open_line.end()
        print(f"{NAME}: {message}", file=sys.stderr)


def _to_single_line(text: object, arguments: argparse.Namespace) -> str:
    """Converts to one line without terminal escape sequences, which names in untrusted files can contain."""
    return printable(_in_options(str(text), arguments), LONGEST_LINE)


def _in_options(message: str, arguments: argparse.Namespace) -> str:
    """Replaces the names of Python arguments in a message of the library by the command's options."""
    own_names = [name for name in vars(arguments) if name not in NOT_OPTIONS]
    options = {LIBRARY_NAMES.get(name, name): f"--{name.replace('_', '-')}" for name in own_names}
    names = "|".join(options)

    def quoted(match: re.Match[str]) -> str:
        option, value = options[match["name"]], match["value"]
        return f"`{option}`" if value in (None, "True") else f"`{option} {TYPED.get(value, value)}`"

    message = re.sub(rf"`(?P<name>{names})(=(?P<value>[^`]+))?`", quoted, message)
    return re.sub(rf"(?<=Received: )({names})=(?=\S)", lambda match: f"{options[match[1]]} ", message)


def _to_json(result: Any) -> Any:
    """Replaces numbers that JSON does not have, NaN and infinity, by `None`."""
    if isinstance(result, dict):
        return {str(name): _to_json(value) for name, value in result.items()}
    if isinstance(result, (list, tuple)):
        return [_to_json(value) for value in result]
    return None if isinstance(result, float) and not math.isfinite(result) else result


if __name__ == "__main__":
    sys.exit(run())
