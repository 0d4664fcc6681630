"""Refuses to compute in a process that was forked from one in which TensorFlow has run: it would hang there.

The threads of TensorFlow are not copied by a fork, and what they held locked stays locked.
"""

from __future__ import annotations

import os

_has_run = False  # whether this process, or the one it was forked from, has made a stack


_is_forked = False  # whether it had when this process was forked


def check_not_forked() -> None:
    """Raises `RuntimeError` in a process in which TensorFlow would hang; to be called before it is used."""
    global _has_run
    if _is_forked:
        raise RuntimeError(
            "TensorFlow has run before this process was forked, and would wait forever in it. Start processes with "
            '`multiprocessing.get_context("spawn")`, and load the stack in each: `Autoencoder.load(path)`. '
            "(`EncodingStore(path)[…]` works in forked processes, too.)"
        )
    _has_run = True


def _note_fork() -> None:
    global _is_forked
    _is_forked = _has_run


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_note_fork)
