"""The figures in the pages are those that were measured."""

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


def test_pages_say_what_was_measured():
    assert report.main(["--check"]) == []


def test_every_table_has_a_place():
    pages = "".join((report.ROOT / name).read_text(encoding="utf-8") for name in report.PAGES)
    places = [place[1] for place in report.PLACE.findall(pages)]
    assert len(places) == pages.count("<!-- figures: ") == pages.count("<!-- end of figures -->")
    assert set(places) <= set(report.TABLES)


def test_what_stands_in_a_place_is_replaced_and_nothing_else(monkeypatch):
    monkeypatch.setitem(report.TABLES, "some", lambda: "new\n")
    page = "before\n<!-- figures: some -->\nold\nold\n<!-- end of figures -->\nafter\n"
    new = "before\n<!-- figures: some -->\nnew\n<!-- end of figures -->\nafter\n"
    assert report.written(page) == new
    assert report.written(new) == new
    with pytest.raises(KeyError, match="other"):
        report.written(page.replace("some", "other"))


def test_a_page_that_differs_is_told_and_written(monkeypatch, tmp_path, capsys):
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
    assert "not as measured: none" in capsys.readouterr().out


@pytest.fixture
def one_level(monkeypatch):
    monkeypatch.setattr(results, "load", lambda name: {"rows": [LEVEL]})


def test_a_device_needs_the_longer_of_computing_and_moving(one_level, monkeypatch):
    monkeypatch.setattr(extrapolation, "DEVICES", {"slow": (1.0, 1000), "far": (1000.0, 100)})
    _, (here, slow, far) = extrapolation.devices()
    assert here[1:] == ["0.07", "", "4000 µs", "", "500 µs"]
    assert slow == ["slow", "1", "1,000", "200.0 µs", "computing", "80.0 µs"]  # 100e6 / (0.5 * 1e12)
    assert far == ["far", "1000", "100", "30.0 µs", "memory", "1.0 µs"]  # 3e6 / 100e9


def test_workers_compute_while_they_do_not_send(one_level):
    header, rows = extrapolation.workers()
    assert header == ["network", "2 workers", "8 workers", "32 workers"]
    step, sending = 50 * 4e-3, 4 * 500_000 / 0.125e9  # of one round of all gradients, between two
    assert rows[0][:2] == ["1 Gbit/s", f"{step / (step + sending):.2f}"]


def test_a_corpus_takes_what_the_most_images_took(monkeypatch):
    rows = [{"axis": "images", "value": count, "encode_us": each} for count, each in ((10, 9.0), (1000, 6.0))]
    monkeypatch.setattr(results, "load", lambda name: {"rows": [*rows, LEVEL]})
    assert "takes this machine 1 minutes" in extrapolation.corpus()


def test_a_flow_is_shown_beside_what_was_done_on_the_same_encodings(monkeypatch):
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
        "| 14x14x2: one Gaussian",
        "| flow on 14x14x2 encodings",
        "| flow on 28x28 pixels",
    ]
    assert "after 7 seconds as the same flow on 28x28 pixels after 61" in quality.flow_short()


def test_a_classifier_on_encodings_is_told_with_the_autoencoders_seconds(monkeypatch):
    pixels = {"on": "128x128x3", "epoch": 40.0, "epochs": 4, "before": 0.0, "seconds": 161.0, "accuracy": 0.857}
    short = {"on": "32x32x32", "epoch": 2.0, "epochs": 4, "before": 20.0, "seconds": 29.0, "accuracy": 0.853}
    longer = short | {"epochs": 66, "seconds": 155.0, "accuracy": 0.967}
    kept = results.load("classifiers")
    monkeypatch.setattr(results, "load", lambda name: kept | {"rows": [pixels, short, longer]})
    assert "97% of new ones right after 155 seconds on 32x32x32 encodings" in speed.classifiers_short()
    assert "on pixels 86% after 161" in speed.classifiers_short()
    assert speed.classifiers().splitlines()[2:5] == [
        "| 128x128x3 | 40.00 s | 1 | 4 | 161 s | 0.86 |",
        "| 32x32x32 | 2.00 s | 20 | 4 | 29 s | 0.85 |",
        "| 32x32x32 | 2.00 s | 20 | 66 | 155 s | 0.97 |",
    ]
    assert "took 20 s of these" in speed.classifiers()


def test_bytes_are_those_of_every_layers_output():
    level = ConvLevel(n_out=4, n_scalings=1, size=8, depth=0)
    level.build((16, 16, 3))
    # the input, patchify and tanh, linear and residual, their sum
    values = 16 * 16 * 3 + 2 * 8 * 8 * 8 + 3 * 8 * 8 * 4
    assert forward_bytes(level.encoder) == 2 * 4 * values
    assert training_bytes(level) == 3 * (2 * 4 * values + forward_bytes(level.decoder))
