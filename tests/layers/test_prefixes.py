import keras
import numpy as np
import pytest

from stacked_autoencoder.layers.prefixes import COMPLETE, random_prefixes


@pytest.mark.parametrize("shape", [(4000, 8), (4000, 3, 3, 8)], ids=["vectors", "images"])
def test_a_random_prefix_of_each_encoding_is_kept(shape):
    encodings = np.random.default_rng(0).normal(1.0, 1.0, shape).astype(np.float32)
    result, counts = map(np.asarray, random_prefixes(keras.ops.array(encodings), keras.random.SeedGenerator(0)))
    kept = (result == encodings).reshape(len(encodings), -1, 8).all(axis=1)
    lengths = kept.sum(axis=1)
    np.testing.assert_array_equal(kept, np.arange(8) < lengths[:, None])  # prefixes
    np.testing.assert_array_equal(counts, lengths)
    others = np.broadcast_to(encodings.mean(axis=0) if len(shape) == 2 else np.float32(0.0), shape)
    changed = result != encodings
    np.testing.assert_allclose(result[changed], others[changed], atol=1e-5)
    shares = np.bincount(lengths, minlength=9) / len(lengths)
    assert shares[0] == 0
    np.testing.assert_allclose(shares[1:8], (1 - COMPLETE) / 8, atol=0.02)
    assert shares[8] == pytest.approx(COMPLETE + (1 - COMPLETE) / 8, abs=0.03)


def test_the_same_seed_gives_the_same_prefixes():
    encodings = keras.ops.ones((50, 2, 2, 8))
    first, second, other = (np.asarray(random_prefixes(encodings, keras.random.SeedGenerator(n))[0]) for n in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
