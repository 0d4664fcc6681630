import sys

from stacked_autoencoder.utils import console
from stacked_autoencoder.utils.console import Progress


def shown(monkeypatch, capsys, total, verbose=1, tty=True):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: tty, raising=False)
    now = iter(range(100))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(now)))
    with Progress(total, verbose) as line:
        line.skip(100)
        line.add(50)
    return capsys.readouterr().out


def test_the_line_shows_what_is_done_how_fast_and_what_is_left(monkeypatch, capsys):
    out = shown(monkeypatch, capsys, 1000)
    assert out.startswith("\r[===.....................] 150/1,000 images, 25 images/s, 0:34 left")
    assert out.endswith("\n")


def test_without_a_total_there_is_no_bar_and_no_time_left(monkeypatch, capsys):
    out = shown(monkeypatch, capsys, None)
    assert out.startswith("\r150 images, 25 images/s")
    assert "left" not in out


def test_a_file_gets_whole_lines_and_silence_is_silent(monkeypatch, capsys):
    assert shown(monkeypatch, capsys, 1000, tty=False).count("\n") == 1  # half a minute hasn't passed
    assert shown(monkeypatch, capsys, 1000, verbose=0) == ""
