"""Every example runs, with small data and few epochs."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import clothes, textures
from stacked_autoencoder import Autoencoder
from stacked_autoencoder.datasets import photograph, random_crops, tiles

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
    assert "loss / PCA loss" in printed
    assert ("Skipped, smaller than 64 pixels" in printed) == own_pictures


def test_quickstart_needs_two_pictures(example, tmp_path):
    with pytest.raises(ValueError, match="No pictures"):
        example("quickstart").main(["--data", str(tmp_path)])
    for index in range(4):
        Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / f"{index}.png")
    with pytest.raises(
        SystemExit,
        match=r"sides have at least 64 pixels.*has no picture of that size",
    ):
        example("quickstart").main(["--data", str(tmp_path)])


def test_quickstart_reads_pictures_as_a_folder_does(example, tmp_path):
    for index in range(100):
        Image.fromarray(np.full((64, 64, 3), index, np.uint8)).save(tmp_path / f"{index:02d}.png")
    Image.fromarray(np.full((80, 80), 4000, np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "._00.jpg").write_bytes(b"metadata of macOS")
    module = example("quickstart")
    with pytest.warns(UserWarning, match=r"deep\.png \(16 bits per channel"):
        pictures = [each for subset in ("training", "validation") for each in module.load_pictures(tmp_path, subset)]
    assert sorted(int(picture.max()) for picture in pictures) == [*range(100)]


@pytest.fixture
def clothes_example(example, tmp_path):
    """Returns a function that runs an example on 400 images and returns its result and the sizes of its pictures."""
    if not clothes.DEBIAN.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")

    def run(name, table="NETS", leave_out=(), options=()):
        module = example(name)
        for net in leave_out:
            del getattr(module, table)[net]
        result = module.main(["--count", "400", "--epochs", "1", "--out", str(tmp_path), *options])
        return result, {file.name: file.stat().st_size for file in tmp_path.glob("*.png")}

    return run


@pytest.mark.slow
def test_tied_dense(clothes_example, capsys):
    losses, pictures = clothes_example("tied_dense_fashion_mnist", leave_out=["784-64-36"])
    assert len(losses) == 2 * 2 * 2
    assert 0 < min(losses.values()) < max(losses.values()) < 0.1
    assert min(pictures.values()) > 10_000
    assert pictures.keys() == {"reconstructions.png", "losses.png"}
    printed = capsys.readouterr().out
    for count in ("770,084", "385,924"):
        assert printed.count(count) >= 3  # in the summary, and in the table as published and as measured


@pytest.mark.slow
def test_keras_blog(clothes_example, capsys):
    losses, pictures = clothes_example("keras_blog", leave_out=["dense, 32 values", "deep, 32 values"])
    assert len(losses) == 2 * 2
    assert 0.2 < min(losses.values()) < max(losses.values()) < 0.5
    assert min(pictures.values()) > 10_000
    assert "a perfect copy" in capsys.readouterr().out


@pytest.mark.slow
def test_greedy_sparse_classifier(clothes_example, capsys):
    accuracies, pictures = clothes_example("greedy_sparse_classifier")
    assert len(accuracies) == 2 * 3
    assert accuracies["1000 labels, fine-tuned"] > 0.3
    assert pictures.keys() == {"reconstructions.png", "losses.png"}
    assert "Fine-tuning gains" in capsys.readouterr().out


@pytest.mark.slow
def test_denoising(clothes_example, capsys):
    figures, pictures = clothes_example("denoising", "NOISES", ["mask 30 %", "Gaussian 0.3"])
    for kind in ("mask 50 %", "dark"):
        assert figures["conv", kind] > figures["noisy", kind]
    assert 0 < figures["dense", "Dropout"] < 0.1
    assert pictures.keys() == {"restored.png", "losses_dense.png", "losses_conv.png"}
    assert "0.0166" in capsys.readouterr().out


@pytest.mark.slow
def test_variational(clothes_example, capsys):
    figures, pictures = clothes_example("variational")
    for row in figures.values():
        assert row["loss"] == pytest.approx(row["reconstruction"] + row["kl"], rel=1e-3)
    assert figures["stack"]["difference"] < 1e-5
    assert pictures.keys() == {"samples.png", "plane.png", "reconstructions.png", "losses.png"}
    assert "0.0311" in capsys.readouterr().out


QUICK = ("--minutes", "0.01", "--samples", "20")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "trained", "more"),
    [
        ("vae", ["VAE on encodings", "…, errors in images", "VAE on pixels"], []),
        ("wgan", ["WGAN on encodings", "WGAN on pixels"], ["--enlarge", "2"]),
        ("began", ["BEGAN on encodings", "…, errors in images", "BEGAN on pixels"], []),
        ("flow", ["flow on encodings", "flow on pixels"], []),
    ],
)
def test_generative_heads_on_encodings(clothes_example, capsys, name, trained, more):
    rows, pictures = clothes_example(f"{name}_on_encodings", options=[*QUICK, *more])
    assert [row for row in rows if "steps" in rows[row]] == trained
    for row in trained:
        assert rows[row]["steps"] >= 1
        assert rows["test images"]["frechet"] < rows[f"{row}, start"]["frechet"]
    assert rows["test images, reconstructed"]["frechet"] < rows["a Gaussian of encodings"]["frechet"]
    if name == "flow":
        assert 0 <= rows["flow on pixels, guidance 1.5"]["asked"] <= 1
    assert pictures.keys() == {"samples.png"} | ({"interpolated.png"} if name == "vae" else set())
    assert "ms/step" in capsys.readouterr().out


@pytest.mark.slow
def test_classifier_on_encodings(clothes_example, capsys):
    rows, pictures = clothes_example("classifier_on_encodings")
    for name in ("encodings", "pixels", "encoder and head, fine-tuned"):
        assert 0.2 < rows[name]["accuracy"] <= 1
        assert rows[name]["s/epoch"] > 0
    assert pictures.keys() == {"mistakes.png"}
    assert "correct on encodings only" in capsys.readouterr().out


@pytest.mark.slow
def test_multi_worker(example, capsys):
    result = example("multi_worker").main(
        ["--local-workers", "2", "--levels", "1", "--epochs", "2", "--count", "128", "--size", "4"]
    )
    assert result["equal"]
    assert result["ratio"] > 0
    losses = [row["losses"] for row in (result["alone"], *result["workers"])]
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-3)
    assert "The weights of the workers are equal." in capsys.readouterr().out


def test_the_judge_averages_every_patch(example):
    judge = example("judge")
    images = np.random.default_rng(0).random((3, 28, 28, 1), dtype=np.float32)
    np.testing.assert_allclose(judge.shrink(images.repeat(2, axis=1).repeat(2, axis=2)), images, rtol=1e-6)
    values = judge.gaussian(images.repeat(20, axis=0), 5)
    assert (values.shape, values.dtype) == ((5, 28, 28, 1), np.float32)


@pytest.mark.slow
def test_sequences(example, tmp_path, capsys):
    sequences = example("sequences")
    sequences.TARGETS = ("both",)  # its two decoders cover the other targets
    figures = sequences.main(["--count", "400", "--epochs", "1", "--out", str(tmp_path)])
    for measured in ("window", "step after"):
        assert figures["both"][measured] < 1.05 * figures["both"][f"{measured}, start"]
    assert figures["head on both"]["all labels"] > 1 / 7
    assert {file.name for file in tmp_path.glob("*.png")} == {"windows.png", "losses.png"}
    assert "step after" in capsys.readouterr().out


def test_sequences_are_cut_by_person(example):
    sequences = example("sequences")
    parts, exercises, channels = sequences.load()
    assert [len(exercises), len(channels)] == [7, 6]
    for windows in parts.values():
        assert windows.series.shape[1:] == (sequences.STEPS, 6)
        assert windows.future.shape == (len(windows.labels), sequences.AHEAD, 6)
    whole = np.concatenate([parts["train"].series, parts["train"].future], axis=1)
    np.testing.assert_allclose(whole.std(axis=(0, 1)), 1, rtol=1e-4)


@pytest.mark.slow
def test_defects_in_textures(example, tmp_path, capsys):
    defects = example("defects_in_textures")
    defects.STRIDE = 64  # 21 normal crops
    rows = defects.main(["--textures", "brick", "--count", "4", "--out", str(tmp_path)])["brick"]
    assert rows.keys() == {"detector", "PCA error", "PyOD ECOD"}
    assert rows["detector"]["image AUROC"] > 0.75
    assert rows["detector"]["pixel AUROC"] > max(0.85, rows["PCA error"]["pixel AUROC"])
    assert {file.name for file in tmp_path.glob("*.png")} == {"scores_brick.png", "maps_brick.png"}
    assert "pixel AP" in capsys.readouterr().out


@pytest.mark.parametrize("kind", textures.DEFECTS)
def test_a_defect_changes_the_pixels_of_its_mask(kind):
    rng = np.random.default_rng(0)
    image = rng.uniform(100, 150, (textures.SIDE, textures.SIDE))
    for _ in range(10):
        painted, mask = textures.painted(image, kind, rng)
        changes = np.abs(painted - image)
        assert 20 < mask.sum() < mask.size / 4
        assert changes[mask].mean() > 10 * changes[~mask].mean()


@pytest.mark.slow
def test_anomalies_in_series(example, tmp_path, capsys):
    rows = example("anomalies_in_series").main(["--exercises", "ABD", "--out", str(tmp_path)])
    assert rows.keys() == {"detector, images", "detector, sequences", "PCA error", "PyOD KNN"}
    assert rows["detector, images"]["AUROC"] > 0.9
    assert rows["detector, sequences"]["AUROC"] > rows["PCA error"]["AUROC"]
    assert {file.name for file in tmp_path.glob("*.png")} == {"scores.png", "steps.png"}
    assert "abduction" in capsys.readouterr().out


def test_series_are_split_by_person(example):
    series = example("anomalies_in_series")
    recordings, channels = series.load()
    assert (recordings.keys(), len(channels)) == (series.EXERCISES.keys(), 6)
    for parts in recordings.values():
        assert (len(parts["train"]), len(parts["test"])) == (16, 4)  # with either arm
    steps = np.arange(6 * 30, dtype=np.float64).reshape(30, 6)
    windows = series.windows_of([steps, steps])
    assert windows.shape == (4, series.STEPS, 6)
    np.testing.assert_array_equal(windows[1], steps[series.STRIDE : series.STRIDE + series.STEPS])


@pytest.mark.slow
def test_anomalies_in_tables(example, tmp_path, capsys):
    rows = example("anomalies_in_tables").main(["--splits", "1", "--epochs", "1", "--out", str(tmp_path)])
    assert rows.keys() == {"detector", "PCA error", "PyOD IForest"}
    assert rows["detector"]["AUROC"] > max(0.92, rows["PCA error"]["AUROC"])
    assert rows["detector"]["AP"] > 0.5
    assert {file.name for file in tmp_path.glob("*.png")} == {"scores.png"}
    assert "Columns with the largest errors" in capsys.readouterr().out


def test_average_precision_for_a_share_of_anomalies(example):
    measures = example("anomaly_peers").measures
    is_anomaly = np.array([False, False, False, True])
    scores = np.array([0.1, 0.2, 0.9, 0.8])  # the threshold of the anomaly also reports one of three normal rows
    assert measures(is_anomaly, scores) == pytest.approx({"AUROC": 2 / 3, "AP": 1 / 2})
    assert measures(is_anomaly, scores, 0.1) == pytest.approx({"AUROC": 2 / 3, "AP": 0.1 / (0.1 + 0.9 / 3)})


def test_clothes_are_split_and_scaled():
    if not clothes.DEBIAN.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    data = clothes.load()
    assert [len(each) for each in data] == [55_000, 55_000, 5_000, 5_000, 10_000, 10_000]
    assert (data.images.min(), data.images.max(), data.images.dtype) == (0, 1, np.float32)
    assert data.images.shape[1:] == (28, 28, 1)
    assert np.bincount(data.test_labels).tolist() == [1000] * 10
    assert [len(each) for each in clothes.load(count=7)] == [7] * 6
    large = clothes.load(count=7, enlarge=4).test_images
    assert (large.shape, large.dtype) == ((7, 112, 112, 1), np.float32)
    np.testing.assert_allclose(large.mean(axis=(1, 2, 3)), data.test_images[:7].mean(axis=(1, 2, 3)), rtol=0.01)


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


@pytest.mark.slow
def test_tuner(example, tmp_path, capsys):
    rows = example("tuner").main(["--out", str(tmp_path), "--trials", "1", "--epochs", "0", "--crops", "32"])
    assert [row["full_loss"] for row in rows] == sorted(row["full_loss"] for row in rows)
    best = Autoencoder.load(tmp_path / "best")
    assert best.encoding_shape == (4, 4, 32)
    assert (best.levels[0].size, best.levels[0].n_out) == (rows[0]["size"], rows[0]["n_out"])
    assert "Saved the best stack to" in capsys.readouterr().out
