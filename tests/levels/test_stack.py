import tracemalloc

import numpy as np
import pytest

from stacked_autoencoder.utils.images import gather

BATCHES, SIZE = 16, 1 << 16


def batches(count=BATCHES):
    return (np.full((4, SIZE), index, np.float32) for index in range(count))


@pytest.mark.parametrize(("count", "most"), [(None, 2.2), (4 * BATCHES, 1.2)])
def test_batches_become_one_array(count, most):
    tracemalloc.start()
    try:
        whole = gather(batches(), count)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(whole[:, 0], np.repeat(np.arange(BATCHES), 4))
    assert whole.shape == (4 * BATCHES, SIZE)
    assert peak < most * whole.nbytes


def test_fewer_than_were_said_are_no_more():
    np.testing.assert_array_equal(gather(batches(3), 20), gather(batches(3)))


def test_what_is_one_batch_is_not_copied():
    (batch,) = batches(1)
    assert gather([batch], 4) is batch
    assert gather([batch]) is batch
    batch.flags.writeable = False
    assert gather([batch], 4).flags.writeable


def test_batches_of_several_shapes_become_a_list():
    gathered = gather([np.zeros((2, 3)), np.ones((1, 4))])
    assert [each.shape for each in gathered] == [(3,), (3,), (4,)]
    assert gather([]) == []
