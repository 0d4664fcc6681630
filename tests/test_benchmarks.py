"""Every benchmark with tiny settings: it runs and compares the right things; its times are not checked."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from benchmarks import __main__ as every_benchmark
from benchmarks.harness import clocks, data, designs, measures, operations, profiling, taef2
from benchmarks.harness.clocks import Curve
from benchmarks.quality import (
    anomalies,
    classifiers,
    colours,
    fashion,
    kinds,
    nested_flow,
    photographs,
    presets,
    pretraining,
    rate,
    store_heads,
    units,
)
from benchmarks.quality import heads as heads_benchmark
from benchmarks.report import pictures, results
from benchmarks.speed import allocator, began_step, encoding, fit, greedy, levels, loaders, memory, roofline, scaling
from examples import clothes
from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.levels.presets import PRESETS
from stacked_autoencoder.optimizers import PEAK_LEARNING_RATE
from tests.conftest import blobs


def pixels(count, side, seed=0):
    return ((blobs(count, side, seed=seed) + 1) * 127.5).astype("uint8")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(data, "training_crops", lambda count=64, swap_colours=True, side=64: pixels(count, side))
    monkeypatch.setattr(data, "validation_tiles", lambda: pixels(8, 64, seed=1))
    monkeypatch.setattr(data, "test_pictures", lambda folder: [pixels(4, 64, seed=2), pixels(4, 64, seed=3)])
    for module in (designs, photographs):
        monkeypatch.setattr(module, "SIZE", 4)
    for arguments in (*designs.PHOTOGRAPHS.values(), designs.FASHION):
        monkeypatch.setitem(arguments, "size", 4)


@pytest.fixture
def clothes_there(monkeypatch):
    """Few of them, in the place of all."""
    if not clothes.DEBIAN.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    load = clothes.load
    monkeypatch.setattr(
        clothes,
        "load",
        lambda dataset="fashion_mnist", count=None, enlarge=1: load(dataset, min(count or 400, 400), enlarge),
    )


@pytest.mark.slow
def test_photographs(tmp_path, capsys):
    file, code = tmp_path / "rows.json", "4x4x32"
    options = ["--minutes", "0.02", "--longer-minutes", "0.03", "--count", "64", "--json", str(file)]
    rows = photographs.main(["--codes", code, "--longer", code, *options])
    assert [line["design"] for line in rows] == ["PCA", "closed form", "usual design", "ours", "ours, longer"]
    pca, start, usual, mine, longer = rows
    assert [pca[name] for name in ("of_pca", "highest", "share_worse", "valid")] == pytest.approx([1, 1, 0, 1])
    assert start["valid"] < 1.05
    assert max(mine["valid"], longer["valid"]) <= 1.1 * start["valid"]
    assert mine["highest"] >= mine["of_pca"] > 0
    assert 0 <= mine["share_worse"] <= 1
    assert pca["sharpness"] != mine["sharpness"] > 0
    assert pca["ssim"] > usual["ssim"]
    assert usual["step_ms"] > 0
    assert json.loads(file.read_text()) == rows
    assert "usual design" in capsys.readouterr().out


@pytest.mark.slow
def test_rate(tmp_path, capsys):
    file, code = tmp_path / "rows.json", "8x8x32"
    rows = rate.main(["--codes", code, "--minutes", "0.02", "--count", "64", "--json", str(file)])
    features = {(row["design"], row["n_out"]): row for row in rows if "n_out" in row}
    sizes = [4, 8, 16, 24, 32]
    assert [*features] == [*(("plain", n) for n in sizes), *(("nested", n) for n in sizes), ("alone", 16)]
    for name in ("plain", "nested"):
        losses = [features[name, n]["loss"] for n in sizes]
        assert losses == sorted(losses, reverse=True)
        assert [features[name, n]["values"] for n in sizes] == [64 * n for n in sizes]
    stores = {row["what"]: row for row in rows if "what" in row}
    half, int8, packed = (stores[f"store, {kind}"] for kind in ("float16", "int8", "loss_budget=0.01"))
    assert int8["bytes"] == pytest.approx(half["bytes"] / 2, rel=0.02)
    assert abs(half["added"]) < 5e-3
    assert int8["added"] > -5e-3
    assert packed["added"] < 0.02
    assert packed["bytes"] < half["bytes"] / 2
    assert 0 < stores["JPEG of at most this size"]["bytes"] < 1.2 * int8["bytes"]
    assert json.loads(file.read_text()) == rows
    assert "store, int8" in capsys.readouterr().out


def test_operations_are_counted():
    level = ConvLevel(n_out=4, n_scalings=1, size=8, depth=1)
    level.build((16, 16, 3))
    patches = 2 * 64 * 2 * 2 * 3  # of a convolution from 2x2x3 to one of 8x8 places, per filter
    seen_by_data = patches * (4 + 8)  # linear and patchify
    block = 2 * 64 * (9 * 8 * 8 + 8 * 8)
    assert operations.forward_operations(level.encoder) == seen_by_data + block + 2 * 64 * 8 * 4
    forward = operations.forward_operations(level.encoder) + operations.forward_operations(level.decoder)
    assert operations.forward_operations(level.decoder) == seen_by_data + block + 2 * 64 * 9 * 4 * 8
    assert operations.training_operations(level) == 3 * forward - seen_by_data


def test_the_time_of_operations_is_told_by_kind():
    matrix = tf.ones((256, 256))
    job = tf.function(lambda: tf.transpose(matrix @ tf.math.sin(matrix), (1, 0)) @ matrix)
    job()
    times = profiling.operation_times(job)
    assert any("MatMul" in name for name in times)
    assert not any(" " in name or "::" in name for name in times)
    shares = profiling.shares(job)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["products"] > 0
    assert shares["optimizer"] == 0


@pytest.mark.slow
def test_roofline(monkeypatch, capsys):
    monkeypatch.setattr(roofline, "MATRIX", 64)
    rows = roofline.main(["--codes", "8x8x32", "--batch-size", "2", "--rounds", "1"])
    assert [row["what"] for row in rows] == ["encoding", "there and back", "training step"]
    assert all(row["share"] > 0 for row in rows)
    assert rows[-1]["optimizer"] > rows[0]["optimizer"] == 0
    assert "us/image" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("code", ["16x16x32", "4x4x32"])
def test_the_twin_in_pytorch_computes_what_ours_does(code):
    torch_twin = pytest.importorskip("benchmarks.harness.torch_twin", reason="needs PyTorch", exc_type=ImportError)
    images = np.random.default_rng(0).uniform(-1, 1, (8, 64, 64, 3)).astype(np.float32)  # no code restores noise
    sae = Autoencoder(shape=(64, 64, 3), levels=[designs.level_for(code)])
    sae.train(images, epochs=1, verbose=0)
    net = torch_twin.twin(sae.levels[0])
    encodings = torch_twin.encoding(net, images)().permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(encodings, sae.encode(images), atol=1e-4)
    before = torch_twin.loss_of(net, images)
    assert before == pytest.approx(np.mean(np.square(sae.reconstruct(images) - images)), rel=1e-3)
    step = torch_twin.training(net, learning_rate=1e-5)
    for _ in range(5):
        step(images)
    assert torch_twin.loss_of(net, images) < before


def test_the_twin_is_looked_at_when_its_time_is_over_between_two_passes():
    torch_twin = pytest.importorskip("benchmarks.harness.torch_twin", reason="needs PyTorch", exc_type=ImportError)

    class Ticking(Curve):
        ticks = 0

        @property
        def seconds(self):
            self.ticks += 1
            return 0.45 * self.ticks

    level, curve, images = ConvLevel(n_out=4, n_scalings=1, size=4), Ticking(), pixels(8, 16)
    level.build((16, 16, 3))
    torch_twin.train(torch_twin.twin(level, seed=0), images, images, 1.0, curve, validate_every=100, batch_size=8)
    assert len(curve.rows) == 1


@pytest.mark.slow
def test_peers(monkeypatch, tmp_path, capsys):
    peers = pytest.importorskip(
        "benchmarks.quality.peers", reason="needs PyTorch and scikit-learn", exc_type=ImportError
    )
    monkeypatch.setattr(peers, "SIZE", 4)
    file = tmp_path / "peers.json"
    rows = peers.main(["--code", "4x4x32", "--minutes", "0.01", "--count", "64", "--json", str(file)])
    found = {row["design"]: row for row in rows}
    assert list(found) == ["PCA", "ours", "PyTorch", "usual", "Keras blog", "dense"]
    assert found["ours"]["curve"][0]["loss"] == pytest.approx(found["PCA"]["loss"], rel=0.05)  # it starts there
    assert found["usual"]["sooner"] == 1
    assert all(row["images_per_second"] > 0 for row in rows[1:])
    assert "images_per_second" not in found["PCA"]
    curve = Curve()
    curve.rows = [{"seconds": second, "loss": 1 / second} for second in (1.0, 3.0, 5.0, 11.0)]
    assert peers.row("ours", curve, steps=100)["images_per_second"] == 100 * designs.BATCH / 2
    assert "images/s" in capsys.readouterr().out
    kept = results.keep(tmp_path, "peers", [], file, seconds=1.0)
    assert json.loads(kept.read_text())["rows"] == rows
    assert kept.with_suffix(".png").stat().st_size > 1000


@pytest.mark.slow
def test_levels(capsys):
    rows = levels.main(["--side=64", "--size=4", "--batch-size=4", "--rounds=1"])
    steps = [("steps", f"level {index}") for index in range(3)]
    assert [(row["part"], row["what"]) for row in rows] == [*steps, ("load", "first"), ("load", "again")]
    assert rows[0]["times"] == 1
    assert "times faster than level 0" in capsys.readouterr().out


@pytest.mark.slow
def test_greedy_against_joint(monkeypatch, capsys):
    monkeypatch.setattr(data, "validation_crops", lambda count, side: pixels(count, side, seed=1))
    row, joint = greedy.main(["--side=64", "--size=4", "--count=64", "--epochs", "0,1,1"])
    assert row["epochs"] == [0, 1, 1]
    last = joint["curve"][-1]
    assert (row["joint"] is None) == (last["loss"] > row["loss"])
    assert row["of"] == pytest.approx(row["seconds"] / (row["joint"] or last["seconds"]))
    assert "greedy time / joint time" in capsys.readouterr().out


def test_greedy_is_held_against_the_joint_training_that_was_there_first():
    curve = [{"seconds": 10.0, "loss": 4.0}, {"seconds": 20.0, "loss": 2.0}]
    rows = [{"epochs": 1, "seconds": 12.0, "loss": 3.0}, {"epochs": 2, "seconds": 30.0, "loss": 1.0}]
    reached, not_reached, *_ = greedy.with_joint_times([*rows, {"curve": curve[:1]}, {"curve": curve}])
    assert (reached["joint"], reached["of"]) == (15.0, 0.8)
    assert (not_reached["joint"], not_reached["of"]) == (None, 1.5)


@pytest.mark.slow
def test_all_benchmarks_by_one_command(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(every_benchmark.BENCHMARKS, "roofline", ["--codes=nonsense"])
    monkeypatch.setitem(every_benchmark.BENCHMARKS, "began_step", ["--side=16", "--filters=4", "--rounds=1"])
    failed = every_benchmark.main(["--quick", "--only", "roofline", "began_step", "--out", str(tmp_path)])
    assert failed == ["roofline"]
    assert [file.name for file in tmp_path.iterdir()] == ["began_step.json"]
    kept = results.load("began_step", tmp_path)
    assert kept["arguments"] == every_benchmark.BENCHMARKS["began_step"]
    assert {"machine", "versions", "seed", "seconds"} < set(kept)
    assert [row["on"] for row in kept["rows"]] == ["pixels, usual design", "pixels, ours", "encodings"]
    assert "Failed: roofline" in capfd.readouterr().out


def test_arguments_after_two_dashes_are_for_one_benchmark(capsys):
    with pytest.raises(SystemExit):
        every_benchmark.main(["--only", "levels", "roofline", "--", "--rounds=3"])
    assert "Name it, such as --only roofline. Received: --rounds=3" in capsys.readouterr().err


@pytest.mark.slow
def test_scaling(monkeypatch, capsys):
    monkeypatch.setattr(scaling, "MATRIX", 64)
    monkeypatch.setattr(scaling, "PIXELS", 2 * 64 * 64)
    options = ["--sides", "64", "--images", "32", "64", "--rounds", "1"]
    rows = scaling.main(["--only", "side", "images", "threads", *options])
    assert [(row["axis"], row["value"]) for row in rows] == [
        ("side", 64),
        ("images", 32),
        ("images", 64),
        ("threads", 1),
        ("threads", 2),
    ]
    assert rows[0]["batch"] == 2
    assert rows[0]["train_megaflop"] > 2 * rows[0]["encode_megaflop"]
    assert all(row["encode_us"] > 0 for row in rows)
    assert rows[3]["train_megabytes"] == rows[0]["train_megabytes"]
    assert "microseconds per image" in capsys.readouterr().out


@pytest.mark.slow
def test_presets(monkeypatch, capsys):
    monkeypatch.setitem(PRESETS, "best", {"size": 8, "depth": 1})
    rows = presets.main(["--only", "fast", "best", "--code", "16x16x32", "--minutes", "0.01", "--count", "64"])
    assert [(row["preset"], row["size"]) for row in rows] == [("fast", 32), ("best", 8)]
    assert all(0 < row["of_pca"] < 1.2 and row["train_us"] > row["encode_us"] > 0 for row in rows)
    assert "loss / PCA loss" in capsys.readouterr().out
    assert pictures.presets(rows).axes[0].get_xlabel().startswith("encoding time")


@pytest.mark.slow
def test_crops_with_and_without_swapped_colours(monkeypatch):
    asked = []

    def crops(count, swap_colours):
        asked.append(swap_colours)
        return pixels(count, 64, seed=len(asked))

    monkeypatch.setattr(data, "training_crops", crops)
    kept, swapped = colours.main(["--minutes", "0.02", "--count", "64"])
    assert asked == [False, True]
    assert (kept["design"], swapped["design"]) == ("colours kept", "colours swapped")
    assert kept["loss"] != swapped["loss"]


def test_designs_are_compared_with_pca_by_picture_and_by_tile():
    pictures = [pixels(4, 16, seed=1), pixels(2, 16, seed=2)]
    every = np.concatenate(pictures)
    sae = Autoencoder(shape=(16, 16, 3), levels=[ConvLevel(4, 2, 4)])
    sae.train(pixels(64, 16), epochs=0, verbose=0)
    pca = measures.pca_of(sae)
    comparison = measures.Comparison("4x4x4", pca, pictures, every)
    by_pca = comparison.row("PCA", pca)
    assert [by_pca[name] for name in ("of_pca", "highest", "share_worse", "valid")] == pytest.approx([1, 1, 0, 1])
    assert by_pca["loss"] == pytest.approx(sae.evaluate(every, return_dict=True)[0]["pca_loss"], rel=1e-4)

    def off_on_the_second(images):
        return pca(images) + (0.5 if len(images) == 2 else 0.0)

    found = comparison.row("off", off_on_the_second)
    assert found["share_worse"] == pytest.approx(1 / 3)
    assert found["highest"] > found["of_pca"] > 1.01
    assert found["valid"] == pytest.approx(1)  # the tiles of both pictures are valid ones
    assert found["sharpness"] == pytest.approx(by_pca["sharpness"])  # no edges


def test_the_laplacian_is_the_energy_of_edges():
    flat, edge = np.zeros((1, 5, 5, 1), np.float32), np.zeros((1, 5, 5, 1), np.float32)
    edge[:, 2, 2] = 1
    assert measures.laplacian_energy(flat + 0.3) == pytest.approx(0, abs=1e-9)
    assert measures.laplacian_energy(edge) == 4**2 + 4  # the pixel, and its four neighbours


@pytest.mark.slow
def test_taef2_reads_its_weights_by_name(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs PyTorch", exc_type=ImportError)
    nn = torch.nn

    class PooledBlock(nn.Module):
        def __init__(self):
            super().__init__()
            convolutions = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)]
            self.conv = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2])
            up, down = nn.Conv2d(8, 16, 1, bias=False), nn.Conv2d(16, 8, 1, bias=False)
            self.pool = nn.Sequential(up, nn.GroupNorm(4, 16), nn.ReLU(), down)

        def forward(self, values):
            values = values + self.pool(values)
            return torch.relu(values + self.conv(values))

    first, halve, last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.Conv2d(8, 32, 3, 1, 1)
    networks = {"encoder": nn.Sequential(first, halve, PooledBlock(), last)}
    first, last = nn.Conv2d(32, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
    networks["decoder"] = nn.Sequential(nn.Tanh(), first, nn.ReLU(), nn.UpsamplingNearest2d(scale_factor=2), last)
    for name, network in networks.items():
        torch.save({key: value.half() for key, value in network.state_dict().items()}, tmp_path / name)
        network.load_state_dict(torch.load(tmp_path / name, weights_only=True))  # rounded
    monkeypatch.setattr(taef2, "ENCODER", ["conv", "halve", "pooled block", "conv"])
    monkeypatch.setattr(taef2, "DECODER", ["limit", "conv", "relu", "double", "conv"])
    monkeypatch.setattr(taef2, "LIMIT", 1.0)
    encoder, decoder = taef2.taef2(tmp_path / "encoder", tmp_path / "decoder")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
    with torch.no_grad():
        encodings = networks["encoder"](torch.tensor((images.transpose(0, 3, 1, 2) + 1) / 2))
        restored = 2 * networks["decoder"](encodings).clamp(0, 1) - 1
    np.testing.assert_allclose(encoder(images), encodings.permute(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(decoder(encoder(images)), restored.permute(0, 2, 3, 1), atol=1e-4)


@pytest.mark.slow
def test_fashion_mnist(monkeypatch):
    images = (blobs(320, 28, channels=1) + 1) / 2
    monkeypatch.setattr(fashion, "fashion_mnist", lambda: (images[:256], images[256:]))
    rows = fashion.main(["--minutes", "0.02", "--count", "128"])
    names = ["PCA", "textbook dense 100-30", "greedy", "greedy, then fine_tune", "joint"]
    assert [line["design"] for line in rows] == names
    assert all(0 < line["loss"] < 0.5 for line in rows)
    assert all(line["of_pca"] < 1.1 for line in rows[2:])


@pytest.mark.slow
def test_fit_is_compared_with_the_bare_step(capsys):
    (row,) = fit.main(["--codes=8x8x32", "--batch-size=2", "--rounds=1", "--steps=4"])
    assert 0.2 < row["ratio"] < row["epoch"] < 50  # too few steps to say more
    assert row["begins"] > row["step_ms"] / 1000
    assert "first steps" in capsys.readouterr().out


@pytest.mark.slow
def test_the_allocators_are_compared(capsys, monkeypatch):
    monkeypatch.setattr(allocator, "BATCHES", {"training": 32})
    figures = allocator.main(["--processes", "1", "--rounds", "1", "--batches", "2"])
    assert len(figures) == 2 * 3
    for job in (f"{job} {how} oneDNN" for job in allocator.BATCHES for how in ("with", "without")):
        speed, default, ours = (value for name, value in figures.items() if name.startswith(job))
        assert 0.1 < speed < 10
        assert default >= 0
        assert ours < 100_000
    assert "training with oneDNN: speed" in capsys.readouterr().out


def test_jobs_take_turns_and_medians_and_spread_are_told(capsys):
    turns = []
    times = clocks.in_turns({"one": lambda: turns.append(1), "two": lambda: turns.append(2)}, rounds=3)
    assert turns == [1, 2] * 4  # a round that isn't counted
    assert {name: len(values) for name, values in times.items()} == {"one": 3, "two": 3}
    told = capsys.readouterr().out
    assert told.startswith("  one, 3 rounds: best ")
    assert "median" in told


def test_timing_a_step_leaves_the_model_as_it_was():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    before = model.get_weights()
    assert clocks.step_times({"it": model}, tf.ones((2, 4)), rounds=1, steps=2)["it"] > 0
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.slow
def test_kinds(clothes_there, tmp_path, capsys):
    rows = kinds.main(["--epochs", "1", "--only", "tied", "KL", "--json", str(tmp_path / "rows.json")])
    assert [(row["code"], row["values"], row["design"]) for row in rows] == [
        (code, values, design)
        for code, values in (("tied", 30), ("KL", 300))
        for design in ("PCA", "published", "ours")
    ]
    assert all(0 < row["loss"] < 0.1 for row in rows)
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    assert "published" in capsys.readouterr().out


@pytest.mark.slow
def test_units(clothes_there, monkeypatch, tmp_path):
    monkeypatch.setattr(units, "UNITS", [(1, 0), (1e6, 100)])
    rows = units.main(["--only", "dense", "--count", "600", "--epochs", "1", "--json", str(tmp_path / "rows.json")])
    assert [row["design"] for row in rows] == ["unit 1, offset +0", "unit 1e+06, offset +100"]
    assert rows[1]["of_pca"] == pytest.approx(rows[0]["of_pca"], rel=0.05)
    assert json.loads((tmp_path / "rows.json").read_text()) == rows


@pytest.mark.slow
def test_pretraining(clothes_there, monkeypatch, capsys):
    monkeypatch.setattr(pretraining, "WIDTH", 4)
    rows = pretraining.main(["--count", "300", "--epochs", "1"])
    assert [(row["labels"], row["start"]) for row in rows] == [
        (labels, start) for labels in ("all", "1,000") for start in ("pretrained", "random")
    ]
    assert all(0 <= row[name] <= 1 for row in rows for name in ("frozen", "fine-tuned"))
    assert "pretraining took" in capsys.readouterr().out


@pytest.mark.slow
def test_heads(clothes_there, tmp_path, capsys):
    file = tmp_path / "rows.json"
    rows = heads_benchmark.main(
        ["--only=WGAN", "--code=7x7x8", "--minutes=0.02", "--count=300", "--samples=100", f"--json={file}"]
    )
    restored, gaussian, encodings, pixels = rows
    assert restored["frechet"] < gaussian["frechet"]
    assert restored["seconds"] > 0
    for row in (encodings, pixels):
        assert row["head"] == "WGAN"
        assert len(row["curve"]) == heads_benchmark.N_EVALUATIONS
        assert row["steps"] >= heads_benchmark.N_EVALUATIONS  # at most one evaluation per step
        assert row["megabytes"] > 100
        assert row["frechet"] > restored["frechet"]
        assert row["step_ms"] > 0
    assert json.loads(file.read_text()) == rows
    assert "7x7x8: one Gaussian" in capsys.readouterr().out


@pytest.mark.slow
def test_heads_on_stores(clothes_there, tmp_path, capsys):
    file = tmp_path / "rows.json"
    rows = store_heads.main(["--count=300", "--epochs=1", "--seeds=1", "--samples=100", f"--json={file}"])
    half, int8, packed = rows
    assert half["bytes"] > int8["bytes"] > packed["bytes"]
    assert abs(half["added"]) < 1e-3
    assert packed["added"] < 0.02
    assert all(0.2 < row["accuracy"][0] <= 1 for row in rows)
    assert all(row["frechet"][0] > 0 for row in rows)
    assert json.loads(file.read_text()) == rows
    assert "loss_budget=0.01" in capsys.readouterr().out


@pytest.mark.slow
def test_nested_flows(clothes_there, tmp_path, capsys):
    file = tmp_path / "rows.json"
    rows = nested_flow.main(["--count=300", "--epochs=1", "--seeds=2", "--samples=100", f"--json={file}"])
    assert [(row["design"], len(row["frechet"])) for row in rows] == [
        ("Gaussian", 1),
        ("default", 2),
        ("nested=True", 2),
    ]
    assert rows[1]["frechet"] != rows[2]["frechet"]
    assert json.loads(file.read_text()) == rows
    assert "nested=True Fréchet distance" in capsys.readouterr().out


@pytest.mark.slow
def test_anomalies(clothes_there, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(anomalies, "STRIDE", 64)
    file = tmp_path / "rows.json"
    rows = anomalies.main(["--classes", "0", "--textures", "brick", "--count", "300", f"--json={file}"])
    found = {(row["data"], row["design"]): row for row in rows}
    for name in ("Fashion-MNIST", "brick"):
        assert 0.6 < found[name, "detector"]["auroc"] < 1
        assert 0 < found[name, "PCA error"]["auroc"] < 1
    assert found["brick", "detector"]["auroc"] > found["brick", "PCA error"]["auroc"]
    assert all(0 <= found["brick", "detector"][kind] <= 1 for kind in anomalies.DEFECTS)
    assert all(found["speed", name]["fit"] > 0 for name in ("trained", "not trained"))
    assert json.loads(file.read_text()) == rows
    assert "missing part" in capsys.readouterr().out


def test_when_a_curve_is_as_low_as_another_one_in_the_end():
    curve = [{"seconds": 10.0, "frechet": 40.0}, {"seconds": 20.0, "frechet": 20.0}, {"seconds": 40.0, "frechet": 30.0}]
    assert clocks.reached_after(curve, 50.0, "frechet") == 10.0
    assert clocks.reached_after(curve, 25.0, "frechet") == pytest.approx(17.5)
    assert clocks.reached_after(curve, 10.0, "frechet") is None


@pytest.mark.slow
def test_a_step_of_the_usual_began(capsys):
    rows = began_step.main(["--side", "16", "--filters", "4", "--rounds", "1"])
    assert [row["on"] for row in rows] == ["pixels, usual design", "pixels, ours", "encodings"]
    assert rows[-1]["times"] == 1
    assert "step on encodings" in capsys.readouterr().out


@pytest.mark.slow
def test_classifiers(monkeypatch, capsys):
    monkeypatch.setattr(classifiers, "WIDTH", 4)
    rows = classifiers.main(["--side", "32", "--count", "20", "--epochs", "2"])
    assert [row["on"] for row in rows] == ["32x32x3", *["8x8x32"] * 2, *["2x2x32"] * 2]
    assert [row["epochs"] > 2 for row in rows] == [False, False, True, False, True]
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    assert all(row["seconds"] > row["before"] > 0 for row in rows[1:])
    assert "training the autoencoder and encoding" in capsys.readouterr().out


def test_the_photographs_of_the_test_set_are_shrunk_and_cut(monkeypatch, tmp_path):
    monkeypatch.undo()
    with pytest.raises(SystemExit, match=r"apt-get install plasma-workspace-wallpapers"):
        data.test_tiles(tmp_path)
    for name in data.TEST:
        (tmp_path / name / data.TEST_FILE).parent.mkdir(parents=True)
        Image.fromarray(pixels(1, 16)[0]).resize((960, 640)).save(tmp_path / name / data.TEST_FILE)
    assert data.test_tiles(tmp_path).shape == (11 * 12 * 8, 64, 64, 3)  # 768 x 512 pixels each


def test_the_learning_rate_falls_by_the_clock():
    limit = clocks.TimeLimit(10.0)
    rate = clocks.OverTime(limit)
    rates = []
    for share in (0, 0.05, 0.525, 1):
        limit.elapsed.assign(share)
        rates.append(float(rate(0)) / PEAK_LEARNING_RATE)
    np.testing.assert_allclose(rates, [0, 1, 0.5, 0], atol=1e-3)


def test_training_stops_when_the_time_is_over_and_says_how_much_was(monkeypatch):
    now = iter([100.0, 101.0, 103.0, 105.0])
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: next(now))
    limit = clocks.TimeLimit(4.0)
    limit.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    limit.model.stop_training = False
    seen = []
    for batch in range(3):
        limit.on_train_batch_end(batch)
        seen.append((float(limit.elapsed), limit.model.stop_training))
    assert seen == [(0.25, False), (0.75, False), (1.0, True)]


@pytest.mark.slow
def test_encoding_to_disk(capsys):
    ratios = encoding.main(["--images", "400", "--rounds", "1"])
    assert len(ratios) == 12
    assert all(0 < ratio < 100 for ratio in ratios.values())
    assert capsys.readouterr().out.count("\n") >= 7


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # WebDataset leaves closing its files to Python
@pytest.mark.parametrize(
    ("library", "module"),
    [
        ("HDF5", "h5py"),
        ("Zarr", "zarr"),
        ("HuggingFace", "datasets"),
        ("PyTorch", "torch"),
        ("Grain", "grain"),
        ("WebDataset", "webdataset"),
    ],
)
def test_encoding_data_of_other_libraries(library, module):
    pytest.importorskip(module)
    ratios = loaders.main(["--images", "70", "--rounds", "1", "--only", library])
    assert [0 < ratio < 100 for ratio in ratios.values()] == [True]


@pytest.mark.slow
def test_memory(capsys, monkeypatch):
    monkeypatch.setattr(memory, "FEW", 100)
    figures = list(memory.main(["--images", "300", "--side", "600", "--width", "4"]).values())
    assert 200 < figures[1] < 2000
    assert 200 < figures[3] < 2000
    assert figures[2] > 0
    assert figures[4] > 0
    assert capsys.readouterr().out.count("\n") >= 5
