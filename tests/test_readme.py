"""The commands and the picture of the README. Its Python blocks run in `test_docs.py`."""

import re
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.report import photograph

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_test_command_is_the_one_of_the_checks():
    assert 'pip install -e ".[test]" && pytest' in README
    checks = (ROOT / ".ci" / "run").read_text()
    assert '-e ".[test]"' in checks
    assert re.search(r"^pytest$", checks, flags=re.MULTILINE)


def test_the_first_command_runs_an_example_that_is_there():
    (path,) = re.findall(r'^pip install "\.\[examples\]" && python (\S+)$', README, flags=re.MULTILINE)
    assert (ROOT / path).is_file()


def test_the_pictures_are_small():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).stat().st_size < 300_000, path


@pytest.mark.slow
def test_the_photograph_is_drawn(tmp_path):
    decibels = photograph.main(
        ["--epochs", "1", "--crops", "64", "--size", "4", "--out", str(tmp_path / "photograph.png")]
    )
    assert min(decibels.values()) > 10
    with Image.open(tmp_path / "photograph.png") as picture:
        assert picture.size == (736, 264)
