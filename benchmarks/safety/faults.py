"""Kills processes, manipulates files, and checks that nothing is lost and no code is executed.

    python -m benchmarks.safety.faults                              # two hours
    python -m benchmarks.safety.faults --only saving --count 20

Each job prints counts, and raises an error if a check fails:

- saving: a process that repeatedly saves one stack over another is killed before, during or after a swap. The folder
  must load as one of the two complete stacks.
- encoding: a process that encodes to a store is killed and started again. The store must equal that of an undisturbed
  process.
- training: a process that trains with checkpoints is killed and started again until it finishes. Its weights must equal
  those of an undisturbed process.
- mutations: `autoencoder.json`, weights and arrays are changed at random and by known attacks, by someone who knows the
  checks. Loading must succeed or raise `LoadError`. It must not execute code, or take more than ten seconds or a
  gigabyte.
- endings: commands and scripts must terminate after errors and signals.
- soak: one process trains, saves, loads and encodes repeatedly. The growth of its memory is measured.
"""

import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from benchmarks.harness import table
from benchmarks.harness.process import megabytes
from benchmarks.safety import endings, mutations
from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.saving.manifest import identity, read_manifest, staging_folder

CONTEXT = multiprocessing.get_context("forkserver")
COUNTS = {"saving": 200, "encoding": 50, "training": 50, "mutations": 10_000, "endings": 20, "soak": 60}
TIMEOUT = 120  # seconds for a process to finish


def small_stack(seed: int, n_levels: int = 1) -> Autoencoder:
    keras.utils.set_random_seed(seed)
    return Autoencoder(shape=(16, 16, 3), levels=[ConvLevel(n_out=4, size=8, n_scalings=1) for _ in range(n_levels)])


