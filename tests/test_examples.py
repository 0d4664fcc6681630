"""Every example, tiny."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.photographs import photograph, random_crops, tiles

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))  # as `python examples/…` does

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.slow
@pytest.mark.parametrize("own_pictures", [False, True])
def test_quickstart(example, tmp_path, capsys, own_pictures):
    quickstart = example("quickstart")
    arguments = ["--epochs", "1", "1", "--crops", "64", "--size", "4", "--out", str(tmp_path / "out")]
    if own_pictures:
        rng = np.random.default_rng(0)
        (tmp_path / "mine").mkdir()
        for index in range(3):
            Image.fromarray(rng.integers(0, 256, (80, 100, 3), np.uint8)).save(tmp_path / "mine" / f"{index}.png")
        Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "mine" / "small.png")
        arguments += ["--data", str(tmp_path / "mine")]
    budget = quickstart.main(arguments)
    for row in budget.values():
        assert row["full_loss"] <= 1.05 * row["pca_loss"]
    assert (tmp_path / "out" / "reconstructions.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "losses.png").stat().st_size > 5_000
    assert (tmp_path / "out" / "model" / "encoder1" / "saved_model.pb").is_file()
    printed = capsys.readouterr().out
    assert "PCA's loss" in printed
    assert ("Left out, smaller than 64 pixels" in printed) == own_pictures


def test_quickstart_needs_two_pictures(example, tmp_path):
    with pytest.raises(SystemExit, match="needs at least two pictures"):
        example("quickstart").main(["--data", str(tmp_path)])


def test_photographs_are_cut_the_same_way_every_time():
    picture = photograph("chelsea.png")
    assert picture.shape == (300, 451, 3)
    np.testing.assert_array_equal(tiles([picture], 64)[8], picture[64:128, 64:128])  # 4 rows of 7
    crops = random_crops([picture], 4, 32)
    assert (crops.shape, crops.dtype) == ((4, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(random_crops([picture], 2, 32), crops[:2])
    assert (random_crops([picture], 4, 32, seed=1) != crops).any()


def test_crops_of_one_colour_show_it_with_its_channels_swapped():
    crops = random_crops([np.full((40, 40, 3), (10, 20, 30), np.uint8)], 64, 32)
    colours = {tuple(crop[0, 0].tolist()) for crop in crops}
    assert len(colours) == 6
    assert {tuple(sorted(colour)) for colour in colours} == {(10, 20, 30)}
    kept = random_crops([np.full((40, 40, 3), (10, 20, 30), np.uint8)], 64, 32, swap_colours=False)
    assert np.all(kept == (10, 20, 30))


def test_crops_are_the_same_but_for_their_colours():
    picture = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    swapped, kept = (random_crops([picture], 12, 32, swap_colours=swap) for swap in (True, False))
    assert np.any(swapped != kept)
    np.testing.assert_array_equal(np.sort(swapped, axis=-1), np.sort(kept, axis=-1))
