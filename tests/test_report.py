"""The report writes the measured results into the pages."""

import pytest

from benchmarks.harness.operations import forward_bytes, training_bytes
from benchmarks.report import __main__ as report
from benchmarks.report import extrapolation, results
from benchmarks.report import quality_tables as quality
from benchmarks.report import speed_tables as speed
from benchmarks.report.markdown import markdown
from stacked_autoencoder import ConvLevel

LEVEL = {"axis": "side", "value": 64, "batch": 50, "weights": 500_000, "gigaflops": 70.0}
LEVEL |= {"train_us": 4000.0, "train_megaflop": 100.0, "train_megabytes": 3.0}
LEVEL |= {"encode_us": 500.0, "encode_megaflop": 40.0, "encode_megabytes": 0.1}


def test_pages_have_the_latest_results():
    assert report.main(["--check"]) == []


def test_every_section_of_a_page_names_a_table():
    pages = "".join((report.ROOT / name).read_text(encoding="utf-8") for name in report.PAGES)
    sections = [section[1] for section in report.SECTION.findall(pages)]
    assert len(sections) == pages.count("<!-- figures: ") == pages.count("<!-- end of figures -->")
    assert set(sections) <= set(report.TABLES)


def test_only_marked_sections_are_replaced(monkeypatch):
    monkeypatch.setitem(report.TABLES, "some", lambda: "new\n")
    page = "before\n<!-- figures: some -->\nold\nold\n<!-- end of figures -->\nafter\n"
    new = "before\n<!-- figures: some -->\nnew\n<!-- end of figures -->\nafter\n"
    assert report.updated(page) == new
    assert report.updated(new) == new
    with pytest.raises(KeyError, match="other"):
        report.updated(page.replace("some", "other"))


