import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, SequenceLevel
from tests.conftest import blobs, waves


def loss(images, reconstructions):
    return float(np.mean(np.square(images - reconstructions)))


STACKS = {
    "image": (lambda: Autoencoder(size=8, n_out=8), blobs),
    "two levels": (lambda: Autoencoder(shape=(16, 16, 3), size=8, n_out=8, n_levels=2), blobs),
    "vector": (lambda: Autoencoder(shape=(16, 16, 3), levels=[ConvLevel(latent_dim=8, size=8)]), blobs),
    "dense": (lambda: Autoencoder(shape=(16, 16, 3), levels=[DenseLevel(8)]), blobs),
    "sequence": (lambda: Autoencoder(shape=(10, 2), levels=[SequenceLevel(8)]), waves),
}


@pytest.mark.parametrize(("make", "data"), STACKS.values(), ids=STACKS)
def test_encodings_are_cut_and_decoded_with_the_mean(make, data):
    images = data(96)
    sae = make()
    sae.train(images, epochs=0, verbose=0)
    whole = sae.encode(images)
    cut = sae.encode(images, n_out=3)
    np.testing.assert_array_equal(cut, whole[..., :3])
    completed = whole.copy()
    completed[..., 3:] = sae.levels[-1].mean[3:]
    decoded = sae.decode(cut)
    np.testing.assert_allclose(decoded, sae.decode(completed), atol=1e-5)
    np.testing.assert_allclose(sae.reconstruct(images, n_out=3), decoded, atol=1e-5)
    losses = [loss(images, sae.reconstruct(images, n_out=n)) for n in (1, 3, 8)]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] == pytest.approx(loss(images, sae.reconstruct(images)), rel=1e-6)


@pytest.mark.parametrize("name", ["image", "two levels", "vector", "dense"])
def test_rates_are_compared_with_pca_of_each_size(name):
    make, data = STACKS[name]
    images, held_out = data(96), data(40, seed=1)
    sae = make()
    sae.train(images, epochs=0, verbose=0)
    rates = sae.evaluate(held_out, n_out=[8, 2, 4])
    assert [*rates] == [2, 4, 8]
    budget = [*sae.evaluate(held_out, return_dict=True).values()][-1]
    for column in ("full_loss", "pca_loss", "psnr", "ssim", "values", "ratio"):
        assert rates[8][column] == pytest.approx(budget[column], rel=1e-4)
    for n, row in rates.items():
        assert row["full_loss"] == pytest.approx(loss(held_out, sae.reconstruct(held_out, n_out=n)), rel=1e-4)
        assert row["values"] == budget["values"] * n / 8
        assert row["ratio"] == pytest.approx(budget["ratio"] * 8 / n)
        if name in ("vector", "dense"):  # they start as PCA, whose errors on new images differ a little
            assert row["full_loss"] == pytest.approx(row["pca_loss"], rel=0.05)


def test_encodings_of_several_sizes_and_of_another_level(images):
    sae = Autoencoder(size=4, levels=[ConvLevel(4, 1, 4), ConvLevel(6, 1, 4)])
    sae.train(images, epochs=0, verbose=0)
    mixed = [*blobs(2, 8), *blobs(1, 12)]
    assert [z.shape for z in sae.encode(mixed, n_out=5)] == [(2, 2, 5), (2, 2, 5), (3, 3, 5)]
    assert [x.shape for x in sae.decode(sae.encode(mixed, n_out=5))] == [(8, 8, 3), (8, 8, 3), (12, 12, 3)]
    assert sae.encode(images, level=0, n_out=2).shape == (96, 8, 8, 2)
    assert sae.decode(sae.encode(images, level=0, n_out=2), level=0).shape == images.shape
    with pytest.raises(ValueError, match=r"They fit level 0: `decode\(encodings, level=0\)`"):
        sae.decode(sae.encode(images, level=0))  # four features, but of another level
    assert sae.reconstruct(images, n_out=4).shape == images.shape
    with pytest.raises(ValueError, match=r"have the shape \(N, any, any, 6\).*Received: shape=\(1, 2, 2, 7\)"):
        sae.decode(np.zeros((1, 2, 2, 7)))


@pytest.mark.parametrize("n_out", [0, 9, -1, 2.5, "3", True])
def test_a_wrong_number_of_features_is_refused(n_out, images):
    sae = Autoencoder(size=4, n_out=8)
    for call in (sae.encode, sae.reconstruct):
        with pytest.raises(ValueError, match=r"`n_out` must be a whole number from 1 to 8.*Received: n_out="):
            call(images, n_out=n_out)
    with pytest.raises(ValueError, match="`n_out` must be"):
        sae.evaluate(images, n_out=[n_out])


def test_an_untrained_level_has_no_mean(images):
    sae = Autoencoder(size=4, n_out=8)
    with pytest.raises(ValueError, match=r"with 3 of 8 features can't be decoded.*Call `train` first"):
        sae.decode(np.zeros((1, 2, 2, 3)))
    assert sae.encode(images, n_out=3).shape == (96, 4, 4, 3)
