import sys

from stacked_autoencoder.training.callbacks import LevelProgress
from stacked_autoencoder.utils.console import open_line


def progress(steps, verbose=1):
    """A bar in the middle of an epoch."""
    bar = LevelProgress("Level 0")
    bar.set_params({"epochs": 2, "steps": steps, "verbose": verbose})
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    for step in range(steps):
        bar.on_train_batch_end(step, {"loss": 0.1})
    return bar


def test_the_line_of_the_bar_is_known_until_it_ends(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    bar = progress(24)
    assert open_line.is_open
    bar.on_epoch_end(0, {"loss": 0.1})
    assert not open_line.is_open
    assert capsys.readouterr().out.endswith("\n")
    bar = progress(24)
    open_line.end()
    assert capsys.readouterr().out.endswith("\n")
    bar.on_epoch_end(0, {"loss": 0.1})


def test_a_silent_bar_leaves_no_line_open(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    progress(24, verbose=0)
    progress(24, verbose=2)
    assert not open_line.is_open