def test_an_outdated_page_is_reported_and_updated(monkeypatch, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- figures: some -->\n<!-- end of figures -->\n")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "PAGES", ["page.md"])
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    monkeypatch.setitem(report.TABLES, "some", lambda: markdown(["a", "b"], [["1", "2"]]))
    assert report.main(["--check"]) == ["page.md"]
    assert "| a | b |" not in page.read_text()
    assert report.main([]) == ["page.md"]
    assert "| a | b |\n| --- | --- |\n| 1 | 2 |\n<!-- end" in page.read_text()
    assert all((tmp_path / "docs" / "figures" / f"{name}.png").stat().st_size > 1000 for name in report.PICTURES)
    assert report.main(["--check"]) == []
    assert "out of date: none" in capsys.readouterr().out


@pytest.fixture
def one_level(monkeypatch):
    monkeypatch.setattr(results, "load", lambda name: {"rows": [LEVEL]})


def test_the_time_on_a_device_is_the_longer_of_computation_and_memory(one_level, monkeypatch):
    monkeypatch.setattr(extrapolation, "DEVICES", {"slow": (1.0, 1000), "far": (1000.0, 100)})
    _, (here, slow, far) = extrapolation.devices()
    assert here[1:] == ["0.07", "", "4000 µs", "", "500 µs"]
    assert slow == ["slow", "1", "1,000", "200.0 µs", "computation", "80.0 µs"]  # 100e6 / (0.5 * 1e12)
    assert far == ["far", "1000", "100", "30.0 µs", "memory", "1.0 µs"]  # 3e6 / 100e9


def test_share_of_time_in_which_workers_compute(one_level):
    header, rows = extrapolation.workers()
    assert header == ["network", "2 workers", "8 workers", "32 workers"]
    step, sending = 50 * 4e-3, 4 * 500_000 / 0.125e9  # of one round of all gradients, between two
    assert rows[0][:2] == ["1 Gbit/s", f"{step / (step + sending):.2f}"]


def test_the_time_of_a_corpus_follows_from_the_largest_number_of_images(monkeypatch):
    rows = [{"axis": "images", "value": count, "encode_us": each} for count, each in ((10, 9.0), (1000, 6.0))]
    monkeypatch.setattr(results, "load", lambda name: {"rows": [*rows, LEVEL]})
    assert "takes 1 minutes on this machine" in extrapolation.corpus()


def test_a_flow_is_compared_on_the_same_encodings(monkeypatch):
    codes = [{"head": "", "on": f"{code}: one Gaussian", "frechet": 9.0} for code in ("7x7x8", "14x14x2")]
    vae = {"head": "VAE", "on": "7x7x8", "frechet": 5.0}
    flows = [
        {"head": "Flow", "on": "14x14x2", "shape": [14, 14, 2], "seconds": 60.0, "equal": 7.4, "frechet": 2.0},
        {"head": "Flow", "on": "pixels", "shape": [28, 28, 1], "seconds": 61.0, "equal": 61.0, "frechet": 3.0},
    ]
    kept = results.load("levels")
    monkeypatch.setattr(results, "load", lambda name: kept | {"rows": [*codes, vae, *flows]})
    rows = quality.flow().splitlines()[2:5]
    assert [row.split(" | ")[0] for row in rows] == [
        "| one Gaussian, 14x14x2 encodings",
        "| flow on 14x14x2 encodings",
        "| flow on 28x28 pixels",
    ]
    assert "in 7 seconds the Fréchet distance that the same flow on 28x28 pixels reaches in 61" in quality.flow_short()


def test_the_time_of_a_classifier_on_encodings_includes_the_autoencoder(monkeypatch):
    pixels = {"on": "128x128x3", "epoch": 40.0, "epochs": 4, "before": 0.0, "seconds": 161.0, "accuracy": 0.857}
    short = {"on": "32x32x32", "epoch": 2.0, "epochs": 4, "before": 20.0, "seconds": 29.0, "accuracy": 0.853}
    longer = short | {"epochs": 66, "seconds": 155.0, "accuracy": 0.967}
    kept = results.load("classifiers")
    monkeypatch.setattr(results, "load", lambda name: kept | {"rows": [pixels, short, longer]})
    assert "on 32x32x32 encodings labels 97% of new 128x128x3 crops correctly after 155" in speed.classifiers_short()
    assert "On pixels it labels 86% correctly after 161" in speed.classifiers_short()
    assert speed.classifiers().splitlines()[2:5] == [
        "| 128x128x3 | 40.00 s | 1 | 4 | 161 s | 0.86 |",
        "| 32x32x32 | 2.00 s | 20 | 4 | 29 s | 0.85 |",
        "| 32x32x32 | 2.00 s | 20 | 66 | 155 s | 0.97 |",
    ]
    assert "include 20 s for training the autoencoder" in speed.classifiers()


def test_bytes_are_counted_from_the_output_of_each_layer():
    level = ConvLevel(n_out=4, n_scalings=1, size=8, depth=0)
    level.build((16, 16, 3))
    # the input, patchify and tanh, linear and residual, their sum
    values = 16 * 16 * 3 + 2 * 8 * 8 * 8 + 3 * 8 * 8 * 4
    assert forward_bytes(level.encoder) == 2 * 4 * values
    assert training_bytes(level) == 3 * (2 * 4 * values + forward_bytes(level.decoder))


def test_peers_are_compared_with_the_network_in_pytorch(monkeypatch):
    curves = {
        "ours": [3.0, 1.0],
        "PyTorch": [4.0, 2.0],
        "PCA": [3.0],
        "Keras blog": [5.0],
        "usual": [6.0],
        "dense": [7.0],
    }
    rows = [
        {
            "design": name,
            "code": "8x8x32",
            "loss": min(losses),
            "seconds": 60.0 * len(losses),
            "curve": [{"seconds": 60.0 * (index + 1), "loss": loss} for index, loss in enumerate(losses)],
        }
        for name, losses in curves.items()
    ]
    kept = results.load("levels")
    monkeypatch.setattr(results, "load", lambda name: kept | {"rows": rows})
    lines = quality.peers().splitlines()
    assert lines[0].endswith("| time to a loss of 2.00e+00 |")
    assert lines[2].startswith("| this library | 1.00e+00 | 0.33 | 120 s |")
    assert lines[2].endswith("| 90 s |")
    assert lines[4].endswith("| not reached |")
