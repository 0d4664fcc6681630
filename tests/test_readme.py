"""The README's snippets run as they stand, and its commands are the ones that the checks run."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from stacked_autoencoder import Autoencoder
from stacked_autoencoder.cli.arguments import parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


GUIDE = ("kinds", "encode", "heads", "train", "save", "pictures")  # pages that go on where the README ends


@pytest.mark.slow
def test_the_python_snippets_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages = {"README": README} | {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in GUIDE}
    names, told = {}, []
    for page, text in pages.items():
        snippets = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
        assert snippets, page
        for snippet in snippets:
            exec(compile(snippet, page, "exec"), names)
            shapes = re.findall(r"^(\w+) = \w+\.[\w\[\].]+\(.*# \((\d[\d, ]+)\)", snippet, flags=re.MULTILINE)
            for name, shape in shapes:
                assert names[name].shape == tuple(int(side) for side in shape.split(",") if side.strip()), name
            told += shapes
    assert len(told) == 10
    for levels in names["nets"].values():
        Autoencoder(shape=(28, 28, 1), levels=[type(level)(**level.get_config()) for level in levels])
    assert names["store"].shape == (64, 16, 16, 32)
    standardised = np.concatenate(list(names["standardised"].as_numpy_iterator()))
    assert standardised.mean(axis=(0, 1, 2)) == pytest.approx(np.zeros(32), abs=1e-2)
    assert standardised.std(axis=(0, 1, 2)) == pytest.approx(np.ones(32), abs=1e-2)
    assert names["encoder"].output_shape == (None, 16, 16, 32)
    assert names["encodings"].shape == (2, 16, 16, 32)
    assert names["sae"].encoding_shape == (16,)
    assert names["drawn"].shape == (8, 64, 64, 3)
    assert set(names["table"][1]) == {"loss", "full_loss", "psnr", "ssim", "pca_loss", "values", "ratio"}
    for file in (*names["files"], *map(Path, ("reconstructions.png", "losses.png", "budget.png"))):
        assert file.stat().st_size > 5_000


def test_the_test_command_is_the_one_of_the_checks():
    assert 'pip install -e ".[test]" && pytest' in README
    checks = (ROOT / ".ci" / "run").read_text()
    assert '-e ".[test]"' in checks
    assert re.search(r"^pytest$", checks, flags=re.MULTILINE)


def test_every_picture_and_file_that_the_readme_names_is_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"(?:examples|benchmarks)/\w+\.py", README):
        assert (ROOT / path).is_file(), path


def test_the_commands_of_the_docs_are_commands():
    pages = [README, *(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))]
    lines = [line for page in pages for line in re.findall(r"^stacked-autoencoder (.*)$", page, flags=re.MULTILINE)]
    assert len(lines) > 10
    for line in lines:
        words = [word.replace("$SLURM_ARRAY_TASK_ID", "0") for word in shlex.split(line)]
        assert parser().parse_args(words).command == words[0]
