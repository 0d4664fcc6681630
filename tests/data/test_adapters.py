import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.utils.value_range import UNLIMITED
from tests.conftest import blobs

ANY = (None, None, 3)


class Batches(keras.utils.PyDataset):
    def __init__(self, images, size=5, labels=None):
        super().__init__()
        self.images, self.size = images, size
        self.labels = np.zeros(len(images)) if labels is None else labels

    def __len__(self):
        return -(-len(self.images) // self.size)

    def __getitem__(self, index):
        rows = slice(index * self.size, (index + 1) * self.size)
        return self.images[rows], self.labels[rows]


class Nothing:
    """Labels of a PyDataset that has none: `(images, None)`."""

    def __getitem__(self, rows):
        return None


PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)
SCALED = (PIXELS / 127.5 - 1).astype(np.float32)

SAME_IMAGES = {
    "uint8 array": lambda: PIXELS,
    "float array": lambda: SCALED,
    "float64 array": lambda: SCALED.astype(np.float64),
    "tensor": lambda: tf.constant(PIXELS),
    "(images, labels)": lambda: (PIXELS, np.arange(12)),
    "list of arrays": lambda: list(PIXELS),
    "list of (1, H, W, C)": lambda: [tf.constant(image[None]) for image in SCALED],
    "unbatched dataset": lambda: tf.data.Dataset.from_tensor_slices(PIXELS),
    "batched dataset": lambda: tf.data.Dataset.from_tensor_slices(PIXELS).batch(5),
    "dataset of (images, labels)": lambda: tf.data.Dataset.from_tensor_slices((SCALED, np.arange(12))).batch(5),
    "dataset of unknown length": lambda: tf.data.Dataset.from_generator(
        lambda: iter(PIXELS), output_signature=tf.TensorSpec((None, None, 3), tf.uint8)
    ),
    "PyDataset": lambda: Batches(PIXELS),
    "PyDataset of (images, None)": lambda: Batches(PIXELS, labels=Nothing()),
}


@pytest.mark.parametrize("kind", SAME_IMAGES)
def test_every_source_has_the_same_images_in_order(kind):
    source = as_source(SAME_IMAGES[kind](), ANY)
    batches = list(source.in_order(5))
    np.testing.assert_allclose(np.concatenate(batches), SCALED, atol=1e-6)
    assert all(batch.dtype == np.float32 for batch in batches)
    again = np.concatenate(list(source.batches(5)))
    np.testing.assert_allclose(again, SCALED, atol=1e-6)
    assert source.n_batches(5) == 3


def test_mixed_sizes_come_in_batches_of_one_size_and_keep_their_order():
    sizes = [(8, 8), (12, 8), (8, 8), (8, 8), (12, 8)]
    images = [np.full((*size, 3), index / 10, np.float32) for index, size in enumerate(sizes)]
    source = as_source(images, ANY)
    in_order = [round(float(image[0, 0, 0]) * 10) for batch in source.in_order(2) for image in batch]
    assert in_order == [0, 1, 2, 3, 4]
    assert [batch.shape[:3] for batch in source.in_order(2)] == [(1, 8, 8), (1, 12, 8), (2, 8, 8), (1, 12, 8)]
    assert sorted(batch.shape[:3] for batch in source.batches(2)) == [(1, 8, 8), (2, 8, 8), (2, 12, 8)]
    assert source.n_batches(2) == 3
    folder_like = tf.data.Dataset.from_generator(lambda: iter(images), output_signature=tf.TensorSpec(ANY))
    assert sorted(b.shape[:3] for b in as_source(folder_like, ANY).batches(2)) == [(1, 8, 8), (2, 8, 8), (2, 12, 8)]


def test_shuffling_is_complete_fresh_each_epoch_and_fixed_by_the_seed():
    images = np.linspace(-1, 1, 40, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 3), np.float32)

    def two_epochs():
        keras.utils.set_random_seed(3)
        dataset = as_source(images, ANY).dataset(7, shuffle=True).repeat(2)
        order = np.concatenate([batch[:, 0, 0, 0] for batch in dataset.as_numpy_iterator()])
        return order[:40], order[40:]

    first, second = two_epochs()
    np.testing.assert_allclose(np.sort(first), images[:, 0, 0, 0])
    np.testing.assert_allclose(np.sort(second), images[:, 0, 0, 0])
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(two_epochs()[1], second)


