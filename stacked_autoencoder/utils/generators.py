"""`tf.data` pipelines that call Python: their functions and iterators are released in time.

TensorFlow keeps each Python function of a pipeline, and with it all the images that it can reach, as long as the graph
lives under which it came into the pipeline; the one that is there by default lives until the process ends.

An iterator over such a pipeline must be gone before the interpreter shuts down. Its destructor waits for threads that
call Python, and from then on these wait forever: the process would never end.
"""

from __future__ import annotations

import atexit
import gc
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import tensorflow as tf

LIBRARIES = ("keras", "tensorflow")  # whose frames may hold iterators


class Released:
    """Calls a function for as long as the dataset lives that it was made for."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function: Callable[..., Any] | None = function
        self.graph: tf.Graph | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self.function is None:
            raise RuntimeError("The dataset that this function belongs to is gone.")
        return self.function(*arguments)

    def release(self) -> None:
        self.function = self.graph = None
        _living.discard(self)


_living: set[Released] = set()  # whose dataset, or an iterator over it, is alive


def released(function: Callable[..., Any], make: Callable[[Released], tf.data.Dataset]) -> tf.data.Dataset:
    """A dataset that calls a function, which goes when it, all that is made of it and their iterators are gone.

    Args:
        make: what calls the function → the dataset.

    Example:
        >>> released(check, lambda check: dataset.map(lambda batch: tf.numpy_function(check, [batch], tf.uint8)))
    """
    held = Released(function)
    results: list[tf.data.Dataset | BaseException] = []

    def make_in_own_graph() -> None:
        held.graph = tf.compat.v1.get_default_graph()
        try:
            results.append(make(held))
        except BaseException as error:
            results.append(error)

    # Each thread has a default graph of its own, which keeps the function. This one lives as long as `held` has it.
    thread = threading.Thread(target=make_in_own_graph)
    thread.start()
    thread.join()
    dataset = results.pop()
    if isinstance(dataset, BaseException):
        raise dataset
    _living.add(held)
    weakref.finalize(dataset, held.release).atexit = False
    return dataset


def generated(generator: Callable[[], Iterator[Any]], signature: Any) -> tf.data.Dataset:
    """What a generator yields, as `tf.data.Dataset.from_generator` has it."""
    return released(generator, lambda held: tf.data.Dataset.from_generator(held, output_signature=signature))


class _OpenIterator:
    """An iterator over a dataset that can be closed, whoever else holds this object: generators, and tracebacks."""

    def __init__(self, dataset: tf.data.Dataset) -> None:
        self.iterator: Iterator[Any] | None = dataset.as_numpy_iterator()
        _open.add(self)

    def next(self) -> Any:
        """The next element as numpy arrays; raises `StopIteration` at the end."""
        try:
            return next(self.iterator)
        except StopIteration:
            raise
        except BaseException as error:
            release_frames(error)
            raise

    def close(self) -> None:
        self.iterator = None


_open: weakref.WeakSet[_OpenIterator] = weakref.WeakSet()


def iterated(dataset: tf.data.Dataset) -> Iterator[Any]:
    """The elements of a dataset as numpy arrays; its iterator is gone as soon as they end or something fails."""
    iterator = _OpenIterator(dataset)
    try:
        while True:
            try:
                element = iterator.next()
            except StopIteration:
                return
            yield element
    finally:
        iterator.close()


@contextmanager
def releasing_frames() -> Iterator[None]:
    """Lets an error out with no iterator in its traceback."""
    try:
        yield
    except BaseException as error:
        release_frames(error)
        raise


def release_frames(error: BaseException | None) -> None:
    """Drops the local variables of Keras's and TensorFlow's functions from a traceback: iterators are among them.

    An error that nobody catches keeps its traceback until the interpreter shuts down.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback = error.__traceback__
        while traceback is not None:
            if _is_of_library(traceback.tb_frame):
                with suppress(RuntimeError):  # it's still running
                    traceback.tb_frame.clear()
            traceback = traceback.tb_next
        error = error.__cause__ or error.__context__


def _is_of_library(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in LIBRARIES


@atexit.register  # handlers run before threads can't call Python any more
def _close_iterators() -> None:
    """Destroys all iterators over pipelines that call Python, whoever holds them."""
    if not _living:
        return
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main else None  # interrupted, it would never end
    for iterator in list(_open):
        iterator.close()
    gc.collect()
    if _living:
        # Held by a frame or an object of Keras or of the program, which TensorFlow offers no way to close. Their types
        # are asked, since `isinstance` asks the objects, of which some are proxies of others that are gone.
        for iterator in [each for each in gc.get_objects() if issubclass(type(each), tf.data.Iterator)]:
            vars(iterator).clear()
    if before is not None:
        signal.signal(signal.SIGINT, before)
