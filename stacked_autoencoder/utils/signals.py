"""Signal handlers for a block of code, and signals that wait until TensorFlow is not running."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

# A batch system ends a job by SIGTERM, and a closed terminal by SIGHUP.
TERMINATING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def signal_handler(handler: Callable[[int, FrameType | None], None], numbers: Sequence[int]) -> Iterator[None]:
    """Sets the handler of signals in the block. Signals that the caller ignores, as `nohup` does, stay ignored.

    A handler that is set within the block is kept. Outside the main thread, which handles signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: previous for number, previous in before.items() if previous is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.SIG_DFL if previous is None else previous)


@contextmanager
def deferred_signals() -> Iterator[Callable[[], None]]:
    """Defers Ctrl-C, SIGTERM and SIGHUP until the end of the block.

    Python runs the handler of a signal between any two instructions. An exception that the handler raises within
    TensorFlow can crash the process, or is lost in a destructor, and then the process continues.

    A second signal of the same kind is handled at once, so that a block that does not end can be interrupted. Signals
    without a handler in Python are not deferred.

    Yields:
        A function that handles the signals that have arrived so far.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *TERMINATING)}
    received: list[int] = []

    def defer(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, handlers[number])

    def handle() -> None:
        while received:
            signal.raise_signal(received.pop(0))

    try:
        with signal_handler(defer, [number for number, handler in handlers.items() if callable(handler)]):
            yield handle
    finally:
        handle()