@pytest.mark.parametrize(("side", "factor"), [(5, 4), (7, 4), (8, 4), (9, 8), (16, 16), (17, 16)])
def test_padding_reflects_to_the_next_multiple(side, factor):
    images = blobs(2, side=side)
    (padded,) = as_source(images, ANY, factor=factor).batches(2)
    more = -side % factor
    np.testing.assert_array_equal(padded, np.pad(images, ((0, 0), (0, more), (0, more), (0, 0)), mode="reflect"))


def test_value_range_follows_the_data():
    assert as_source(PIXELS, ANY).value_range == (-1.0, 1.0)
    assert as_source(SCALED, ANY).value_range == (-1.0, 1.0)
    assert as_source(np.abs(SCALED), ANY).value_range == (0.0, 1.0)
    assert as_source(SCALED * 50, ANY, values=UNLIMITED).value_range == pytest.approx((-50, 50), rel=0.02)
    for black in (np.zeros_like(SCALED), np.zeros_like(PIXELS)):  # a range of width 0 would be divided by
        low, high = as_source(black, ANY, values=UNLIMITED).value_range
        assert low < high


def broken(value):
    images = SCALED.copy()
    images[7, 3, 2, 1] = value
    return images


WRONG = {
    "0-255 floats": (
        PIXELS.astype(np.float32),
        r"look like pixels of 0 to 255.*`images / 127\.5 - 1`.*Received: values",
    ),
    "far out": (SCALED * 1000, r"must lie in \[-1, 1\].*`check_range=False`"),
    "NaN": (broken(np.nan), r"Image 7 holds NaN or infinite values"),
    "infinite": (broken(np.inf), r"Image 7 holds NaN or infinite values"),
    "wrong channels": (SCALED[..., :1], r"1 channels, the model was made for 3.*Received: shape=\(16, 16, 1\)"),
    "one image": (SCALED[0], r"add the batch axis with `image\[None\]`.*Received: shape=\(16, 16, 3\)"),
    "rank 2": (SCALED[0, 0], r"must have the shape \(N, H, W, C\)"),
    "empty array": (SCALED[:0], r"`images` is empty.*Received: shape=\(0, 16, 16, 3\)"),
    "empty list": ([], r"`images` is empty.*Received: images=\[\]"),
    "empty dataset": (tf.data.Dataset.from_tensor_slices(SCALED[:0]), r"`images` is empty"),
    "object array": (np.array([SCALED[0], SCALED[1, :9]], dtype=object), r"object array.*list of arrays \(H, W, C\)"),
    "integers": (PIXELS.astype(np.int64), r"are int64.*`images\.astype\('uint8'\)`.*dtype=int64"),
    "mixed dtypes": ([PIXELS[0], SCALED[1]], r"must share one dtype.*uint8 first, float32 as image 1"),
    "list of rank 2": ([SCALED[0, 0]], r"A list must hold images.*image 0 of shape \(16, 3\)"),
    "too small": (SCALED[:, :3], r"at least 4 pixels high and wide.*Received: height and width \(3, 16\)"),
    "one too small": ([SCALED[0], SCALED[1, :, :2]], r"at least 4 pixels high and wide"),
    "endless": (tf.data.Dataset.from_tensor_slices(SCALED).repeat(), r"infinite dataset.*`steps_per_epoch=…`"),
    "NaN in a dataset": (tf.data.Dataset.from_tensor_slices(broken(np.nan)), r"Image 7 holds NaN"),
    "0-255 dataset": (tf.data.Dataset.from_tensor_slices(PIXELS.astype(np.float32)).batch(4), r"look like pixels"),
    "dataset of rank 2": (tf.data.Dataset.from_tensor_slices(SCALED[0, 0]), r"must yield single images \(H, W, C\)"),
    "PyDataset of single images": (Batches(SCALED[:, 0]), r"must yield batches \(N, H, W, C\)"),
    "nothing": (None, r"`images` must be an array, a list of arrays.*Received: images=None"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_images_get_an_error_that_says_what_to_do(name):
    images, text = WRONG[name]
    sae = Autoencoder(size=4, n_out=4, n_scalings=2)
    before = [weight.copy() for weight in sae.encoder.get_weights()]
    with pytest.raises(ValueError, match=f"(?s){text}"):
        sae.train(images, epochs=1, verbose=0)
    for weight, old in zip(sae.encoder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_a_batch_may_be_larger_than_the_data():
    (history,) = Autoencoder(size=4, n_out=4, n_scalings=2).train(SCALED[:3], epochs=5, batch_size=1000, verbose=0)
    assert min(history.history["loss"]) < history.start_loss


def test_a_size_that_the_model_is_not_made_for_names_the_open_shape():
    sae = Autoencoder(shape=(16, 16, 3), size=4)
    with pytest.raises(
        ValueError, match=r"shape \(16, 16, 3\).*`shape=\(None, None, 3\)`.*Received: shape=\(16, 12, 3\)"
    ):
        sae.encode(SCALED[:, :, :12])


class Dicts(Batches):
    def __getitem__(self, index):
        images, labels = super().__getitem__(index)
        return {"label": labels, "image": images}


def of_unknown_rank(*, labels=False, batch=None):
    """As `tf.io.decode_image` returns images."""

    def unknown(index):
        image = tf.numpy_function(lambda index: PIXELS[index], [index], tf.uint8)
        return (image, index) if labels else image

    dataset = tf.data.Dataset.range(12)
    return (dataset if batch is None else dataset.batch(batch)).map(unknown)


def dicts_of(**others):
    return tf.data.Dataset.from_tensor_slices({"label": np.arange(12), "image": PIXELS, **others})


class Chosen(Dicts):
    def __getitem__(self, index):
        batch = super().__getitem__(index)
        return batch["image"]


ADVICE = {
    "dicts": (
        lambda: dicts_of(),
        r"`dataset\.map\(lambda images: images\['image'\]\)`.*labels: `\(images\['image'\], images\['label'\]\)`",
        lambda dataset: dataset.map(lambda images: images["image"]),
    ),
    "dicts, to keep labels": (
        lambda: dicts_of().batch(5),
        r"are dicts",
        lambda dataset: dataset.map(lambda images: (images["image"], images["label"])),
    ),
    "tuples of dicts": (
        lambda: tf.data.Dataset.zip((dicts_of(), tf.data.Dataset.range(12))),
        r"`dataset\.map\(lambda images, \*others: images\['image'\]\)`",
        lambda dataset: dataset.map(lambda images, *others: images["image"]),
    ),
    "unknown rank": (
        lambda: of_unknown_rank(),
        r"`dataset\.map\(lambda images: tf\.ensure_shape\(images, \(None, None, 3\)\)\)`",
        lambda dataset: dataset.map(lambda images: tf.ensure_shape(images, (None, None, 3))),
    ),
    "batches of unknown rank": (
        lambda: of_unknown_rank(batch=5),
        r"with one more `None` in front if they are batches",
        lambda dataset: dataset.map(lambda images: tf.ensure_shape(images, (None, None, None, 3))),
    ),
    "unknown rank with labels": (
        lambda: of_unknown_rank(labels=True),
        r"`dataset\.map\(lambda images, \*others: \(tf\.ensure_shape\(images, \(None, None, 3\)\), \*others\)\)`",
        lambda dataset: dataset.map(lambda images, *others: (tf.ensure_shape(images, (None, None, 3)), *others)),
    ),
    "PyDataset of dicts": (
        lambda: Dicts(PIXELS),
        r"return the array from `__getitem__`, `batch\['image'\]`",
        lambda dataset: Chosen(PIXELS),
    ),
}


@pytest.mark.parametrize("kind", ADVICE)
def test_elements_without_a_known_image_get_advice_that_works(kind):
    data, text, followed = ADVICE[kind]
    with pytest.raises(ValueError, match=f"(?s){text}"):
        as_source(data(), ANY)
    images = np.concatenate(list(as_source(followed(data()), ANY).in_order(5)))
    np.testing.assert_allclose(images, SCALED, atol=1e-6)


def test_a_py_dataset_of_images_and_none_trains_and_encodes(tmp_path):
    sae = Autoencoder(size=4, n_out=4, n_scalings=1)
    data = Batches(PIXELS, labels=Nothing())
    sae.train(data, epochs=0, verbose=0)
    store = sae.encode_to(tmp_path / "store", data, verbose=0)
    assert store.labels is None
    np.testing.assert_allclose(store[:], sae.encode(PIXELS), atol=1e-2)
