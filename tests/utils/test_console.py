import re
import sys
from contextlib import suppress

from stacked_autoencoder.utils import console
from stacked_autoencoder.utils.console import Progress, clock, open_line, quotient


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


def on_a_terminal(monkeypatch):
    """To be called in a test: the stream of its fixtures is another one."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def last_line(out):
    return out.removesuffix("\n").split("\n")[-1].split("\r")[-1].rstrip()


def test_what_is_over_ends_at_all_that_was_there(monkeypatch, capsys):
    on_a_terminal(monkeypatch)
    with Progress(24, 1) as line:
        line.add(16)
        line.add(7)  # one of the 24 could not be read
    assert re.fullmatch(r"\[={24}\] 23/23 images, [\d,.]+ images/s", last_line(capsys.readouterr().out))


def test_what_was_there_already_is_said_to_be_finished(monkeypatch, capsys):
    on_a_terminal(monkeypatch)
    with Progress(24, 1) as line:
        line.skip(24)
    assert last_line(capsys.readouterr().out) == f"[{'=' * 24}] 24/24 images, already finished"
    with Progress(None, 1) as line:
        line.skip(24)
    assert last_line(capsys.readouterr().out) == "24 images, already finished"


def test_what_is_cut_short_ends_where_it_was(monkeypatch, capsys):
    on_a_terminal(monkeypatch)
    for images, expected in ((12, f"[{'=' * 12}{'.' * 12}] 12/24 images"), (0, "")):
        with suppress(KeyboardInterrupt), Progress(24, 1) as line:
            line.add(images)
            raise KeyboardInterrupt
        assert last_line(capsys.readouterr().out).split(",")[0] == expected


def test_slow_work_has_a_speed(monkeypatch, capsys):
    monkeypatch.setattr(console.time, "monotonic", iter([0.0, 1.0, 40.0]).__next__)
    with Progress(1, 1) as line:
        line.add(1)
    assert capsys.readouterr().out.endswith("1/1 images, 0.025 images/s\n")


def test_a_line_is_never_wrapped_and_covers_the_one_before(monkeypatch, capsys):
    on_a_terminal(monkeypatch)
    monkeypatch.setattr(console.time, "monotonic", iter([0.0, 1.0, 1.0, 2000.0]).__next__)
    with Progress(1_000_000_000, 1) as line:
        line.add(900_000_000)
    first, last = capsys.readouterr().out.removesuffix("\n").split("\r")[1:]
    assert len(first) == len(last) == 79
    assert len(last.rstrip()) < 79


def test_what_is_printed_beside_a_bar_starts_a_new_line(monkeypatch, capsys):
    on_a_terminal(monkeypatch)
    monkeypatch.setattr(console.time, "monotonic", iter([0.0, 1.0, 1.0, 2.0, 2.0, 3.0]).__next__)
    with Progress(24, 1) as line:
        line.add(12)
        open_line.end()
        open_line.end()  # nothing is open any more
        print("warning")
        line.add(12)
    open_line.end()
    lines = [each.split("\r")[-1] for each in capsys.readouterr().out.removesuffix("\n").split("\n")]
    assert [each.strip()[:7] for each in lines] == ["[======", "warning", "[======"]


def test_durations_and_quotients_as_text():
    assert [clock(seconds) for seconds in (0.4, 59.6, 3599, 3661)] == ["0:00", "1:00", "59:59", "1:01:01"]
    assert [quotient(*losses) for losses in ((1, 2), (0, 0), (1, 0))] == ["0.50", "0 / 0", "inf"]
