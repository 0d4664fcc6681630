"""Loads stacks, stores, checkpoints and pictures that were manipulated by someone who knows the checks.

Hypothesis draws the changes at random and from known attacks.
"""

import gc
import json
import os
import resource
import shutil
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.safety.attacks import ATTACKS, MANIFEST, WEIGHT_ATTACKS, first_array, sign
from stacked_autoencoder import (
    Autoencoder,
    ConvLevel,
    DenseLevel,
    EncodingStore,
    ImageFolder,
    LoadError,
    SaltAndPepper,
    SequenceLevel,
)
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.training.checkpoints import Checkpoints

SLOWEST, LARGEST = 10.0, 1000  # seconds per load, and MB in total
# Audit events of Python for operations that loading must not perform.
ALARMING = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pickle.find_class", "marshal.loads"),
    *("exec", "socket.connect", "ctypes.dlopen"),
)
# Audit events for changed files, which are permitted only when training continues from checkpoints.
CHANGING = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.truncate")


def write_bases(folder: Path) -> list[Path]:
    """Saves one small stack of each kind, without the files that `load` never opens."""
    keras.utils.set_random_seed(0)
    noise = SaltAndPepper(0.2)
    stacks = {
        "conv": Autoencoder(shape=(8, 8, 1), levels=[ConvLevel(4, 1, 4, corruption=noise), DenseLevel([5, 3], "relu")]),
        "variational": Autoencoder(shape=(6,), levels=[DenseLevel(3, kl_weight=0.1, penalty="l1", loss="huber")]),
        "sequence": Autoencoder(shape=(3, 2), levels=[SequenceLevel(3, conditional=True, target="both")]),
    }
    rng, paths = np.random.default_rng(0), []
    for name, stack in stacks.items():
        stack.train(rng.uniform(-1, 1, (64, *stack.shape)).astype(np.float32), epochs=0, verbose=0)
        path = stack.save(folder / name)
        for name in json.loads((path / MANIFEST).read_text())["files"]:
            if not name.endswith((".h5", ".npz", "config.json")):
                (path / name).unlink()
        sign(path)
        paths.append(path)
    return paths


# === Values and changes that hypothesis draws ===

NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 3, 10**3, 10**6, 2**31, 2**63, 10**30, float("nan"), float("inf"), 1e308]),
    st.integers(-4, 40),
    st.floats(),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8), st.sampled_from(ATTACKS)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
ARGUMENTS = st.sampled_from(
    [
        *("size", "n_out", "units", "depth", "n_scalings", "loss", "penalty", "corruption", "activation", "kl_weight"),
        *("latent_dim", "tied", "cell", "target", "conditional", "mask_value", "upsampling", "output_activation"),
    ]
)


def change_manifest(path: Path, data: st.DataObject) -> str:
    """Replaces, removes or adds a value."""
    manifest = json.loads((path / MANIFEST).read_text())
    if data.draw(st.booleans()):
        manifest["levels"][-1]["config"][data.draw(ARGUMENTS)] = data.draw(VALUES)
    else:
        change_value(manifest, data)
    (path / MANIFEST).write_text(json.dumps(manifest))
    return "values in autoencoder.json"


def change_value(place: Any, data: st.DataObject) -> None:
    """Replaces or removes a value in nested dicts and lists."""
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    if data.draw(st.integers(0, 4)) == 0:
        del place[key]
    else:
        place[key] = data.draw(VALUES)


