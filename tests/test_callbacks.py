"""What is written for TensorBoard is read back from its event files."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util.event_pb2 import Event

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, callbacks
from stacked_autoencoder.utils.images import as_shown
from tests.conftest import blobs


def events(folder: Path) -> dict[tuple[str, int], np.ndarray]:
    """(tag, step) → picture, of all files in the order of their writing."""
    found = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = Event.FromString(record)
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "images"
                width, height, png = tf.make_ndarray(value.tensor)
                picture = tf.io.decode_png(png).numpy()
                assert picture.shape[:2] == (int(height), int(width))
                found[value.tag, event.step] = picture
    return found


def stack():
    return Autoencoder(shape=(16, 16, 3), size=8, n_out=4, n_scalings=1, n_levels=2)


def as_bytes(images, value_range=(-1, 1)):
    return np.round(255 * as_shown(images, value_range)).astype(int)


def assert_rows_are(picture, above, below, value_range=(-1, 1)):
    """Images over images, within what rounding may change."""
    for top, row in ((0, above), (17, below)):
        for index, image in enumerate(as_bytes(row, value_range)):
            assert np.abs(picture[top : top + 16, 17 * index : 17 * index + 16] - image).max() <= 1


def test_each_level_has_its_pictures_and_steps(tmp_path, images, held_out):
    sae, shown = stack(), np.round((held_out[:3] + 1) * 127.5).astype(np.uint8)
    pictures = callbacks.ReconstructionImages(sae, shown, tmp_path, freq=2)
    sae.train(images, epochs=[0, 0], verbose=0)
    starts = [sae.reconstruct(shown, level=depth) for depth in range(2)]
    sae.train(images, epochs=[4, 3], callbacks=[pictures], verbose=0)
    found = events(tmp_path)
    assert list(found) == [("level 0", 0), ("level 0", 2), ("level 0", 4), ("level 1", 0), ("level 1", 2)]
    assert found["level 1", 0].shape == (2 * 16 + 1, 3 * 16 + 2, 3)
    assert_rows_are(found["level 0", 0], shown, starts[0])
    assert (found["level 0", 4][17:] != found["level 0", 0][17:]).any()


def test_the_last_picture_shows_what_training_ended_with(tmp_path, held_out):
    sae = stack()
    pictures = callbacks.ReconstructionImages(sae, held_out[:2], tmp_path)
    # Small steps always lower the loss, so the weights of the last epoch are the best ones.
    histories = sae.train(held_out, epochs=2, optimizer=keras.optimizers.Adam(1e-5), verbose=0, callbacks=[pictures])
    assert all(history.best_loss < history.start_loss for history in histories)
    for depth in range(2):
        assert_rows_are(events(tmp_path)[f"level {depth}", 2], held_out[:2], sae.reconstruct(held_out[:2], level=depth))


def test_tied_levels_are_shown_as_they_train(tmp_path):
    clothes = (blobs(64, channels=1) + 1) / 2
    sae = Autoencoder(shape=(16, 16, 1), levels=[DenseLevel([12, 6], tied=True)])
    sae.train(clothes, epochs=2, verbose=0, callbacks=[callbacks.ReconstructionImages(sae, clothes[:2], tmp_path)])
    assert_rows_are(events(tmp_path)["level 0", 2], clothes[:2], sae.reconstruct(clothes[:2]), (0, 1))


def test_fine_tuning_has_pictures_of_its_own(tmp_path, images):
    sae = stack()
    sae.train(images, epochs=0, verbose=0)
    pictures = callbacks.ReconstructionImages(sae, images[:2], tmp_path)
    sae.fine_tune(images, epochs=1, callbacks=[pictures], verbose=0)
    assert list(events(tmp_path)) == [("all levels", 0), ("all levels", 1)]


class Killed(Exception):
    pass


class KillAtTheEndOf(keras.callbacks.Callback):
    """Raises in the epoch after this one."""

    def __init__(self, epoch):
        super().__init__()
        self.epochs = [epoch]

    def on_epoch_begin(self, epoch, logs=None):
        if self.epochs == [epoch - 1]:
            raise Killed


def test_training_that_goes_on_after_a_kill_goes_on_with_its_steps(tmp_path, images):
    logs, whole_logs = tmp_path / "logs", tmp_path / "whole"

    def train(folder, checkpoints, kill_after):
        keras.utils.set_random_seed(0)
        sae = stack()
        pictures = callbacks.ReconstructionImages(sae, images[:2], folder)
        sae.train(
            images,
            epochs=[3, 1],
            callbacks=[pictures, KillAtTheEndOf(kill_after)],
            checkpoint_dir=tmp_path / checkpoints,
            verbose=0,
        )

    with pytest.raises(Killed):
        train(logs, "checkpoints", 1)
    train(logs, "checkpoints", None)
    train(logs, "checkpoints", None)  # all is done: nothing is written
    train(whole_logs, "others", None)
    found, whole = events(logs), events(whole_logs)
    assert list(whole) == [*((f"level {0}", step) for step in range(4)), ("level 1", 0), ("level 1", 1)]
    assert sorted(found) == sorted(whole)
    for place, picture in whole.items():
        np.testing.assert_array_equal(found[place], picture)


def test_the_writer_is_closed_and_its_files_are_whole(tmp_path, images, monkeypatch):
    writers = []
    make = tf.summary.create_file_writer
    monkeypatch.setattr(tf.summary, "create_file_writer", lambda folder: writers.append(make(folder)) or writers[-1])
    sae = stack()
    sae.train(images, epochs=1, callbacks=[callbacks.ReconstructionImages(sae, images[:2], tmp_path)], verbose=0)
    assert len(writers) == 2
    for writer in writers:
        with pytest.raises(RuntimeError, match="closed"):
            writer.as_default().__enter__()


def test_what_can_not_be_shown_raises_an_error(tmp_path, images):
    anywhere = Autoencoder(size=4)
    with pytest.raises(ValueError, match=r"`images` must all have the same size.*\(16, 16, 3\), \(24, 16, 3\)"):
        callbacks.ReconstructionImages(anywhere, [images[0], np.zeros((24, 16, 3), np.float32)], tmp_path)
    with pytest.raises(ValueError, match=r"`freq` must be a whole number of at least 1\. Received: freq=0"):
        callbacks.ReconstructionImages(anywhere, images[:2], tmp_path, freq=0)
    of_many = Autoencoder(shape=(16, 16, 5), levels=[ConvLevel(4, 1, 4)])
    with pytest.raises(ValueError, match=r"`images` must be \(N, H, W, 1 or 3\)"):
        callbacks.ReconstructionImages(of_many, np.zeros((2, 16, 16, 5), np.float32), tmp_path)
    pictures = callbacks.ReconstructionImages(anywhere, images[:2], tmp_path)
    with pytest.raises(
        ValueError, match=r"`sae` must be the Autoencoder whose `train` or `fine_tune` this callback is passed to"
    ):
        stack().train(images, epochs=1, callbacks=[pictures], verbose=0)
    assert not any(tmp_path.iterdir())
