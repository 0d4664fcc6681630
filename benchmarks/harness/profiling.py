"""The time of a compiled function by kind of operation, from TensorFlow's profiler."""

import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

PRODUCTS = ("Conv2D", "MatMul")
LAYOUT = ("Transpose", "Tile", "Concat", "Pad", "Slice", "Reshape", "BroadcastTo")
OPERATION = re.compile(r"[^:\s]+:\w+")  # excludes the executors, whose names have blanks or `::`
KINDS = ("products", "layout", "optimizer", "elementwise")


def shares(job: Callable[[], Any], optimizer: str = "level_muon") -> dict[str, float]:
    """The share of each kind of operation in the time of all operations.

    Args:
        job: calls the function, which must have been traced before.
        optimizer: name of the optimizer, which is the name scope of its operations.
    """
    times = Counter()
    for name, milliseconds in operation_times(job).items():
        times[_kind(name, optimizer)] += milliseconds
    return {kind: times[kind] / times.total() for kind in KINDS}


def operation_times(job: Callable[[], Any]) -> Counter[str]:
    """`name:type` of each operation → total milliseconds."""
    times: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        try:
            job()
        finally:
            tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if OPERATION.fullmatch(name) and "CPU" in plane.name:
                    times[name] += event.duration_ps / 1e9
    return times


def _kind(name: str, optimizer: str) -> str:
    scope, kind = name.rsplit(":", 1)
    if optimizer in scope.split("/"):
        return "optimizer"
    if any(word in kind for word in PRODUCTS):
        return "products"
    return "layout" if any(word in kind for word in LAYOUT) else "elementwise"