def changed_bytes(content: bytes, data: st.DataObject) -> bytes:
    """Changes or removes a few bytes."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(0, min(2000, len(content) - 1))))
        action = data.draw(st.integers(0, 3))
        if action == 0:
            content[place] = data.draw(st.integers(0, 255))
        elif action == 1:
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif action == 2:
            content[place : place + 8] = data.draw(st.binary(min_size=8, max_size=8))
        else:
            del content[place : place + data.draw(st.sampled_from([1, 8, 1 << 30]))]
        if not content:
            break
    return bytes(content)


def change_bytes(path: Path, data: st.DataObject) -> str:
    """Changes bytes of one file, and updates its checksum."""
    files = sorted(file for file in path.rglob("*") if file.suffix in (".h5", ".npz") or file.name == MANIFEST)
    file = data.draw(st.sampled_from(files))
    file.write_bytes(changed_bytes(file.read_bytes(), data))
    if file.name == MANIFEST:
        return "bytes of autoencoder.json"
    sign(path)
    return f"bytes of {file.suffix[1:]}"


def change_weights(path: Path, data: st.DataObject) -> str:
    """Replaces weights by one of `WEIGHT_ATTACKS`."""
    file = data.draw(st.sampled_from(sorted(path.rglob("*.h5"))))
    with h5py.File(file, "a") as content:
        data.draw(st.sampled_from(WEIGHT_ATTACKS))(*first_array(content), file)
    sign(path)
    return "attacks in weights"


def change_keras(path: Path, data: st.DataObject) -> str:
    """Writes an attack on Keras into `config.json`."""
    attack = data.draw(st.sampled_from(ATTACKS))
    for file in path.rglob("config.json"):
        file.write_text(json.dumps(attack))
    sign(path)
    return "attacks in config.json"


# === Stores, checkpoints and pictures ===


def change_json(path: Path, data: st.DataObject) -> str:
    """Replaces or removes a value in a JSON file."""
    file = data.draw(st.sampled_from(sorted(path.glob("*.json"))))
    content = json.loads(file.read_text())
    change_value(content, data)
    file.write_text(json.dumps(content))
    return f"values in {file.name}"


def change_any_bytes(path: Path, data: st.DataObject) -> str:
    """Changes bytes of one file."""
    file = data.draw(st.sampled_from(sorted(file for file in path.rglob("*") if file.is_file())))
    file.write_bytes(changed_bytes(file.read_bytes(), data))
    return f"bytes of {file.suffix[1:]}"


def change_kind(path: Path, data: st.DataObject) -> str:
    """Deletes a file, or replaces it with a folder, a link, a named pipe, a device or a huge sparse file."""
    file = data.draw(st.sampled_from(sorted(file for file in path.rglob("*") if file.is_file())))
    file.unlink()
    what = data.draw(st.sampled_from(["nothing", "folder", "link", "zero", "itself", "pipe", "sparse", "empty"]))
    if what == "folder":
        file.mkdir()
    elif what == "pipe":
        os.mkfifo(file)
    elif what in ("sparse", "empty"):
        with file.open("wb") as stream:
            stream.truncate(1 << 42 if what == "sparse" else 0)
    elif what != "nothing":
        file.symlink_to({"link": path.parent / "outside" / "secret", "zero": "/dev/zero", "itself": file}[what])
    return f"{what} in place of a file"


def change_npz(path: Path, data: st.DataObject) -> str:
    """Changes names, shapes, types or values in a file of arrays."""
    file = data.draw(st.sampled_from(sorted(path.rglob("*.npz"))))
    with np.load(file) as arrays:
        content = dict(arrays)
    name = data.draw(st.sampled_from(sorted(content)))
    action = data.draw(st.integers(0, 4))
    if action == 0:
        content[data.draw(st.sampled_from(["x", "variable_999", "best_0", "level_0", "a/b", "\x1b[2J"]))] = content.pop(
            name
        )
    elif action == 1:
        content[name] = np.zeros(data.draw(st.sampled_from([(), (0,), (3, 3), (10**6,)])), content[name].dtype)
    elif action == 2:
        content[name] = content[name].astype(data.draw(st.sampled_from(["f2", "i8", "U3", "c8", "?", "u1"])))
    elif action == 3:
        content[name] = np.full_like(content[name], data.draw(st.sampled_from([0, 1, 255])))
    elif name == "meta" or "meta" in content:
        meta = json.loads(content["meta"].tobytes())
        change_value(meta, data)
        content["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(file, **content)
    return "arrays of npz"


class Base(NamedTuple):
    """A folder that may come from an untrusted person.

    Attributes:
        kind: kind of the folder.
        path: path of the folder.
        changes: possible changes.
        use: function that opens the folder.
        errors: errors that `use` may raise.
        is_silent: whether `use` must not write, move or delete files.
    """

    kind: str
    path: Path
    changes: list[Callable[[Path, st.DataObject], str]]
    use: Callable[[Path], Any]
    errors: tuple[type[Exception], ...]
    is_silent: bool = True


def read_store(path: Path) -> None:
    store = EncodingStore(path)
    store[: min(len(store), 8)], store.names, store.labels
    for _ in store.dataset(4, shuffle=True):
        pass


def continue_training(path: Path) -> None:
    """Continues training from checkpoints that hold the state of a callback."""
    keras.utils.set_random_seed(1)
    stack = Autoencoder(shape=(8, 8, 1), levels=[ConvLevel(2, 1, 4, depth=1)])
    stop = keras.callbacks.EarlyStopping("loss", patience=9)
    stack.train(IMAGES, epochs=2, verbose=0, checkpoint_dir=path, callbacks=[stop])


def read_pictures(path: Path) -> None:
    with warnings.catch_warnings():  # about unreadable pictures
        warnings.simplefilter("ignore", UserWarning)
        source = as_source(ImageFolder(path), (None, None, 3))
        for _ in source.in_order(8):
            pass


IMAGES = np.random.default_rng(0).uniform(-1, 1, (64, 8, 8, 1)).astype(np.float32)


def write_others(folder: Path) -> list[Base]:
    """A store, checkpoints of a finished and of an unfinished training, and a folder of pictures."""
    store, over, begun, pictures = (folder / name for name in ("store", "over", "begun", "pictures"))
    keras.utils.set_random_seed(0)
    stack = Autoencoder(shape=(8, 8, 1), levels=[ConvLevel(2, 1, 4, depth=1)])
    stack.train(IMAGES, epochs=0, verbose=0)
    stack.encode_to(store, (IMAGES, np.arange(64)), shard_size=16, verbose=0)
    continue_training(over)

    class Killed(BaseException):
        pass

    write = Checkpoints.finish
    Checkpoints.finish = lambda *_: (_ for _ in ()).throw(Killed)
    try:
        continue_training(begun)
    except Killed:
        Checkpoints.finish = write
    pictures.mkdir()
    for index, image in enumerate(np.random.default_rng(0).integers(0, 256, (30, 12, 12, 3), dtype=np.uint8)):
        suffix = ("png", "jpg", "gif", "bmp", "webp")[index % 5]
        Image.fromarray(image).save(pictures / f"{index:02d}.{suffix}")
    arrays = [change_npz, change_npz, change_any_bytes, change_json, change_kind]
    return [
        Base("store", store, [change_json, change_json, change_any_bytes, change_kind], read_store, READ_ERRORS),
        Base("checkpoints", over, arrays, continue_training, READ_ERRORS, False),
        Base("checkpoints", begun, arrays, continue_training, (*READ_ERRORS, FloatingPointError), False),
        Base("pictures", pictures, [change_any_bytes, change_kind], read_pictures, (ValueError,)),
    ]


READ_ERRORS = (ValueError, FileNotFoundError)
CHANGES = [change_manifest, change_manifest, change_bytes, change_bytes, change_weights, change_keras, change_kind]


# === Loading ===


class Alarm:
    """Records audit events of this process while `watched` is set; Python cannot remove such a hook."""

    def __init__(self) -> None:
        self.watched: tuple[str, ...] = ()
        self.events: list[tuple[str, str]] = []
        sys.addaudithook(self.note)

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in self.watched:
            self.events.append((event, str(arguments)[:200]))


def load_all(count: int, folder: Path) -> dict[str, float]:
    """Opens `count` changed stacks, stores, checkpoints and folders of pictures, and counts the results.

    Raises:
        RuntimeError: a load executed something, changed a file outside, took too long or raised an unexpected error.
    """
    bases = [
        Base("stack", path, CHANGES, Autoencoder.load, (LoadError, FileNotFoundError))
        for path in write_bases(folder / "bases")
    ]
    bases += write_others(folder / "bases")
    outside = folder / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    alarm, counts, slowest = Alarm(), Counter(), 0.0
    for base in bases:
        copy = shutil.copytree(base.path, folder / "unchanged")
        base.use(copy)  # so that late imports are done
        shutil.rmtree(copy)
    for encoding in ("utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-32-be", "utf-32-le", "utf-8-sig"):
        "".encode(encoding)  # the encodings of JSON, which Python imports late
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @seed(0)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def use(data: st.DataObject) -> None:
        nonlocal slowest
        path = folder / "stranger"
        shutil.rmtree(path, ignore_errors=True)
        base = data.draw(st.sampled_from(bases))
        shutil.copytree(base.path, path)
        what = f"{base.kind}, {data.draw(st.sampled_from(base.changes))(path, data)}"
        began, alarm.watched = time.perf_counter(), ALARMING + (CHANGING if base.is_silent else ())
        try:
            base.use(path)
            counts[f"{what}: loaded"] += 1
        except base.errors:
            counts[f"{what}: refused"] += 1
        finally:
            alarm.watched = ()
        seconds = time.perf_counter() - began
        slowest = max(slowest, seconds)
        is_safe = (outside / "secret").read_text() == "secret" and len(list(outside.iterdir())) == 1
        if alarm.events or seconds > SLOWEST or not is_safe:
            raise RuntimeError(f"{what}: {seconds:.1f} s, executed {alarm.events}, files outside unchanged: {is_safe}")
        if sum(counts.values()) % 100 == 0:
            keras.backend.clear_session()
            gc.collect()

    use()
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    if megabytes > LARGEST:
        raise RuntimeError(f"Memory grew by {megabytes:.0f} MB")
    return (
        {"changed": sum(counts.values())} | dict(sorted(counts.items())) | {"slowest s": slowest, "more MB": megabytes}
    )
