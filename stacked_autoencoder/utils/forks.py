"""Refuses to use TensorFlow in a forked process after TensorFlow has run in its parent, since it would hang there.

A fork does not copy the threads of TensorFlow, and the locks that they held stay locked.
"""

from __future__ import annotations

import os

_has_run = False  # whether this process, or the process it was forked from, has made a stack


_is_forked = False  # whether this process was forked after that


def check_not_forked() -> None:
    """Raises `RuntimeError` in a process in which TensorFlow would hang. Call it before TensorFlow is used."""
    global _has_run
    if _is_forked:
        raise RuntimeError(
            "TensorFlow has run before this process was forked, so it would hang in this process. Start processes with "
            '`multiprocessing.get_context("spawn")`, and load the stack in each: `Autoencoder.load(path)`. '
            "(`EncodingStore(path)[…]` works in forked processes, too.)"
        )
    _has_run = True


def _note_fork() -> None:
    global _is_forked
    _is_forked = _has_run


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_note_fork)
