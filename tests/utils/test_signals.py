"""Signals that are deferred, and handlers that are restored."""

import os
import signal
import threading

import pytest

from stacked_autoencoder.utils.signals import TERMINATING, deferred_signals, signal_handler


@pytest.fixture(params=[signal.SIGINT, *TERMINATING])
def number(request):
    """A signal whose handler raises `KeyboardInterrupt`."""
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, before)


def send(number):
    os.kill(os.getpid(), number)


def test_a_signal_is_handled_on_request(number):
    steps = []
    with pytest.raises(KeyboardInterrupt), deferred_signals() as handle_signals:  # noqa: PT012  the order is tested
        handle_signals()
        send(number)
        steps.append("first")
        handle_signals()
        steps.append("not reached")
    assert steps == ["first"]
    assert signal.getsignal(number) is signal.default_int_handler


def test_a_signal_is_handled_after_the_block_even_if_it_fails(number):
    with pytest.raises(KeyboardInterrupt), deferred_signals():
        send(number)
    with pytest.raises(KeyboardInterrupt), deferred_signals():  # noqa: PT012
        send(number)
        raise OSError
    with pytest.raises(OSError, match="as usual"), deferred_signals():
        raise OSError("as usual")


def test_the_second_signal_is_handled_at_once(number):
    steps = []
    with pytest.raises(KeyboardInterrupt), deferred_signals():  # noqa: PT012
        send(number)
        steps.append("first")
        send(number)
        steps.append("not reached")
    assert steps == ["first"]


def test_a_signal_in_a_destructor_is_not_lost(number):
    class Destroyed:
        def __del__(self):
            send(number)

    with pytest.raises(KeyboardInterrupt), deferred_signals() as handle_signals:  # noqa: PT012
        Destroyed()
        handle_signals()


def test_a_handler_that_raises_nothing_is_called(number):
    received = []
    signal.signal(number, lambda number, frame: received.append((number, frame is not None)))
    with deferred_signals():
        send(number)
        assert not received
    assert received == [(number, True)]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_signals_without_a_handler_are_left_alone(number, handler):
    signal.signal(number, handler)
    with deferred_signals():
        assert signal.getsignal(number) is handler


def test_a_handler_that_the_block_sets_is_kept(number):
    with signal_handler(lambda *_: None, [number]):
        signal.signal(number, signal.SIG_IGN)
    assert signal.getsignal(number) is signal.SIG_IGN


def test_other_threads_change_nothing(number):
    handlers = []

    def work():
        with deferred_signals():
            handlers.append(signal.getsignal(number))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
