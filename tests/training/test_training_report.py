import logging
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, SequenceLevel
from stacked_autoencoder.data.adapters import as_pairs
from stacked_autoencoder.training import callbacks as callbacks_module
from stacked_autoencoder.training.report import TrainingReport
from tests.conftest import blobs

NEIGHBOURS = "Loss with a decoder that reads neighbouring encodings"


def two_levels():
    keras.utils.set_random_seed(0)
    return Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_scalings=1, n_levels=2)


def test_training_names_images_levels_losses_and_ends_with_a_table(images, held_out, capsys):
    histories = two_levels().train(images, epochs=[1, 2], validation_data=held_out, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        f"Training levels 0 and 1 on {len(images)} images, with {len(held_out)} validation examples.",
        "Level 0, 1 of 2: 16x16x3 -> 8x8x4",
        "  Computing PCA of its input ...",
        lines[3],
        lines[4],
    ]
    losses = rf"  PCA loss on the validation data: (\S+)\. {NEIGHBOURS}: {histories[0].start_loss:.3e}\. Compiling .*"
    first_pca_loss = float(re.fullmatch(losses, lines[3])[1])
    assert first_pca_loss > histories[0].start_loss
    assert re.fullmatch(
        r"Level 0 \(16x16x3 -> 8x8x4\), epoch 1/1 - \d+s - \d+ms/step - loss: \S+ - val_loss: \S+", lines[4]
    )
    assert lines[5:7] == [
        "Encoding the training data with level 0 ...",
        "Encoding the validation data with level 0 ...",
    ]
    assert sum(line.startswith("Level 1 (8x8x4 -> 4x4x4), epoch") for line in lines) == 2
    *_, title, header, first, second, end = lines
    assert title == "Losses of each level on its own input, measured on the validation data:"
    assert header.split("  ")[-1].strip() == "loss / PCA loss"
    assert float(first.split()[2]) == first_pca_loss
    for row, index, history in ((first, 0, histories[0]), (second, 1, histories[1])):
        best = history.best_loss
        *start, pca_loss, loss, share = row.split()
        assert start == [str(index), ["8x8x4", "4x4x4"][index]]
        assert float(pca_loss) >= history.start_loss
        assert loss == f"{best:.3e}"
        assert float(share) == pytest.approx(best / float(pca_loss), abs=0.006)
        assert best == pytest.approx(min(history.start_loss, *history.history["val_loss"]))
    assert re.fullmatch(r"Training took \d+:\d\d\.", end)


def test_nothing_is_printed_with_verbose_0(images, tmp_path, capfd):
    sae = two_levels()
    for _ in range(2):  # the second call finds all levels in the checkpoints
        sae.train(images, epochs=1, verbose=0, checkpoint_dir=tmp_path)
        sae = two_levels()
    sae.train(images, epochs=0, verbose=0)
    sae.fine_tune(images, epochs=1, verbose=0)
    assert capfd.readouterr().out == ""


def test_trained_levels_continue_and_levels_without_pca_have_an_initial_loss(images, capsys):
    sae = Autoencoder(shape=(16, 16, 3), levels=[DenseLevel(4, activation="tanh")])
    sae.train(images, epochs=1, verbose=2)
    printed = capsys.readouterr().out
    assert "No validation data: a sample of the training data selects the weights." in printed
    assert "Computing the closed-form initialisation ..." in printed
    assert "loss / initial loss" in printed
    assert "PCA" not in printed
    sae.train(images, epochs=0, verbose=2)
    printed = capsys.readouterr().out
    assert "Computing" not in printed
    assert "  Loss before training on a sample of the training data: " in printed
    assert "Compiling" not in printed  # no step is taken


def test_only_linear_levels_with_the_mean_squared_error_start_with_pca():
    linear = [ConvLevel(4), DenseLevel(4, activation=None), DenseLevel([8, 4], activation="linear")]
    assert all(level.starts_with_pca for level in linear)
    others = [ConvLevel(4, loss="mae"), ConvLevel(4, output_activation="sigmoid"), DenseLevel([8, 4])]
    others += [DenseLevel(4, activation=None, output_activation="sigmoid"), SequenceLevel(4)]
    assert not any(level.starts_with_pca for level in others)


def test_levels_from_checkpoints_are_named(images, tmp_path, capsys):
    first = two_levels().train(images, epochs=1, verbose=0, checkpoint_dir=tmp_path)
    second = two_levels().train(images, epochs=1, verbose=1, checkpoint_dir=tmp_path)
    printed = capsys.readouterr().out
    assert printed.count(f"  Already trained: taken from the checkpoint in {tmp_path}.") == 2
    assert [history.best_loss for history in second] == [history.best_loss for history in first]
    assert f"{first[1].best_loss:.3e}" in printed.splitlines()[-2]


