import contextlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stacked_autoencoder import Autoencoder, EncodingStore, ImageFolder
from stacked_autoencoder.data.adapters import as_source
from tests.conftest import blobs

ANY = (None, None, 3)
PIXELS = ((blobs(60, side=24) + 1) * 127.5).astype(np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Sixty pictures of three sizes in two folders: picture i is `PIXELS[i]`, cut by 4 (i modulo 3) rows."""
    path = tmp_path / "pictures"
    for index, image in enumerate(PIXELS):
        home = path / ("cats", "dogs")[index % 2]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[: 24 - 4 * (index % 3)]).save(home / f"{index:02d}.png")
    return path


@pytest.fixture(scope="module")
def sae():
    return Autoencoder(size=4, n_out=4)


def numbers(images: ImageFolder) -> list[int]:
    return [int(Path(name).stem) for name in images.names]


def spoil(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(path.read_bytes()[:200])
    return paths


def together(batches) -> np.ndarray:
    return np.concatenate(list(batches))


# === What is in a folder ===


def test_pictures_are_found_in_folders_below_sorted_and_hidden_files_left_out(tmp_path):
    for name in ("b/c/2.JPG", "a-1.png", "a/1.webp", "notes.txt", "._a.jpg", ".cache/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    images = ImageFolder(tmp_path, side=8)
    assert images.names == ["a-1.png", "a/1.webp", "b/c/2.JPG"]
    assert len(images) == 3
    assert images.ignored == {".txt": 1}
    assert repr(images) == f"ImageFolder({str(tmp_path)!r}, side=8): 3 pictures, 1 .txt ignored"


def test_folders_right_below_are_labels_when_asked(folder):
    images = ImageFolder(folder, labels=True)
    assert images.class_names == ["cats", "dogs"]
    np.testing.assert_array_equal(images.labels, np.array(numbers(images)) % 2)
    assert ImageFolder(folder).labels is None
    Image.fromarray(PIXELS[0]).save(folder / "stray.png")
    with pytest.raises(ValueError, match=r"isn't in one: stray\.png\. Move it, or omit `labels`"):
        ImageFolder(folder, labels=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"side": 8, "crop": 8}, r"pass only one of the two\. Received: side=8, crop=8"),
        ({"side": 0}, r"`side` must be a whole number of at least 1\. Received: side=0"),
        ({"crop": 2.5}, r"`crop` must be a whole number of at least 1\. Received: crop=2.5"),
        ({"seed": -1}, r"`seed` must be a whole number of at least 0"),
        ({"max_pixels": 0}, r"`max_pixels` must be a whole number of at least 1\. Received: max_pixels=0"),
        ({"max_pixels": 1.5}, r"`max_pixels` must be a whole number of at least 1"),
    ],
)
def test_wrong_arguments_are_errors(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(folder, **arguments)


def test_a_folder_that_is_missing_or_empty_and_channels_that_pictures_have_not(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"does not exist.*Received: '.*none'"):
        as_source(tmp_path / "none", ANY)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"No pictures \(\.bmp, .*\.webp, \.tif, \.tiff, \.npy\)"):
        as_source(tmp_path / "empty", ANY)
    with pytest.raises(ValueError, match=r"channels, and the model was made for 2"):
        list(as_source(folder, (None, None, 2)).in_order(8))


def refuse_to_list(monkeypatch, *names):
    """Stands for folders that this user may not list, as root may any."""
    scandir = os.scandir

    def refused(path):
        if os.path.basename(path) in names:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)


def test_folders_that_cannot_be_listed_are_reported_once_when_the_folder_is_opened(folder, monkeypatch):
    refuse_to_list(monkeypatch, "dogs")
    with pytest.warns(
        UserWarning, match=r"Skipped folders that cannot be listed: .*/dogs \(Permission denied\)\. To use"
    ) as caught:
        images = ImageFolder(folder, labels=True)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert len(images) == 30
    assert images.class_names == ["cats"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(map(len, as_source(images, ANY).in_order(8))) == 30


def test_many_folders_that_cannot_be_listed_are_counted_and_strange_names_are_printable(folder, monkeypatch):
    names = [f"\x1b[31m{index:02d}" for index in range(25)]
    for name in names:
        (folder / name).mkdir()
    refuse_to_list(monkeypatch, *names)
    with pytest.warns(UserWarning, match=r"\\x1b\[31m19 \(Permission denied\); and 5 more") as caught:
        ImageFolder(folder)
    assert str(caught[0].message).isprintable()


def test_a_folder_that_cannot_be_listed_is_an_error(folder, monkeypatch):
    refuse_to_list(monkeypatch, folder.name)
    expected = r"The folder of pictures cannot be listed \(Permission denied\).*pictures'"
    with pytest.raises(PermissionError, match=expected):
        ImageFolder(folder)
    with pytest.raises(PermissionError, match=expected):
        as_source(folder, ANY)


# === Reading ===


def test_pictures_come_in_order_as_they_are_or_shuffled_in_batches_of_one_size(folder):
    source = as_source(folder, ANY)
    order = numbers(source.folder)
    expected = [PIXELS[index][: 24 - 4 * (index % 3)] for index in order]
    read = [image for batch in source.in_order(8, scale=False) for image in batch]
    assert len(read) == len(expected) == source.count()
    for image, other in zip(read, expected, strict=True):
        np.testing.assert_array_equal(image, other)
    keras.utils.set_random_seed(1)
    shuffled = list(source.raw_batches(8, shuffle=True).as_numpy_iterator())
    shapes = [(number, height) for height in (16, 20, 24) for number in (8, 8, 4)]
    assert sorted(batch.shape[:2] for batch in shuffled) == sorted(shapes)
    assert source.n_batches(8) == len(shuffled)
    found = {image.tobytes() for batch in shuffled for image in batch}
    assert found == {image.tobytes() for image in expected}


def test_shuffling_is_fresh_each_epoch_and_fixed_by_the_seed(folder):
    def two_epochs():
        keras.utils.set_random_seed(3)
        batches = as_source(ImageFolder(folder, side=8), ANY).dataset(12, shuffle=True).repeat(2)
        read = together(batches.as_numpy_iterator())
        return read[:60], read[60:]

    first, second = two_epochs()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first.sum(axis=(1, 2, 3))), np.sort(second.sum(axis=(1, 2, 3))))
    np.testing.assert_array_equal(two_epochs()[1], second)


def test_crops_are_fixed_in_order_and_others_in_each_shuffled_epoch(folder):
    source = as_source(ImageFolder(folder, crop=10), ANY)
    assert source.shape == (10, 10, 3)
    fixed = together(source.in_order(16))
    np.testing.assert_array_equal(together(source.in_order(7)), fixed)
    other_seed = as_source(ImageFolder(folder, crop=10, seed=1), ANY)
    assert not np.array_equal(together(other_seed.in_order(16)), fixed)
    epochs = together(source.dataset(60, shuffle=True).repeat(8).as_numpy_iterator())
    assert len({image.tobytes() for image in epochs}) > 60 * 6


def test_the_model_may_have_one_size_and_its_error_says_how_to_resize(folder):
    sae = Autoencoder(shape=(24, 24, 3), size=4, n_out=4)
    assert sae.encode(ImageFolder(folder, side=24)).shape == (60, 6, 6, 4)
    with pytest.raises(
        ValueError, match=r"/\d\d\.png: `ImageFolder\(path, side=24\)` resizes pictures\. The model was"
    ):
        sae.encode(folder)
    with pytest.raises(ValueError, match=r"`ImageFolder\(path, side=24\)` resizes pictures\."):
        sae.train(folder, epochs=1, verbose=0)
    with pytest.raises(ValueError, match=r"`ImageFolder\(path, size=\(24, 16\)\)` resizes pictures\."):
        Autoencoder(shape=(24, 16, 3), size=4, n_out=4).encode(folder)
    with pytest.raises(ValueError, match=r"made for images of shape \(24, 24, 3\).*Received: shape=\(16, 16, 3\)"):
        sae.encode(ImageFolder(folder, side=16))
    with pytest.raises(ValueError, match=r"cats/00\.png: Images must be at least 64 pixels high and wide"):
        Autoencoder(size=4, n_scalings=6).encode(folder)


# === What can't be read ===


@pytest.mark.parametrize("taken", [{}, {"side": 8}, {"crop": 8}])
def test_unreadable_pictures_are_skipped_and_reported_once(folder, taken):
    broken = spoil(folder, "cats/00.png", "dogs/31.png", "dogs/59.png")  # also the first and the last
    source = as_source(ImageFolder(folder, **taken), ANY)
    with pytest.warns(UserWarning, match=r"can't be read \(3 of 60 pictures so far\)") as caught:
        read = sum(map(len, source.in_order(8)))
    assert len(caught) == 1
    for path in broken:
        assert f"{path} (Invalid PNG data, size 200)" in str(caught[0].message)
    assert read == source.count() == 57
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(map(len, source.batches(8, shuffle=True))) == 57
        assert source.n_batches(8) == len(list(source.batches(8)))


def test_training_continues_without_unreadable_pictures_and_warns(folder):
    """Also where they make a batch of the validation data vanish, whose number Keras knows."""
    spoil(folder, "cats/00.png", "dogs/59.png")
    images = ImageFolder(folder, side=8)
    sae = Autoencoder(size=4, n_out=4)
    with pytest.warns(UserWarning, match="2 of 60 pictures so far") as caught:
        (history,) = sae.train(images, epochs=2, validation_data=ImageFolder(folder, side=8), batch_size=59, verbose=0)
    assert len(caught) == 2  # training and validation pictures
    assert len(history.history["val_loss"]) == 2


def test_names_that_are_not_unicode_and_pictures_that_vanish(folder, sae, tmp_path):
    strange = os.fsdecode(bytes(folder / "cats") + b"/\xe9t\xe9.png")
    Image.fromarray(PIXELS[0]).save(tmp_path / "picture.png")
    os.rename(tmp_path / "picture.png", strange)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.warns(UserWarning, match=r"1 of 62 pictures.*gone\.png .*No such file"):
        store = sae.encode_to(tmp_path / "store", ImageFolder(folder, side=8), verbose=0)
    assert len(store) == 61
    assert os.path.basename(strange) in {os.path.basename(name) for name in EncodingStore(store.path).names}


READ_IN_TIME = """
import os, socket, sys, warnings
from stacked_autoencoder import ImageFolder
from stacked_autoencoder.data.adapters import as_source

os.mkfifo("pipe.png")
os.symlink("pipe.png", "link to pipe.jpg")
os.symlink("/dev/zero", "endless.png")
os.symlink("/proc/self/status", "made up.png")
os.symlink("nowhere", "dangling.png")
os.mkdir("folder.gif")
os.mkdir(".hidden")
os.symlink(".hidden", "link to folder.gif")
socket.socket(socket.AF_UNIX).bind("socket.png")
open("sparse.bmp", "wb").close()
os.truncate("sparse.bmp", (1 << 30) + 1)
images = ImageFolder(".", side=8)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    source = as_source(images, (None, None, 3))
    count = sum(map(len, source.in_order(64)))
caught = [warning for warning in caught if issubclass(warning.category, UserWarning)]
assert len(caught) == 1, caught
print(len(images), count, source.count(), caught[0].message)
"""


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    """In another process, since one that opens a named pipe or an endless file can't be interrupted."""
    Image.fromarray(PIXELS[0]).save(tmp_path / "000.png")
    (tmp_path / "999.png").symlink_to("000.png")
    for index in range(1, 199):
        os.link(tmp_path / "000.png", tmp_path / f"{index:03d}.png")
    done = subprocess.run(
        [sys.executable, "-c", READ_IN_TIME], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("200 200 200 Skipped, since they can't be read (9 of 209 pictures so far): ")
    for name, reason in {
        "pipe.png": "it is a named pipe, not a regular file",
        "link to pipe.jpg": "it is a named pipe, not a regular file",
        "endless.png": "it is a device, not a regular file",
        "made up.png": "it is empty",
        "dangling.png": "No such file or directory",
        "folder.gif": "it is a directory, not a regular file",
        "link to folder.gif": "it is a directory, not a regular file",
        "socket.png": "it is a socket, not a regular file",
        "sparse.bmp": "it has 1,073,741,825 bytes, and at most 1,073,741,824 are read",
    }.items():
        assert f"{name} ({reason})" in done.stdout


def test_too_many_that_may_not_be_opened_are_an_error_before_any_is(folder):
    for index in range(4):
        os.mkfifo(folder / f"{index}\x1b.png")
    images = ImageFolder(folder)
    assert images.skipped == {f"{index}\x1b.png": "it is a named pipe, not a regular file" for index in range(4)}
    with pytest.raises(ValueError, match=r"More than 5% of 64 pictures can't be read: .*/0\\x1b\.png \(it is a named"):
        as_source(images, ANY)


def test_a_folder_named_as_a_picture_is_searched(folder):
    (folder / "cats").rename(folder / "cats.png")
    images = ImageFolder(folder, labels=True)
    assert len(images) == 60
    assert images.class_names == ["cats.png", "dogs"]
    assert images.skipped == {}


def test_a_store_leaves_out_what_may_not_be_opened(folder, sae, tmp_path):
    os.mkfifo(folder / "cats" / "00a.png")
    images = ImageFolder(folder, side=16, labels=True)
    with pytest.warns(UserWarning, match="1 of 61 pictures"):
        store = sae.encode_to(tmp_path / "store", images, shard_size=1, verbose=0)
    assert store.names == images.names
    assert "cats/00a.png" not in images.names
    np.testing.assert_array_equal(store.labels, images.labels)


@pytest.mark.parametrize("as_path", [True, False])
def test_labels_beside_a_folder_follow_the_pictures(folder, sae, tmp_path, as_path):
    """Those of an unreadable picture are left out; a store that is finished takes others."""
    spoil(folder, "cats/02.png", "dogs/01.png")
    images = str(folder) if as_path else ImageFolder(folder, labels=True)
    ages = {name: float(int(Path(name).stem)) for name in ImageFolder(folder).names}
    given = {"age": [*ages.values()], "file": [*ages]}
    with pytest.warns(UserWarning, match="can't be read"):
        store = sae.encode_to(tmp_path / "store", (images, given), shard_size=7, verbose=0)
    assert store.labels["file"].tolist() == store.names
    assert store.labels["age"].tolist() == [ages[name] for name in store.names]
    again = sae.encode_to(tmp_path / "store", (images, np.array(given["age"])), shard_size=7, verbose=0)
    assert again.labels.tolist() == store.labels["age"].tolist()


@pytest.mark.parametrize("count", [59, 61])
def test_a_wrong_number_of_labels_is_an_error(folder, sae, tmp_path, count):
    with pytest.raises(ValueError, match=rf"needs one label per image\. Received: 60 images, {count} labels"):
        sae.encode_to(tmp_path / "store", (ImageFolder(folder), np.arange(count)), verbose=0)


@pytest.mark.parametrize("taken", [{}, {"side": 8}, {"crop": 8}])
def test_pictures_of_too_many_pixels_are_skipped_and_reported(folder, taken):
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(folder / "large.png")
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(folder / "large.jpg")
    source = as_source(ImageFolder(folder, max_pixels=40 * 30 - 1, **taken), ANY)
    with pytest.warns(UserWarning, match="2 of 62 pictures") as caught:
        assert sum(map(len, source.in_order(8))) == 60
    for name in ("large.jpg", "large.png"):
        assert f"{name} (40 x 30 pixels are more than `max_pixels=1199`)" in str(caught[0].message)
    for limit in (40 * 30, None):
        source = as_source(ImageFolder(folder, max_pixels=limit, **taken), ANY)
        assert sum(map(len, source.in_order(8))) == 62


def test_batches_of_many_sizes_come_one_by_one(tmp_path, monkeypatch):
    """However few pictures share a size, no more are held than a batch takes."""
    for side in range(20, 60):
        Image.fromarray(np.zeros((side, 20, 3), np.uint8)).save(tmp_path / f"{side}.png")
    source = as_source(tmp_path, ANY)
    assert source.n_batches(8) == 40
    read, one_pass = [], source._one_pass

    def counted(rows, seed, **options):
        def count(batch):
            read.append(len(batch))
            return batch

        return one_pass(rows, seed, **options).map(lambda images: tf.numpy_function(count, [images], tf.uint8))

    monkeypatch.setattr(source, "_one_pass", counted)
    batches = iter(source.raw_batches(8, shuffle=True))
    next(batches)
    assert sum(read) < 10


def test_more_than_a_twentieth_unreadable_is_an_error(folder):
    spoil(folder, *(f"cats/{index:02d}.png" for index in range(0, 8, 2)))
    expected = r"More than 5% of 60 pictures can't be read: .*cats/00\.png \(Invalid PNG.*Repair or remove them"
    with pytest.raises(ValueError, match=expected):
        list(as_source(folder, ANY).in_order(8))
    with pytest.raises(ValueError, match=expected):
        Autoencoder(size=4, n_out=4).train(ImageFolder(folder, side=8), epochs=1, verbose=0)


def test_too_many_unreadable_in_batches_read_ahead_are_an_error_as_well(folder):
    unreadable = as_source(folder, ANY).unreadable
    for row in range(4):
        with contextlib.suppress(ValueError):  # as in a thread whose batch no one takes
            unreadable.add(row, "Invalid PNG")
    with pytest.raises(ValueError, match="More than 5% of 60 pictures"):
        unreadable.warn()


def test_pictures_smaller_than_the_crop_are_reported_apart_from_damaged_ones_and_the_advice_works(folder):
    expected = (
        r"More than 5% of 60 pictures are smaller than the crop: .*\.png \(smaller than `crop=20`: 16 x 24 pixels\).*"
        r"\. Use `side=20` instead of `crop`, which resizes pictures, or a smaller `crop`\. Received: .*crop=20"
    )
    with pytest.raises(ValueError, match=expected):
        list(as_source(ImageFolder(folder, crop=20), ANY).in_order(8))
    for advice in ({"side": 20}, {"crop": 16}):
        assert sum(map(len, as_source(ImageFolder(folder, **advice), ANY).in_order(8))) == 60


def test_a_few_pictures_smaller_than_the_crop_are_skipped(folder):
    Image.fromarray(PIXELS[0][:7]).save(folder / "small.png")
    images = ImageFolder(folder, crop=16)
    with pytest.warns(UserWarning, match=r"since they are smaller than the crop \(1 of 61 pictures"):
        assert sum(map(len, as_source(images, ANY).in_order(8))) == 60
    assert images.skipped == {"small.png": "smaller than `crop=16`: 7 x 24 pixels"}
    spoil(folder, "cats/00.png")
    with pytest.warns(UserWarning, match=r"since they can't be read or are smaller than the crop \(2 of 61 pictures"):
        list(as_source(ImageFolder(folder, crop=16), ANY).in_order(8))


# === To disk ===


def test_a_store_says_which_picture_and_label_an_encoding_belongs_to(folder, sae, tmp_path):
    """With a block of which no picture can be read, at once or in parts."""
    spoil(folder, "cats/00.png", "cats/02.png")
    images = ImageFolder(folder, side=16, labels=True)
    names = images.names
    with pytest.warns(UserWarning, match="can't be read"):
        store = sae.encode_to(tmp_path / "store", images, shard_size=2, verbose=0)
    assert store.names == images.names == names[2:]
    np.testing.assert_array_equal(store.labels, images.labels)
    assert len(images) == len(images.labels) == 58
    assert len(list(store.path.glob("*.npy"))) == 29
    with pytest.warns(UserWarning, match="can't be read"):
        np.testing.assert_allclose(store[:], sae.encode(images), atol=1e-2)
    for index in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sae.encode_to(tmp_path / "parts", images, shard_size=2, shard=(index, 2), verbose=0)
    parts = EncodingStore(tmp_path / "parts")
    assert parts.names == store.names
    np.testing.assert_array_equal(parts[:], store[:])


def test_mixed_sizes_are_encoded_as_one_by_one(folder, sae, tmp_path):
    store = sae.encode_to(tmp_path / "store", folder, dtype="float32", shard_size=25, verbose=0)
    assert store.shape == (60, None, None, 4)
    for index, encoding in zip(numbers(ImageFolder(folder)), store[:], strict=True):
        (alone,) = sae.encode(PIXELS[index][None, : 24 - 4 * (index % 3)])
        np.testing.assert_allclose(encoding, alone, atol=1e-5)


def test_a_lost_shard_whose_pictures_are_unreadable_now_goes(folder, sae, tmp_path):
    images = ImageFolder(folder, side=8)
    names = images.names
    path = sae.encode_to(tmp_path / "store", images, shard_size=1, verbose=0).path
    picture = folder / names[5]
    times = picture.stat()
    picture.write_bytes(b"?" * times.st_size)
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
    (path / "00005.npy").unlink()
    with pytest.warns(UserWarning, match="can't be read"):
        store = sae.encode_to(path, images, shard_size=1, verbose=0)
    assert store.names == images.names == names[:5] + names[6:]
    assert len(store[:]) == 59
    store.verify()


def test_a_store_knows_its_pictures_again_and_refuses_others(folder, sae, tmp_path):
    path, images = tmp_path / "store", ImageFolder(folder, crop=8)
    sae.encode_to(path, images, shard_size=20, verbose=0)
    before = {file: file.stat().st_mtime_ns for file in path.glob("*.npy")}
    sae.encode_to(path, ImageFolder(folder, crop=8), shard_size=20, verbose=0)
    assert {file: file.stat().st_mtime_ns for file in path.glob("*.npy")} == before
    (path / "00001.npy").unlink()
    sae.encode_to(path, images, shard_size=20, verbose=0)
    EncodingStore(path).verify()
    for others in (ImageFolder(folder, crop=8, seed=1), ImageFolder(folder, side=8)):
        with pytest.raises(ValueError, match=r"of another source \(60 pictures, ImageFolder\(.*crop=8\)\)"):
            sae.encode_to(path, others, shard_size=20, verbose=0)
    os.utime(folder / images.names[30])
    with pytest.raises(ValueError, match=r"their order have changed.*shard 1 doesn't match"):
        sae.encode_to(path, images, shard_size=20, verbose=0)


def test_no_reading_of_a_folder_is_tuned_whose_end_would_wait_for_it(folder):
    source = as_source(ImageFolder(folder, side=16), (16, 16, 3))
    assert source.dataset(4, shuffle=True).options().autotune.enabled is False
    assert source.raw_singles().options().autotune.enabled is False


# === Names of what is encoded ===


@pytest.mark.parametrize("taken", [{}, {"side": 16}, {"crop": 16}])
def test_rows_of_encodings_belong_to_names_and_labels_without_unreadable_pictures(folder, sae, taken):
    spoil(folder, "cats/02.png", "dogs/01.png")
    images = ImageFolder(folder, labels=True, **taken)
    assert len(images) == 60
    with pytest.warns(UserWarning, match="2 of 60 pictures"):
        encodings = sae.encode(images)
    assert len(encodings) == len(images) == len(images.names) == len(images.labels) == 58
    assert images.skipped == dict.fromkeys(("cats/02.png", "dogs/01.png"), "Invalid PNG data, size 200")
    np.testing.assert_array_equal(images.labels, np.array(numbers(images)) % 2)
    if not taken:
        for number, encoding in zip(numbers(images), encodings, strict=True):
            (alone,) = sae.encode(PIXELS[number][None, : 24 - 4 * (number % 3)])
            np.testing.assert_allclose(encoding, alone, atol=1e-5)
    assert "58 pictures, 2 skipped" in repr(images)
    with pytest.warns(UserWarning, match="2 of 60 pictures"):  # a new reading says so again, without opening them
        assert len(sae.encode(images)) == 58


# === Augmentation ===


class Darker(keras.layers.Layer):
    """Takes 10 and a half away, and remembers nothing."""

    def call(self, images, training=None):
        return images - 10.4 if training else images


def test_only_shuffled_passes_are_augmented_in_pixels_of_0_to_255(folder):
    source = as_source(ImageFolder(folder, side=8, augment=Darker()), ANY)
    plain = as_source(ImageFolder(folder, side=8), ANY)
    expected = together(plain.in_order(60, scale=False)).astype(int)
    for batches in (source.in_order(60, scale=False), source.raw_batches(60, shuffle=False).as_numpy_iterator()):
        np.testing.assert_array_equal(together(batches), expected)
    keras.utils.set_random_seed(1)
    (seen,) = source.raw_batches(60, shuffle=True).as_numpy_iterator()
    keras.utils.set_random_seed(1)
    (order,) = plain.raw_batches(60, shuffle=True).as_numpy_iterator()
    assert seen.dtype == np.uint8
    np.testing.assert_array_equal(seen, np.maximum(order.astype(int) - 10, 0))


def test_pictures_of_any_size_train_through_keras_layers_and_validate_without(folder):
    def validation_losses(validates_itself):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.RandomFlip(seed=1), keras.layers.RandomRotation(0.1, seed=2)]
        images = ImageFolder(folder, augment=keras.Sequential(layers))
        validation = images if validates_itself else ImageFolder(folder)
        (history,) = Autoencoder(size=4, n_out=4).train(images, epochs=1, validation_data=validation, verbose=0)
        return history.history["val_loss"]

    assert validation_losses(True) == pytest.approx(validation_losses(False), rel=1e-5)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (keras.layers.RandomCrop(4, 4), r"keep the shape.*a RandomCrop that makes \(None, 4, 4, 3\)"),
        (lambda images: images, r"`augment` must be a Keras layer.*Received: a function"),
    ],
)
def test_what_augments_is_a_layer_that_keeps_the_shape(folder, augment, message):
    with pytest.raises(ValueError, match=message):
        as_source(ImageFolder(folder, augment=augment), ANY)


