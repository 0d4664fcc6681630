"""`tf.data` pipelines that call Python functions: releases the functions and iterators in time.

TensorFlow keeps each Python function of a pipeline, and all images that the function refers to, as long as the graph
exists in which the pipeline was made. The default graph exists until the process ends.

An iterator over such a pipeline must be deleted before the interpreter shuts down. Its destructor waits for threads
that call Python, and these wait forever once the shutdown has begun: the process would never end.
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
    """Calls a function until the dataset that uses it is deleted."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function: Callable[..., Any] | None = function
        self.graph: tf.Graph | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self.function is None:
            raise RuntimeError("The dataset that this function belongs to no longer exists.")
        return self.function(*arguments)

    def release(self) -> None:
        self.function = self.graph = None
        _living.discard(self)


_living: set[Released] = set()  # functions whose dataset, or an iterator over it, still exists


def released(function: Callable[..., Any], make: Callable[[Released], tf.data.Dataset]) -> tf.data.Dataset:
    """Makes a dataset that calls a Python function, and releases the function when the dataset is deleted.

    Datasets derived from it and their iterators keep the function, too.

    Args:
        function: the Python function.
        make: receives a callable that calls the function, and returns the dataset.

    Example:
        >>> released(check, lambda check: dataset.map(lambda batch: tf.numpy_function(check, [batch], tf.uint8)))
    """
    holder = Released(function)
    results: list[tf.data.Dataset | BaseException] = []

    def make_in_own_graph() -> None:
        holder.graph = tf.compat.v1.get_default_graph()
        try:
            results.append(make(holder))
        except BaseException as error:
            results.append(error)

    # Each thread has a separate default graph, which keeps the function. This graph exists as long as `holder` does.
    thread = threading.Thread(target=make_in_own_graph)
    thread.start()
    thread.join()
    dataset = results.pop()
    if isinstance(dataset, BaseException):
        raise dataset
    _living.add(holder)
    weakref.finalize(dataset, holder.release).atexit = False
    return dataset


def generated(generator: Callable[[], Iterator[Any]], signature: Any) -> tf.data.Dataset:
    """Like `tf.data.Dataset.from_generator`, but the generator is released when the dataset is deleted."""
    return released(generator, lambda holder: tf.data.Dataset.from_generator(holder, output_signature=signature))


class _OpenIterator:
    """An iterator over a dataset that can be closed even while generators or tracebacks refer to it."""

    def __init__(self, dataset: tf.data.Dataset) -> None:
        self.iterator: Iterator[Any] | None = dataset.as_numpy_iterator()
        _open.add(self)

    def next(self) -> Any:
        """Returns the next element as NumPy arrays. Raises `StopIteration` at the end."""
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
    """Yields the elements of a dataset as NumPy arrays. The iterator is deleted at the end or after an error."""
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
    """Removes iterators from the traceback of an error that leaves the block."""
    try:
        yield
    except BaseException as error:
        release_frames(error)
        raise


def release_frames(error: BaseException | None) -> None:
    """Removes the local variables of Keras and TensorFlow functions, which include iterators, from a traceback.

    An error that is not caught keeps its traceback until the interpreter shuts down.
    """
    visited: set[int] = set()
    while error is not None and id(error) not in visited:
        visited.add(id(error))
        traceback = error.__traceback__
        while traceback is not None:
            if _is_of_library(traceback.tb_frame):
                with suppress(RuntimeError):  # the frame is still executing
                    traceback.tb_frame.clear()
            traceback = traceback.tb_next
        error = error.__cause__ or error.__context__


def _is_of_library(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in LIBRARIES


@atexit.register  # while threads can still call Python
def _close_iterators() -> None:
    """Deletes all iterators over pipelines that call Python, whatever refers to them."""
    if not _living:
        return
    is_main = threading.current_thread() is threading.main_thread()
    before = (
        signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main else None
    )  # an interrupt here would keep the process from ending
    for iterator in list(_open):
        iterator.close()
    gc.collect()
    if _living:
        # A frame or an object of Keras or of the program refers to the iterator, which TensorFlow has no way to close.
        # `type(each)` is used, since `isinstance` would call proxies whose objects no longer exist.
        for iterator in [each for each in gc.get_objects() if issubclass(type(each), tf.data.Iterator)]:
            vars(iterator).clear()
    if before is not None:
        signal.signal(signal.SIGINT, before)
