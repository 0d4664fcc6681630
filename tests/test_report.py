"""The figures in the pages are those that were measured."""

import pytest

from benchmarks import extrapolation, report, results
from benchmarks.markdown import markdown
from benchmarks.operations import forward_bytes, training_bytes
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
    (tmp_path / "docs").mkdir()
    monkeypatch.setitem(report.TABLES, "some", lambda: markdown(["a", "b"], [["1", "2"]]))
    assert report.main(["--check"]) == ["page.md"]
    assert "| a | b |" not in page.read_text()
    assert report.main([]) == ["page.md"]
    assert "| a | b |\n| --- | --- |\n| 1 | 2 |\n<!-- end" in page.read_text()
    assert all((tmp_path / "docs" / f"{name}.png").stat().st_size > 1000 for name in report.PICTURES)
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


def test_bytes_are_those_of_every_layers_output():
    level = ConvLevel(n_out=4, n_scalings=1, size=8, depth=0)
    level.build((16, 16, 3))
    # the input, patchify and tanh, linear and residual, their sum
    values = 16 * 16 * 3 + 2 * 8 * 8 * 8 + 3 * 8 * 8 * 4
    assert forward_bytes(level.encoder) == 2 * 4 * values
    assert training_bytes(level) == 3 * (2 * 4 * values + forward_bytes(level.decoder))
