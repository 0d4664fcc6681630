"""Checks that every command and script terminates: normally, after errors and signals, and if nobody reads its output.

Each run has a limit of `TIMEOUT` seconds. If a process is still running then, the job fails. Signals are sent at a
random moment of the time of an undisturbed run, so at the start, while pictures are read, during training or at the
end.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel, heads

TIMEOUT = 90  # seconds
N_PARALLEL = 2  # processes
N_GOOD, N_BROKEN = 40, 6

TRAIN = "from stacked_autoencoder import Autoencoder; sae = Autoencoder(shape=(64, 64, 3), size=8, n_out=4)\n"
LOAD = "from stacked_autoencoder import Autoencoder, EncodingStore; sae = Autoencoder.load('model')\n"
SCRIPTS = {
    "an error in reading": TRAIN + "sae.train('broken', epochs=1, verbose=0)",
    "an error in a callback": TRAIN
    + "import keras, numpy as np\n"
    + "def fail(*_): raise RuntimeError('mine')\n"
    + "sae.train('good', epochs=2, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=fail)])",
    "an error between two blocks": LOAD
    + "from stacked_autoencoder.data.adapters import as_source\n"
    + "for block in as_source('good', **sae.stack.source_options).blocks(4): next(block.batches(2)); 1 / 0",
    "an error in a loop over a store": LOAD
    + "for batch in EncodingStore('store').dataset(2, shuffle=True, repeat=True): 1 / 0",
    "an error in Keras's fit on a store": LOAD
    + "import keras\n"
    + "def fail(*_): raise RuntimeError('mine')\n"
    + "data = EncodingStore('store').dataset(2, shuffle=True, repeat=True)\n"
    + "model = keras.Sequential([keras.layers.Conv2D(4, 1)]); model.compile(loss='mse')\n"
    + "fail = keras.callbacks.LambdaCallback(on_train_batch_end=fail)\n"
    + "model.fit(data.map(lambda batch: (batch, batch)), steps_per_epoch=9, verbose=0, callbacks=[fail])",
    "an iterator that is left open": LOAD
    + "kept = iter(EncodingStore('store').dataset(2, repeat=True)); next(kept)\nclass Cycle: pass\n"
    + "cycle = Cycle(); cycle.me, cycle.kept = cycle, kept",
}


class Case(NamedTuple):
    """A process and the way in which it ends.

    Attributes:
        name: name of the case.
        arguments: arguments of the process.
        codes: correct exit codes.
        way: `"undisturbed"`, `"no reader"`, or the name of a signal.
    """

    name: str
    arguments: list[str]
    codes: tuple[int, ...]
    way: str = "undisturbed"


def prepare(folder: Path) -> None:
    """Writes pictures, a saved stack, a store and a head."""
    rng = np.random.default_rng(0)
    for name, broken in (("good", 0), ("one broken", 1), ("broken", N_BROKEN)):
        (folder / name).mkdir()
        for index in range(N_GOOD):
            picture = rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)
            (folder / name / f"{index}.png").write_bytes(tf.io.encode_png(picture).numpy())
        for index in range(broken):
            (folder / name / f"broken{index}.jpg").write_bytes(b"\xff\xd8\xffnope")
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=(64, 64, 3), levels=[ConvLevel(n_out=4, size=8)])
    sae.train(rng.integers(0, 256, (64, 64, 64, 3), dtype=np.uint8), epochs=0, verbose=0)
    sae.save(folder / "model")
    encodings = sae.encode(rng.integers(0, 256, (64, 64, 64, 3), dtype=np.uint8))
    sae.encode_to(folder / "store", rng.integers(0, 256, (64, 64, 64, 3), dtype=np.uint8), shard_size=8, verbose=0)
    head = heads.VAE(encodings.shape[1:], latent_dim=2)
    head.compile()
    head.fit(encodings, epochs=1, verbose=0)
    head.save(folder / "head.keras")


def cases() -> Iterator[Case]:
    command = [sys.executable, "-m", "stacked_autoencoder"]
    train = ["--side", "64", "--size", "8", "--n-out", "4", "--epochs", "1", "--save-path", "{out}"]
    commands = {
        "train": ["train", "good", *train],
        "train, two levels": ["train", "good", "--n-levels", "2", *train],
        "info": ["info", "model"],
        "evaluate": ["evaluate", "model", "good"],
        "encode": ["encode", "model", "good", "{out}"],
        "decode": ["decode", "model", "store", "{out}"],
        "reconstruct": ["reconstruct", "model", "good", "{out}"],
        "generate": ["generate", "model", "head.keras", "{out}", "-n", "8"],
        "export": ["export", "model", "{out}", "--format", "litert"],
    }
    for name, words in commands.items():
        yield Case(name, [*command, *words], (0,))
    for name in ("train", "evaluate", "encode", "reconstruct"):
        words = commands[name]
        for what, folder, codes in (("broken pictures", "broken", (1,)), ("a warning", "one broken", (0,))):
            changed = [folder if word == "good" else word for word in words]
            yield Case(f"{name}, {what}", [*command, *changed], codes)
        crop = [word for word in words if word not in ("--side", "64")]
        yield Case(f"{name}, a crop that is too large", [*command, *crop, "--crop", "200"], (1, 2))
        for way in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, way)
            # Before Python handles the signal, the signal kills the process; at the end, the work may be complete.
            yield Case(f"{name}, {way}", [*command, *words], (0, 1, 128 + number, -number), way)
        yield Case(f"{name}, no reader", [*command, *words], (0, 1), "no reader")
    for name, program in SCRIPTS.items():
        yield Case(f"script, {name}", [sys.executable, "-c", program], (0,) if "left open" in name else (1,))


def run(case: Case, folder: Path, number: int, seconds: float) -> float:
    """Runs one process; returns its time in seconds.

    Args:
        seconds: time within which a signal is sent.

    Raises:
        RuntimeError: the process did not terminate, or had an incorrect exit code.
    """
    arguments = [word.replace("{out}", f"out{number}") for word in case.arguments]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    errors = folder / f"errors{number}.txt"
    began = time.monotonic()
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            arguments, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr
        )
        if case.way == "no reader":
            process.stdout.close()
        elif case.way != "undisturbed":
            time.sleep(random.Random(number).uniform(0, seconds))
            process.send_signal(getattr(signal, case.way))
        try:
            if process.stdout.closed:
                process.wait(TIMEOUT)
            else:
                process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"{case.name}: still running after {TIMEOUT} s. {errors.read_text()[-2000:]}") from None
    if process.returncode not in case.codes:
        raise RuntimeError(f"{case.name}: exit code {process.returncode}. {errors.read_text()[-2000:]}")
    return time.monotonic() - began


def end_all(count: int, folder: Path, names: Container[str] | None = None) -> dict[str, float]:
    """Runs every case `count` times.

    Args:
        names: names of the cases to run; all by default.
    """
    prepare(folder)
    every = [case for case in cases() if names is None or case.name in names]
    undisturbed = [case for case in every if case.way == "undisturbed"]
    others = [case for case in every if case.way != "undisturbed"]
    slowest, seconds, numbers = 0.0, {}, iter(range(10**9))
    with ThreadPoolExecutor(N_PARALLEL) as pool:
        for some in (undisturbed, others):
            jobs = [case for _ in range(count) for case in some]
            takes = [seconds.get(case.name.partition(",")[0], 5.0) for case in jobs]
            results = pool.map(run, jobs, [folder] * len(jobs), numbers, takes)
            for case, taken in zip(jobs, results, strict=True):
                seconds[case.name] = taken
                slowest = max(slowest, taken)
    return {"cases": len(every), "runs": count * len(every), "hung": 0, "slowest s": slowest}
