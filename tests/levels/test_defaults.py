"""The levels that `Autoencoder` creates from sizes."""

import pytest

from stacked_autoencoder import Autoencoder, DenseLevel, SequenceLevel


@pytest.mark.parametrize(
    ("shape", "n_levels", "scalings", "encodings"),
    [
        ((28, 28, 1), 2, [2, 0], [(7, 7, 8), (30,)]),
        ((128, 128, 3), 2, [2, 2], [(32, 32, 8), (30,)]),
        ((40, 20, 1), 2, [2, 1], [(10, 6, 8), (30,)]),  # 20 is padded to 24
        ((64, 64, 3), 3, [2, 2, 0], [(16, 16, 8), (4, 4, 8), (30,)]),
        ((64, 64, 3), 1, [2], [(30,)]),
    ],
)
def test_a_vector_level_halves_only_large_encodings(shape, n_levels, scalings, encodings):
    sae = Autoencoder(shape=shape, size=4, n_out=8, n_levels=n_levels, latent_dim=30)
    assert [level.n_scalings for level in sae.levels] == scalings
    assert [level.encoding_shape for level in sae.levels] == encodings


def test_vectors_of_inputs_that_are_not_halved_have_deep_networks():
    sae = Autoencoder(shape=(28, 28, 1), n_out=8, n_levels=2, latent_dim=30)
    assert [level.depth for level in sae.levels] == [1, 3]
    sae = Autoencoder(shape=(28, 28, 1), n_out=8, n_levels=2, latent_dim=30, preset="best")
    assert [level.depth for level in sae.levels] == [4, 4]
    assert [level.size for level in sae.levels] == [96, 96]


def test_image_shaped_levels_have_the_given_factor():
    sae = Autoencoder(size=4, n_out=8, n_scalings=3, n_levels=2)
    assert [level.factor for level in sae.levels] == [8, 8]


@pytest.mark.parametrize(("shape", "level"), [((1024, 1), SequenceLevel), ((64,), DenseLevel)])
def test_other_shapes_need_levels_and_the_advice_works(shape, level):
    with pytest.raises(ValueError, match=rf"Pass `levels=\[{level.__name__}\(16\)\]`.*Received: shape="):
        Autoencoder(shape=shape)
    assert Autoencoder(shape=shape, levels=[level(16)]).encoding_shape == (16,)
