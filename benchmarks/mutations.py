"""Saved stacks changed by someone who knows how they are checked: at random, by hypothesis, and by known attacks."""

import gc
import json
import resource
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.attacks import ATTACKS, MANIFEST, WEIGHT_ATTACKS, first_array, sign
from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, LoadError, SaltAndPepper, SequenceLevel

SLOWEST, LARGEST = 10.0, 1000  # seconds of a load, and MB of all of them
# What Python reports when something is run, read or written that a load has no business with.
ALARMING = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pickle.find_class", "marshal.loads"),
    *("exec", "socket.connect", "ctypes.dlopen", "os.remove", "os.rename"),
)


def write_bases(folder: Path) -> list[Path]:
    """One small stack of each kind, as they are saved, without what `load` never opens."""
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


# === What hypothesis draws ===

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
    """Puts any value in any place, takes a place away, or adds one."""
    manifest = json.loads((path / MANIFEST).read_text())
    if data.draw(st.booleans()):
        manifest["levels"][-1]["config"][data.draw(ARGUMENTS)] = data.draw(VALUES)
    else:
        place: Any = manifest
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
    (path / MANIFEST).write_text(json.dumps(manifest))
    return "values in autoencoder.json"


def change_bytes(path: Path, data: st.DataObject) -> str:
    """Turns, drops or repeats bytes of one file, and signs it."""
    files = sorted(file for file in path.rglob("*") if file.suffix in (".h5", ".npz") or file.name == MANIFEST)
    file = data.draw(st.sampled_from(files))
    content = bytearray(file.read_bytes())
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
    file.write_bytes(content)
    if file.name == MANIFEST:
        return "bytes of autoencoder.json"
    sign(path)
    return f"bytes of {file.suffix[1:]}"


def change_weights(path: Path, data: st.DataObject) -> str:
    """Lets weights point, or claim, to more than they are."""
    file = data.draw(st.sampled_from(sorted(path.rglob("*.h5"))))
    with h5py.File(file, "a") as content:
        data.draw(st.sampled_from(WEIGHT_ATTACKS))(*first_array(content), file)
    sign(path)
    return "attacks in weights"


def change_keras(path: Path, data: st.DataObject) -> str:
    """Puts an attack on Keras where Keras would look for it."""
    attack = data.draw(st.sampled_from(ATTACKS))
    for file in path.rglob("config.json"):
        file.write_text(json.dumps(attack))
    sign(path)
    return "attacks in config.json"


CHANGES = [change_manifest, change_manifest, change_bytes, change_bytes, change_weights, change_keras]


# === Loading them ===


class Alarm:
    """Notes what Python reports of this process while it is on; there is no way to take such a hook off again."""

    def __init__(self) -> None:
        self.is_on, self.events = False, []
        sys.addaudithook(self.note)

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_on and event in ALARMING:
            self.events.append((event, str(arguments)[:200]))


def load_all(count: int, folder: Path) -> dict[str, float]:
    """Loads so many changed stacks, and counts what becomes of them.

    Raises:
        RuntimeError: one ran something, took too long, or raised anything but `LoadError` or `FileNotFoundError`.
    """
    bases, alarm, told, slowest = write_bases(folder / "bases"), Alarm(), Counter(), 0.0
    for base in bases:
        Autoencoder.load(base)  # what is imported late is there now
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
    def load(data: st.DataObject) -> None:
        nonlocal slowest
        path = folder / "stranger"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(data.draw(st.sampled_from(bases)), path)
        what = data.draw(st.sampled_from(CHANGES))(path, data)
        began, alarm.is_on = time.perf_counter(), True
        try:
            Autoencoder.load(path)
            told[f"{what}: loaded"] += 1
        except (LoadError, FileNotFoundError):
            told[f"{what}: refused"] += 1
        finally:
            alarm.is_on = False
        seconds = time.perf_counter() - began
        slowest = max(slowest, seconds)
        if alarm.events or seconds > SLOWEST:
            raise RuntimeError(f"{what}: {seconds:.1f} s, ran {alarm.events}")
        if sum(told.values()) % 100 == 0:
            keras.backend.clear_session()
            gc.collect()

    load()
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    if megabytes > LARGEST:
        raise RuntimeError(f"Memory grew by {megabytes:.0f} MB")
    return {"changed": sum(told.values())} | dict(sorted(told.items())) | {"slowest s": slowest, "more MB": megabytes}
