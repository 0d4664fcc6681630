import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.data.pairs import Pairs
from tests.conftest import blobs

CLEAN = blobs(200, 8, 1)
NOISY = np.clip(CLEAN + np.random.default_rng(0).normal(scale=0.5, size=CLEAN.shape), -1, 1).astype(np.float32)


@pytest.mark.parametrize("as_list", [False, True])
def test_pairs_stay_in_step_when_they_are_shuffled(as_list):
    shape = (None, None, 1)
    images = CLEAN
    if as_list:  # of two sizes
        images = [image if index % 3 else image[:6] for index, image in enumerate(CLEAN)]
        halves = [image / 2 for image in images]
    else:
        halves = CLEAN / 2
    pairs = Pairs(as_source(images, shape), as_source(halves, shape))
    orders = []
    dataset = pairs.dataset(16, shuffle=True)
    for _ in range(2):
        first = []
        for inputs, targets in dataset.as_numpy_iterator():
            np.testing.assert_allclose(inputs / 2, targets, atol=1e-7)
            first += [image.sum() for image in inputs]
        orders.append(first)
    assert sorted(orders[0]) == pytest.approx(sorted(orders[1]))
    assert orders[0] != orders[1]
    assert all((inputs is not targets) for inputs, targets in pairs.batches(16, most=2))


def test_without_targets_the_inputs_are_the_targets():
    (batch,) = Pairs(as_source(CLEAN, (8, 8, 1))).batches(500)
    assert batch[0] is batch[1]


@pytest.mark.slow
def test_a_stack_trained_on_clean_targets_removes_noise():
    sae, blind = (Autoencoder(shape=(8, 8, 1), levels=[ConvLevel(16, 1, 16), DenseLevel([32, 12])]) for _ in range(2))
    valid = NOISY[150:], CLEAN[150:]
    histories = sae.train(NOISY[:150], epochs=15, targets=CLEAN[:150], validation_data=valid, verbose=0)
    blind.train(NOISY[:150], epochs=15, verbose=0)
    for history in histories:
        assert min(history.history["val_loss"]) < history.start_loss
    for level in (0, 1):
        errors = [np.square(each.reconstruct(valid[0], level=level) - valid[1]).mean() for each in (sae, blind)]
        assert errors[0] < 0.9 * errors[1]
        assert errors[0] < 0.8 * np.square(valid[0] - valid[1]).mean()


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        (CLEAN[:100], {}, "must have the same number of images"),
        (CLEAN[:, :6], {}, "made for images of shape"),
        (tf.data.Dataset.from_tensor_slices(CLEAN[:100]), {}, "must have the same number of images"),
        (CLEAN, {"validation_data": NOISY[:8]}, r"`validation_data` must be a tuple \(images, targets\)"),
    ],
)
def test_mismatched_targets_are_errors(targets, options, message):
    sae = Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(4)])
    with pytest.raises(ValueError, match=message):
        sae.train(NOISY, targets=targets, verbose=0, **options)