def test_training_that_continues_within_a_level_names_the_epoch(images, tmp_path, capsys):
    class Stop(keras.callbacks.Callback):
        def __init__(self, is_on):  # arguments aren't part of checkpoints
            super().__init__()
            self.is_on = is_on

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2 and self.is_on:
                raise RuntimeError("stop")

    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    with pytest.raises(RuntimeError, match="stop"):
        sae.train(images, epochs=3, verbose=0, callbacks=Stop(True), checkpoint_dir=tmp_path)
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    sae.train(images, epochs=3, verbose=2, callbacks=Stop(False), checkpoint_dir=tmp_path)
    printed = capsys.readouterr().out
    assert "  Continuing from the checkpoint, at epoch 3." in printed
    assert "epoch 3/3" in printed
    assert "epoch 2/3" not in printed


def test_fine_tuning_compares_the_whole_stack(images, held_out, capsys):
    sae = two_levels()
    sae.train(images, epochs=0, verbose=0)
    history = sae.fine_tune(images, epochs=1, validation_data=held_out, verbose=2)
    printed = capsys.readouterr().out
    assert "Fine-tuning all levels jointly (16x16x3 -> 4x4x4) on" in printed
    assert "Losses of the whole stack, measured on the validation data:" in printed
    assert printed.splitlines()[-2].split()[:3] == ["all", "4x4x4", f"{history.start_loss:.3e}"]


@pytest.mark.filterwarnings("ignore:Skipped")
def test_files_of_a_folder_that_are_not_used_are_named(tmp_path, capsys):
    for index in range(30):
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index:02}.png")
    (tmp_path / "07.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("")
    Autoencoder(shape=(8, 8, 3), levels=[DenseLevel(4)]).train(tmp_path, epochs=1, verbose=2)
    printed = capsys.readouterr().out
    assert f"Ignored files in {tmp_path}: 1 .txt." in printed
    assert f"Skipped 1 of 30 pictures in {tmp_path}: 07.png (" in printed


# === The time left ===


def report_of(images, epochs, **options):
    sae = two_levels()
    return TrainingReport(sae.stack, as_pairs(images, None, **sae.stack.source_options), None, epochs, 1, **options)


def test_the_time_left_includes_higher_levels(images):
    report = report_of(images, {0: 2, 1: 10}, batch_size=8)
    steps = len(images) // 8
    text = report.level(0).time_left(seconds_per_step=10.0, steps_left=6, steps=steps)
    later = report.seconds_of_later_levels(0, 10.0, steps)
    total = 60 + round(later)
    minutes = f"{total // 60}:{total % 60:02}" if total < 3600 else ""
    assert text.startswith(f"about 1:00 left, {minutes}")
    assert text.endswith(" for all levels")
    assert 0.1 * 10.0 * steps * 10 <= later <= 10.0 * steps * 10  # level 1 is smaller
    assert report.level(1).time_left(10.0, 6, steps) == "about 1:00 left"


def test_a_long_epoch_has_an_estimate_after_a_while(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(callbacks_module.time, "monotonic", lambda: now[0])
    bar = callbacks_module.LevelProgress("Level 0", lambda per_step, left, steps: f"{per_step * left:.0f} s left")
    bar.set_params({"epochs": 2, "steps": 1000, "verbose": 2})
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    for step in range(0, 200, 10):
        now[0] += 1.0 if step else 60.0  # the first execution compiles
        bar.on_train_batch_end(step + 9, {"loss": 0.1})
    assert capsys.readouterr().out == "Level 0: 189 s left\n"
    now[0] += 80.0
    bar.on_train_batch_end(999, {"loss": 0.1})
    bar.on_epoch_end(0, {"loss": 0.1, "extra": [1]})
    line = capsys.readouterr().out
    assert line == "Level 0, epoch 1/2 - 159s - 159ms/step - loss: 0.1 - 100 s left\n"


# === TensorFlow's warnings of retracing ===


class Retracing(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        if "retracing" in record.getMessage():
            self.messages.append(record.getMessage())


@pytest.fixture
def retracing():
    handler = Retracing()
    tf.get_logger().addHandler(handler)
    yield handler.messages
    tf.get_logger().removeHandler(handler)


def test_many_levels_do_not_warn_of_retracing(retracing):
    images = blobs(16, side=64, channels=1)
    sae = Autoencoder(shape=(64, 64, 1), levels=[ConvLevel(2 + index, 1, 4 + index) for index in range(6)])
    sae.train(images, epochs=1, batch_size=8, validation_data=images[:8], verbose=0)
    sae.reconstruct(images)
    assert retracing == []


def test_many_image_sizes_do_not_warn_of_retracing(retracing, tmp_path):
    images = [blobs(1, side=8 + 2 * index)[0] for index in range(12)]
    sae = Autoencoder(size=4, n_out=4, n_scalings=1)
    sae.encode_to(tmp_path / "store", images, verbose=0)
    for image in images:
        sae.encode(image[None])
    sae.train(images, epochs=1, validation_data=images, verbose=0)
    for number in range(7):
        other = Autoencoder(size=4 + number, n_out=4, n_scalings=1)
        other.encode_to(tmp_path / str(number), images[:2], verbose=0)
        other.encode(images[-1][None], tile=8)
    assert retracing == []
