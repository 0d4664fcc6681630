"""Known attacks on saved models, and manipulations by someone who knows the checks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stacked_autoencoder.utils.files import sha256

MANIFEST = "autoencoder.json"
# Published attacks on Keras's loading: classes, functions and configurations in `config.json`.
LAMBDA = {"module": "builtins", "class_name": "function", "config": "os.system", "registered_name": "function"}
ATTACKS = [
    {"class_name": "Lambda", "config": {"function": {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}}},
    {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp/stranger"}},
    {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "gASVIAAAAA=="}},
    {"module": "keras.src.ops.core", "class_name": "Switch", "config": {"branches": [LAMBDA]}},
    {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "file:///etc/passwd"}},
    {"name": "Lambda", "arguments": {"function": "os.system"}},
    {"name": "os.system", "arguments": {"command": "true"}},
    {"name": "stacked_autoencoder>Flow", "arguments": {"encoding_shape": [10**6] * 3}},
    {"name": "Mask", "arguments": {"rate": {"class_name": "Lambda"}}},
    {"name": "Huber", "arguments": {"delta": 1.0, "reduction": LAMBDA}},
    {"name": "RandomErasing", "arguments": {"factor": 10**9, "value_range": [0, 10**300]}},
    {"compile_config": {"loss": LAMBDA, "optimizer": LAMBDA}},
    {"build_config": {"input_shape": [None, 10**9, 10**9, 10**9]}},
    LAMBDA,
]


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the contents of `autoencoder.json`."""
    manifest = json.loads((path / MANIFEST).read_text())
    change(manifest)
    (path / MANIFEST).write_text(json.dumps(manifest))


def sign(path: Path) -> None:
    """Writes the SHA-256 of every existing file into `autoencoder.json`, as an attacker would."""

    def update(manifest: dict[str, Any]) -> None:
        existing = [name for name in manifest["files"] if (path / name).is_file()]
        manifest["files"] = {name: sha256(path / name) for name in existing}

    edit(path, update)


# === Weights that are not plain numbers ===


def first_array(group: h5py.Group) -> tuple[h5py.Group, str] | None:
    """The group of the first array of weights, and its name in the group."""
    for name, inside in group.items():
        if isinstance(inside, h5py.Dataset):
            return group, name
        array = first_array(inside)
        if array:
            return array
    return None


def external_link(group: h5py.Group, name: str, file: Path) -> None:
    other, place = file.with_name("other.h5"), group[name].name
    shutil.copy(file, other)
    del group[name]
    group[name] = h5py.ExternalLink(other.name, place)


def soft_link(group: h5py.Group, name: str, file: Path) -> None:
    place = next(other for other in group if other != name)
    del group[name]
    group[name] = h5py.SoftLink(f"{group.name}/{place}")


def external_storage(group: h5py.Group, name: str, file: Path) -> None:
    shape, secret = group[name].shape, file.with_name("secret")
    secret.write_bytes(bytes(4 * int(np.prod(shape))))
    del group[name]
    group.create_dataset(name, shape, "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def virtual(group: h5py.Group, name: str, file: Path) -> None:
    shape = group[name].shape
    del group[name]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource(str(file), "x", shape=shape)
    group.create_virtual_dataset(name, layout)


def never_written(group: h5py.Group, name: str, file: Path) -> None:
    del group[name]
    group.create_dataset(name, (10**6, 10**6), "f4")


def compressed(group: h5py.Group, name: str, file: Path) -> None:
    del group[name]
    group.create_dataset(name, data=np.zeros((2000, 2000), "f4"), compression="gzip")


def group_in_itself(group: h5py.Group, name: str, file: Path) -> None:
    group["again"] = group


def text(group: h5py.Group, name: str, file: Path) -> None:
    del group[name]
    group[name] = "os.system"


def not_finite(group: h5py.Group, name: str, file: Path) -> None:
    group[name][...] = np.nan


def other_place(group: h5py.Group, name: str, file: Path) -> None:
    group.move(name, "elsewhere")


WEIGHT_ATTACKS: list[Callable[[h5py.Group, str, Path], None]] = [
    *(external_link, soft_link, external_storage, virtual, never_written, compressed, group_in_itself, text),
    *(not_finite, other_place),
]