def start(job: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    CONTEXT.set_forkserver_preload(["stacked_autoencoder.autoencoder"])  # so that each process starts quickly
    process = CONTEXT.Process(target=job, args=arguments)
    process.start()
    return process


def kill_after(process: multiprocessing.Process, has_begun: Callable[[], bool], seconds: float) -> None:
    """Kills a process `seconds` after `has_begun` returns true."""
    until = time.monotonic() + TIMEOUT
    while not has_begun() and process.is_alive() and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(seconds)
    if not process.is_alive():
        raise RuntimeError("The process ended before it was killed.")
    process.kill()
    process.join()


# === Saving ===


def save_again_and_again(path: Path, seeds: tuple[int, int], began: Path) -> None:
    stacks = [small_stack(seed) for seed in seeds]
    began.touch()
    while True:
        for stack in stacks:
            stack.save(path)


def kill_saving(count: int, folder: Path) -> dict[str, int]:
    """Kills `count` processes that save over a stack; the folder must hold one of the two stacks, complete.

    The kills alternate between the first save, the start of its swap, and a random time after that. A fixed share of
    the time of a save would miss the swap on a busy machine.
    """
    path, rng = folder / "model", np.random.default_rng(0)
    prints = {}
    for seed in (1, 2):
        stack, before = small_stack(seed), time.perf_counter()
        prints[stack.stack.fingerprint(0)] = seed
        stack.save(path)
        seconds = time.perf_counter() - before
    (path / "notes.txt").write_text("mine")
    counts, current, interrupted = {1: 0, 2: 0}, 2, 0
    for kill in range(count):
        began, was = folder / f"began{kill}", identity(path)
        process = start(save_again_and_again, path, (3 - current, current), began)
        has_begun = began.exists if kill % 3 == 0 else lambda was=was: identity(path) != was
        kill_after(process, has_begun, 0 if kill % 3 == 1 else rng.uniform(0, seconds))
        interrupted += staging_folder(path, read_manifest(path)) is not None
        current = prints[Autoencoder.load(path).stack.fingerprint(0)]
        counts[current] += 1
        if (path / "notes.txt").read_text() != "mine":
            raise RuntimeError("A file of the user was changed.")
    small_stack(1).save(path)
    left = [entry.name for entry in (*folder.iterdir(), *path.iterdir()) if entry.name.startswith(".")]
    if left:
        raise RuntimeError(f"The next save left {left} behind.")
    whole = sum(counts.values())
    return {"kills": count, "whole": whole, "the first": counts[1], "the second": counts[2], "in a swap": interrupted}


# === Encoding ===


def encode(model: Path, images: Path, store: Path) -> None:
    Autoencoder.load(model).encode_to(store, np.load(images, mmap_mode="r"), shard_size=8, verbose=0)


def encode_in_a_process(model: Path, images: Path, store: Path) -> None:
    """Encodes in a process like those that are killed: settings such as oneDNN change the last bits of encodings."""
    process = start(encode, model, images, store)
    process.join(TIMEOUT)
    if process.exitcode != 0:
        raise RuntimeError(f"The process did not finish encoding within {TIMEOUT} s. Received: {process.exitcode}.")


def kill_encoding(count: int, folder: Path) -> dict[str, int]:
    """Kills `count` processes that encode; an undisturbed process must then finish the same store."""
    images, path = folder / "images.npy", folder / "store"
    model = small_stack(1).save(folder / "model")
    np.save(images, np.random.default_rng(1).integers(0, 256, (100 * count, 16, 16, 3), dtype=np.uint8))
    encode_in_a_process(model, images, folder / "whole")
    rng, shards = np.random.default_rng(2), [0]
    for _ in range(count):
        process = start(encode, model, images, path)
        kill_after(process, lambda: n_shards(path) > shards[-1], rng.uniform(0, 0.02))
        shards.append(n_shards(path))
    encode_in_a_process(model, images, path)
    if contents(path) != contents(folder / "whole"):
        raise RuntimeError("The store differs from that of an undisturbed process.")
    return {"kills": count, "the same store": 1, "moments": len(set(shards)) - 1}


def n_shards(store: Path) -> int:
    return len(list(store.glob("*.npy")))


# === Training ===


def train(images: Path, checkpoints: Path, model: Path) -> None:
    stack = small_stack(1, n_levels=2)
    stack.train(np.load(images), epochs=[6, 6], batch_size=32, verbose=0, checkpoint_dir=checkpoints)
    stack.save(model)


def kill_training(count: int, folder: Path) -> dict[str, int]:
    """Kills `count` processes that train; each finished training must have the weights of an undisturbed one.

    A training is killed and started again until it finishes, and then the next one starts.
    """
    images = folder / "images.npy"
    np.save(images, np.random.default_rng(1).uniform(-1, 1, (512, 16, 16, 3)).astype(np.float32))
    for name in ("undisturbed", "again"):  # the first takes longer because of imports
        began = time.perf_counter()
        start(train, images, folder / name, folder / "whole").join()
        seconds = time.perf_counter() - began
    expected = Autoencoder.load(folder / "whole").stack.fingerprint(1)
    rng, kills, same, is_finished = np.random.default_rng(2), 0, 0, True
    while kills < count or not is_finished:
        process = start(train, images, folder / f"checkpoints{same}", folder / f"model{same}")
        process.join(rng.uniform(0.3, 0.9) * seconds if kills < count else TIMEOUT)
        is_finished = not process.is_alive()
        if not is_finished:
            process.kill()
            process.join()
            kills += 1
            continue
        if process.exitcode != 0 or Autoencoder.load(folder / f"model{same}").stack.fingerprint(1) != expected:
            raise RuntimeError("A killed training did not end with the weights of an undisturbed one.")
        same += 1
    return {"kills": kills, "the same weights": same}


# === Memory over time ===


def soak(count: float, folder: Path) -> dict[str, float]:
    """Trains, saves, loads and encodes for `count` minutes, and measures the growth of memory.

    The median memory of the second sixth of the rounds is compared with that of the last sixth. Caches are filled in
    the first sixth, and memory varies by a twentieth from round to round.
    """
    images = np.random.default_rng(1).uniform(-1, 1, (256, 16, 16, 3)).astype(np.float32)
    began, held, next_report = time.monotonic(), [], 5
    while time.monotonic() - began < 60 * count:
        stack = small_stack(len(held), n_levels=2)
        stack.train(images, epochs=1, verbose=0)
        loaded = Autoencoder.load(stack.save(folder / "model"))
        if not np.array_equal(loaded.encode(images), stack.encode(images)):
            raise RuntimeError("The loaded stack encodes differently from the saved stack.")
        held.append(megabytes())
        if time.monotonic() - began > 60 * next_report:
            print(f"{next_report} minutes, {len(held)} rounds: {held[-1]:.0f} MB", flush=True)
            next_report += 5
    sixth = math.ceil(len(held) / 6)
    first, last = np.median(held[-5 * sixth :][:sixth]), np.median(held[-sixth:])
    return {"rounds": len(held), "MB": first, "growth": last / first - 1}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


JOBS = {
    "saving": kill_saving,
    "encoding": kill_encoding,
    "training": kill_training,
    "mutations": mutations.load_all,
    "endings": endings.end_all,
    "soak": soak,
}


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=[*JOBS], default=[*JOBS])
    parser.add_argument("--count", type=int, help=f"number of kills, mutations, runs or minutes; default: {COUNTS}")
    arguments = parser.parse_args(argv)
    rows = []
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            rows.append({"job": name} | JOBS[name](arguments.count or COUNTS[name], Path(folder)))
        counts = ", ".join(f"{what}: {count:.4g}" for what, count in rows[-1].items() if what != "job")
        print(f"{name}, {time.perf_counter() - began:.0f} s. {counts}")
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