# === Classes in stores ===


def test_a_store_keeps_the_names_of_the_classes(folder, sae, tmp_path):
    images = ImageFolder(folder, side=8, labels=True, class_names=["fish", "dogs", "cats"])
    store = sae.encode_to(tmp_path / "store", images, shard_size=20, verbose=0)
    assert store.class_names == ["fish", "dogs", "cats"]
    assert {store.class_names[label] for label in store.labels[:30]} == {"cats"}
    with pytest.raises(
        ValueError, match=r"labels for the classes \['fish', 'dogs', 'cats'\]\. .* with these `class_names`"
    ):
        sae.encode_to(tmp_path / "store", ImageFolder(folder, side=8, labels=True), shard_size=20, verbose=0)
    again = ImageFolder(folder, side=8, labels=True, class_names=store.class_names)  # as the message advises
    assert sae.encode_to(tmp_path / "store", again, shard_size=20, verbose=0).class_names == store.class_names
    assert sae.encode_to(tmp_path / "without", folder, verbose=0).class_names is None


def test_a_store_of_an_older_version_gets_the_names_of_its_classes(folder, sae, tmp_path):
    images = ImageFolder(folder, side=8, labels=True)
    path = sae.encode_to(tmp_path / "store", images, verbose=0).path
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["class_names"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert EncodingStore(path).class_names is None
    assert sae.encode_to(path, images, verbose=0).class_names == ["cats", "dogs"]
    EncodingStore(path).verify()


@pytest.mark.parametrize("names", ["cats", ["cats", 1], ["cats", "cats"], None])
def test_class_names_of_a_strange_manifest_are_checked(folder, sae, tmp_path, names):
    path = sae.encode_to(tmp_path / "store", ImageFolder(folder, side=8, labels=True), verbose=0).path
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"class_names": names}))
    with pytest.raises(ValueError, match="`class_names` must be a list of texts, each once"):
        EncodingStore(path)
