"""Kills at random moments and manipulated folders: a small share of the runs of `benchmarks/safety/faults.py`."""

import multiprocessing
import re
from pathlib import Path

import pytest

from benchmarks.safety import endings, faults
from stacked_autoencoder import Autoencoder
from stacked_autoencoder.utils.files import in_turn

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize(("job", "count"), [("saving", 12), ("encoding", 5), ("mutations", 60)])
def test_nothing_is_lost_and_nothing_is_run(job, count, tmp_path, capsys):
    (row,) = faults.main(["--only", job, "--count", str(count), "--json", str(tmp_path / "rows.json")])
    if job == "saving":
        assert row["whole"] == row["kills"] == count
        assert min(row["the first"], row["the second"]) > 0  # kills before and after a swap
        assert row["in a swap"] > 0
    elif job == "encoding":
        assert row["the same store"] == 1
        assert row["moments"] >= 4  # kills at different moments
    else:
        assert row["changed"] >= 0.9 * count  # hypothesis may find no more new examples
        refused = [key for key, number in row.items() if key.endswith("refused") and number > 0]
        assert {key.partition(",")[0] for key in refused} >= {"stack", "store", "checkpoints"}
        assert sum(number for key, number in row.items() if key.startswith("stack") and key.endswith("refused")) > 5
        assert sum(number for key, number in row.items() if key.endswith("loaded")) > 5
    assert f"{job}, " in capsys.readouterr().out


@pytest.mark.slow
def test_every_process_ends(tmp_path):
    names = {f"script, {name}" for name in endings.SCRIPTS}
    names |= {f"{command}, broken pictures" for command in ("train", "reconstruct")}
    names |= {"train, a crop that is too large", "train, SIGTERM", "encode, SIGINT", "train, no reader"}
    row = endings.end_all(1, tmp_path, names)
    assert (row["runs"], row["hung"]) == (len(names), 0)


@pytest.mark.slow
def test_the_soak_counts_its_rounds(tmp_path):
    row = faults.soak(0.2, tmp_path)
    assert row["rounds"] >= 1
    assert row["growth"] > -1


def save_a_few_times(path, seed):
    stack = faults.small_stack(seed)
    for _ in range(5):
        stack.save(path)


@pytest.mark.slow
def test_two_writers_and_a_reader(tmp_path):
    path = tmp_path / "model"
    prints = {faults.small_stack(seed).stack.fingerprint(0) for seed in (1, 2)}
    faults.small_stack(1).save(path)
    writers = [faults.start(save_a_few_times, path, seed) for seed in (1, 2)]
    loads = 0
    while any(writer.is_alive() for writer in writers) or not loads:
        assert Autoencoder.load(path).stack.fingerprint(0) in prints
        loads += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def count_up(folder):
    for _ in range(20):
        with in_turn(folder):
            number = int((folder / "number").read_text())
            (folder / "number").write_text(str(number + 1))


def test_processes_wait_for_their_turn(tmp_path):
    (tmp_path / "number").write_text("0")
    processes = [faults.start(count_up, tmp_path) for _ in range(3)]
    for process in processes:
        process.join()
    assert (tmp_path / "number").read_text() == "60"
    assert multiprocessing.active_children() == []


def test_every_guarantee_names_an_existing_test():
    text, tests = (ROOT / "docs" / "explanation" / "guarantees.md").read_text(), ROOT / "tests"
    file, names = None, []
    for name, test in re.findall(r"`((?:\w+/)?test_\w+\.py|…)(?:::(\w+))?[^`]*`", text):
        file = file if name == "…" else name
        assert (tests / file).is_file(), file
        if test:
            assert f"def {test}(" in (tests / file).read_text(), test
            names.append(test)
    assert len(names) > 15
