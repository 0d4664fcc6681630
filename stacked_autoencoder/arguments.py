"""What users pass as plain arguments: numbers and names, or which argument should have been one."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def positive_int(name: str, value: Any, *, least: int = 1) -> int:
    """Returns `value` as an `int`, or says which argument should have been one."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}. Received: {name}={value!r}")
    return int(value)


def positive_ints(name: str, values: int | Sequence[int]) -> list[int]:
    """Returns one or several positive whole numbers as a list, or says which argument should have been that."""
    several = list(values) if isinstance(values, (list, tuple)) else [values]
    if not several:
        raise ValueError(f"`{name}` must be at least one whole number. Received: {name}={values!r}")
    return [positive_int(name, value) for value in several]


def non_negative(name: str, value: Any) -> float:
    """Returns `value` as a `float`, or says which argument should have been a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be a number of at least 0. Received: {name}={value!r}")
    return float(value)


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """`"did you mean 'relu'? "`, for a message; nothing if no known name is near."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? " if near else ""
