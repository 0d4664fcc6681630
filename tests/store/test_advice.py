"""Follows the advice of messages about stores that no other test follows."""

import shutil

import numpy as np
import pytest
from PIL import Image

from stacked_autoencoder import Autoencoder, EncodingStore, ImageFolder
from stacked_autoencoder.store.manifest import LOG, MANIFEST
from stacked_autoencoder.utils.files import only_writer
from tests.conftest import blobs

IMAGES = blobs(20)
LABELS = np.arange(20)


@pytest.fixture(scope="module")
def sae():
    sae = Autoencoder(size=4, n_out=4, n_scalings=1)
    sae.train(IMAGES, epochs=0, verbose=0)
    return sae


@pytest.fixture
def write(sae):
    """Writes a store of twenty encodings in shards of ten."""
    return lambda path, images=IMAGES, **options: sae.encode_to(path, images, shard_size=10, verbose=0, **options)


@pytest.fixture
def path(write, tmp_path):
    return write(tmp_path / "store").path


def spoil(path):
    shard = path / "00001.npy"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)


def parts(write, path, *arguments):
    for index, options in enumerate(arguments):
        write(path, shard=(index, 2), **options)
    return path


def no_store(write, path):
    return (
        lambda: EncodingStore(path.parent / "nowhere"),
        r"`store = sae\.encode_to\(path, images\)`",
        lambda: write(path),
    )


def unfinished(write, path):
    (path / MANIFEST).rename(path / LOG)
    log = path / LOG
    log.write_bytes(log.read_bytes().replace(b"\n", b"") + b"\n")
    return lambda: EncodingStore(path), r"which continues where it stopped", lambda: write(path)


def damaged(write, path):
    spoil(path)
    return (
        EncodingStore(path).verify,
        r"which encodes only these shards",
        lambda: [write(path).verify(), write(path)][1],
    )


def changed(write, path):
    store = EncodingStore(path)
    shutil.copy(path / "00001.npy", path / "00000.npy")
    return lambda: store[0], r"open it again with `EncodingStore\(path\)`", lambda: EncodingStore(path)


def several_stores(write, path):
    folder = path.parent / "several"
    for index in range(2):
        shutil.copytree(path, folder / f"part{index}")
    return lambda: EncodingStore(folder), r"open each by its own path", lambda: EncodingStore(folder / "part1")


def same_part_twice(write, path):
    folder = path.parent / "parts"
    write(folder, shard=(0, 1))
    shutil.copytree(folder / "part0-of-1", folder / "part-again")

    def move():
        (folder / "part-again").rename(path.parent / "moved")
        return EncodingStore(folder)

    return lambda: EncodingStore(folder), r"move one of them to another folder", move


def missing_part(write, path):
    folder = parts(write, path.parent / "parts", {})

    def complete():
        write(folder, shard=(1, 2))
        return EncodingStore(folder)

    return lambda: EncodingStore(folder), r"Write each with `encode_to\(path, images, shard=\(i, n\)\)`", complete


def parts_of_two_dtypes(write, path):
    folder = parts(write, path.parent / "parts", {"dtype": "float16"}, {"dtype": "float32"})
    again = path.parent / "again"
    return (
        lambda: EncodingStore(folder),
        r"differ in `dtype`\. Write all parts with the same stack and arguments of `encode_to`",
        lambda: EncodingStore(parts(write, again, {"dtype": "float32"}, {"dtype": "float32"})),
    )


def parts_with_and_without_labels(write, path):
    folder = parts(write, path.parent / "parts", {}, {"images": (IMAGES, LABELS)})
    again = path.parent / "again"
    return (
        lambda: EncodingStore(folder),
        r"only some of these have `labels`\. Write all parts from the same images",
        lambda: EncodingStore(parts(write, again, *[{"images": (IMAGES, LABELS)}] * 2)),
    )


def parts_with_other_names(write, path):
    folder = parts(write, path.parent / "parts", *({"images": (IMAGES, {name: LABELS})} for name in ("a", "b")))
    again = path.parent / "again"
    return (
        lambda: EncodingStore(folder),
        r"Write all parts with the same names of labels",
        lambda: EncodingStore(parts(write, again, *[{"images": (IMAGES, {"a": LABELS})}] * 2)),
    )


