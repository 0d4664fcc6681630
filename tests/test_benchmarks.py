"""Every benchmark, tiny: that it runs and compares what it says, not how fast."""

import json

import pytest

from benchmarks import quality
from tests.conftest import blobs


def pixels(count, side, seed=0):
    return ((blobs(count, side, seed=seed) + 1) * 127.5).astype("uint8")


@pytest.mark.slow
def test_quality_of_photographs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(quality, "photographs", lambda: (pixels(64, 64), pixels(8, 64, seed=1)))
    monkeypatch.setattr(quality, "SIZE", 4)
    arguments = [
        "--only",
        "photographs",
        "--codes",
        "4x4x32",
        "--minutes",
        "0.02",
        "--json",
        str(tmp_path / "rows.json"),
    ]
    rows = quality.main(arguments)
    assert [line["design"] for line in rows] == ["PCA", "usual design", "ours"]
    assert {line["values"] for line in rows} == {4 * 4 * 32}
    assert rows[2]["loss"] <= 1.01 * rows[0]["loss"]
    assert rows[1]["step_ms"] > 0
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    assert "usual design" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("part", ["fashion", "greedy"])
def test_quality_on_fashion_mnist(monkeypatch, part):
    images, valid = quality.fashion_mnist()
    assert images.shape == (55000, 28, 28, 1)
    assert (images.min(), images.max()) == (0, 1)
    monkeypatch.setattr(quality, "fashion_mnist", lambda: (images[:256], valid[:64]))
    monkeypatch.setattr(quality, "SIZE", 4)
    rows = quality.main(["--only", part, "--minutes", "0.02", "--epochs", "1"])
    assert len(rows) == {"fashion": 4, "greedy": 2}[part]
    assert all(0 < line["loss"] < 0.5 for line in rows)
    assert all(line["of_pca"] < 1.1 for line in rows if "ours" in line["design"])
