"""The README's snippets run as they stand, and its commands are the ones that the checks run."""

import re
from pathlib import Path

import numpy as np
import pytest

from stacked_autoencoder import Autoencoder

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_snippets_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(snippets) == 5
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    told = re.findall(r"^(\w+) = \w+\.[\w\[\].]+\(.*# \((\d[\d, ]+)\)", "".join(snippets[:2]), flags=re.MULTILINE)
    assert len(told) == 6
    for levels in names["nets"].values():
        Autoencoder(shape=(28, 28, 1), levels=[type(level)(**level.get_config()) for level in levels])
    for name, shape in told:
        assert names[name].shape == tuple(int(side) for side in shape.split(",")), name
    assert names["store"].shape == (64, 16, 16, 32)
    standardised = np.concatenate(list(names["standardised"].as_numpy_iterator()))
    assert standardised.mean(axis=(0, 1, 2)) == pytest.approx(np.zeros(32), abs=1e-2)
    assert standardised.std(axis=(0, 1, 2)) == pytest.approx(np.ones(32), abs=1e-2)
    assert names["encoder"].output_shape == (None, 16, 16, 32)
    assert names["sae"].encoding_shape == (16,)
    assert names["drawn"].shape == (8, 64, 64, 3)
    assert set(names["table"][1]) == {"loss", "full_loss", "psnr", "ssim", "pca_loss", "values", "ratio"}


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