def parts_with_other_classes(write, path):
    for name in ("cats", "dogs"):
        (path.parent / "photos" / name).mkdir(parents=True)
        for index in range(10):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path.parent / "photos" / name / f"{index}.png")
    folders = [
        {"images": ImageFolder(path.parent / "photos", labels=True, class_names=names)}
        for names in (["cats", "dogs"], ["dogs", "cats"])
    ]
    folder = parts(write, path.parent / "parts", *folders)
    again = path.parent / "again"
    return (
        lambda: EncodingStore(folder),
        r"differ in `class_names`\. Write all parts from the same images",
        lambda: EncodingStore(parts(write, again, *[folders[0]] * 2)),
    )


def foreign_files(write, path):
    folder = path.parent / "mine"
    folder.mkdir()
    (folder / "notes.txt").touch()
    return lambda: write(folder), r"contains 'notes\.txt'\. Choose another folder", lambda: write(path.parent / "other")


def foreign_log(write, path):
    folder = path.parent / "mine"
    folder.mkdir()
    (folder / LOG).write_text("my notes")
    return lambda: write(folder), r"Choose a new or empty folder as `path`", lambda: write(path.parent / "other")


def dangling_manifest(write, path):
    folder = path.parent / "mine"
    folder.mkdir()
    (folder / MANIFEST).symlink_to("nowhere")

    def delete():
        (folder / MANIFEST).unlink()
        return write(folder)

    return lambda: write(folder), r"symbolic link whose target does not exist: delete it", delete


def damaged_manifest(write, path):
    kept = shutil.copytree(path, path.parent / "kept")
    (path / MANIFEST).write_text("{")

    def copy():
        shutil.rmtree(path)
        return EncodingStore(shutil.copytree(kept, path))

    return lambda: EncodingStore(path), r"Copy the store again", copy


def one_hot_labels(write, path):
    labels = np.eye(20, 200)
    new = path.parent / "new"
    message = r"save them in a separate file.*`labels\.argmax\(axis=-1\)`.*`targets=` of `train`"
    return lambda: write(new, (IMAGES, labels)), message, lambda: write(new, (IMAGES, labels.argmax(axis=-1)))


def labels_in_a_file(write, path):
    labels = np.random.default_rng(0).normal(size=(20, 200))
    new = path.parent / "new"

    def save():
        np.save(path.parent / "labels.npy", labels)
        store = write(new)
        assert len(np.load(path.parent / "labels.npy")) == len(store)
        return store

    return lambda: write(new, (IMAGES, labels)), r"`np\.save\('labels\.npy', labels\)`", save


def broken_weights(write, path):
    broken = Autoencoder(size=4, n_out=4, n_scalings=1)
    broken.train(IMAGES, epochs=0, verbose=0)
    saved, new = broken.save(path.parent / "saved"), path.parent / "new"
    broken.encoder.set_weights([np.full_like(weight, np.nan) for weight in broken.encoder.get_weights()])
    return (
        lambda: broken.encode_to(new, IMAGES, verbose=0),
        r"broken \(NaN or infinite\)\. Load the stack again",
        lambda: Autoencoder.load(saved).encode_to(new, IMAGES, verbose=0),
    )


ADVICE = (
    no_store,
    unfinished,
    damaged,
    changed,
    several_stores,
    same_part_twice,
    missing_part,
    parts_of_two_dtypes,
    parts_with_and_without_labels,
    parts_with_other_names,
    parts_with_other_classes,
    foreign_files,
    foreign_log,
    dangling_manifest,
    damaged_manifest,
    one_hot_labels,
    labels_in_a_file,
    broken_weights,
)


@pytest.mark.parametrize("make", ADVICE, ids=lambda make: make.__name__)
def test_the_advice_of_each_message_works(write, path, make):
    call, message, followed = make(write, path)
    with pytest.raises((ValueError, FileNotFoundError), match=f"(?s){message}"):
        call()
    store = followed()
    assert len(store[:]) == len(store) == 20


def test_a_second_writer_can_write_a_separate_share(write, tmp_path):
    (tmp_path / "parts").mkdir()
    with (
        only_writer(tmp_path / "parts"),
        pytest.raises(RuntimeError, match=r"Wait until it ends, or give each process its share of the images with"),
    ):
        write(tmp_path / "parts")
    assert len(EncodingStore(parts(write, tmp_path / "parts", {}, {}))) == 20
