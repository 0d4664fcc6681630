import keras
import numpy as np
import pytest

from stacked_autoencoder import ConvLevel
from stacked_autoencoder.distribution import Stream
from stacked_autoencoder.levels.conv import WIDEN_RMS_OF_VECTORS
from stacked_autoencoder.pca import fit_linear_code, to_patches
from tests.conftest import blobs


def started(level, images):
    level.build(images.shape[1:])
    level.adapt(lambda: iter([images]))
    return level


@pytest.mark.parametrize(
    ("level", "shape", "encoding"),
    [
        (ConvLevel(n_out=8, n_scalings=2), (None, None, 3), (None, None, 8)),
        (ConvLevel(n_out=8, n_scalings=2), (16, 24, 3), (4, 6, 8)),
        (ConvLevel(n_out=5, n_scalings=0, size=4), (8, 8, 2), (8, 8, 5)),
        (ConvLevel(n_scalings=1, latent_dim=7, size=4), (8, 6, 1), (7,)),
    ],
)
def test_shapes(level, shape, encoding):
    level.build(shape)
    assert level.encoding_shape == encoding
    assert level.decoder.output_shape == (None, *shape)


def test_only_built_in_layers_and_nothing_over_space():
    level = ConvLevel()
    level.build((None, None, 3))
    for layer in (*level.encoder.layers, *level.decoder.layers):
        assert type(layer).__module__.startswith("keras.src.layers.")
        assert "normalization" not in type(layer).__module__
        assert "attention" not in type(layer).__module__


@pytest.mark.parametrize(
    ("make", "factor"),
    [
        (lambda: ConvLevel(n_out=8, n_scalings=2, size=8), 4),
        (lambda: ConvLevel(n_out=12, n_scalings=3, size=8), 8),
        (lambda: ConvLevel(n_scalings=2, size=8, latent_dim=10), None),
    ],
)
def test_the_start_is_pca_on_held_out_images(make, factor):
    images, held_out = blobs(120), blobs(40, seed=1)
    level = started(make(), images)
    loss = np.mean(np.square(level.decode(level.encode(held_out)) - held_out))
    code = fit_linear_code(lambda: iter([images]), factor, level.encoding_shape[-1])
    patches = to_patches(held_out, factor)
    assert loss == pytest.approx(code.squared_error(patches) / patches.size, rel=0.01)


def test_the_start_is_isometric_up_to_one_scalar():
    images = blobs(120)
    level = started(ConvLevel(n_out=8, n_scalings=2, size=8), images)
    kernel = level.encoder.get_layer("linear").get_weights()[0].reshape(-1, 8).astype(float)
    gram = kernel.T @ kernel
    np.testing.assert_allclose(gram, gram[0, 0] * np.eye(8), atol=1e-4 * gram[0, 0])
    assert np.mean(np.square(level.encode(images))) == pytest.approx(1.0, rel=1e-3)
    # A squared error made in the encoding is the same squared error in the image, times that scalar.
    encodings = level.encode(images)
    noise = 0.1 * np.random.default_rng(0).standard_normal(encodings.shape).astype(np.float32)
    moved = level.decode(encodings + noise) - level.decode(encodings)
    assert np.sum(np.square(moved)) == pytest.approx(np.sum(np.square(noise)) / gram[0, 0], rel=1e-3)


def spread(values):
    """By how much the largest of the leading standard deviations is above the smallest."""
    stds = np.linalg.svd(values - values.mean(axis=0), compute_uv=False)[:9]
    return stds[0] / stds[-1] - 1


@pytest.mark.parametrize("make", [lambda: ConvLevel(6, 2, 32), lambda: ConvLevel(6, 1, 32, latent_dim=8)])
def test_the_encoder_sees_every_component_about_equally(make):
    images = blobs(200)
    level = started(make(), images)
    patchify = level.encoder.get_layer("patchify")
    patches = to_patches(images, level.patch)
    kernel = patchify.kernel.numpy().reshape(-1, 32)
    assert spread(patches @ kernel) < 0.1 * spread(patches)
    seen = patches @ kernel + patchify.bias.numpy()
    assert np.abs(seen.mean(axis=0)).max() < 0.05 * seen.std()


def test_the_decoder_sees_every_component_about_equally():
    images = blobs(200)
    level = started(ConvLevel(6, 2, 32), images)
    widen, codes = level.decoder.get_layer("widen"), level.encode(images)
    assert 0.05 < np.std(widen(codes)) < 0.2  # neighbouring encodings are alike, so not 0.1 exactly
    codes = codes.reshape(-1, 6)
    kernel = np.moveaxis(widen.kernel.numpy(), -2, 0).reshape(6, -1)
    strength = np.sqrt(np.mean(np.square(kernel), axis=1))
    assert spread(codes * strength) < 0.2 * spread(codes)


@pytest.mark.parametrize("n_scalings", [1, 4])
def test_a_vectors_decoder_starts_with_the_encoders_features_of_the_linear_restoration(n_scalings):
    images = blobs(200, side=32)
    level = started(ConvLevel(n_scalings=n_scalings, size=16, latent_dim=8), images)
    codes = level.encode(images)
    features = keras.Model(level.encoder.input, level.encoder.get_layer("features").input)
    expected = features(level.decode(codes)).numpy().reshape(len(images), -1)  # the start restores linearly
    widened = level.decoder.get_layer("widen")(codes).numpy()
    scale = np.sum(widened * expected) / np.sum(np.square(expected))
    np.testing.assert_allclose(widened, scale * expected, atol=1e-4 * np.abs(widened).max())
    assert 0.5 * WIDEN_RMS_OF_VECTORS < np.std(widened) < 2 * WIDEN_RMS_OF_VECTORS


def test_any_size_gives_the_same_numbers_inside():
    images = blobs(4, side=64)
    level = started(ConvLevel(n_out=4, n_scalings=1, size=4), images)
    rng = np.random.default_rng(0)  # as if trained: at the start the residual path adds nothing that could see further
    level.encoder.set_weights([0.3 * rng.standard_normal(weight.shape) for weight in level.encoder.get_weights()])
    whole = level.encode(images)
    part = level.encode(images[:, :48, :48])
    reach = level.depth  # in encoded pixels: one 3x3 convolution per block
    np.testing.assert_allclose(part[:, : 24 - reach, : 24 - reach], whole[:, : 24 - reach, : 24 - reach], atol=1e-5)
    assert np.abs(part[:, 24 - reach :] - whole[:, 24 - reach : 24, :24]).max() > 1e-3


def test_get_config_makes_the_same_level_again():
    level = ConvLevel(n_out=5, n_scalings=1, size=6, depth=3, activation="gelu", latent_dim=4)
    assert ConvLevel(**level.get_config()).get_config() == level.get_config()
    assert repr(level) == ("ConvLevel(n_out=5, n_scalings=1, size=6, depth=3, activation='gelu', latent_dim=4)")


@pytest.mark.parametrize(("n_scalings", "patch", "widths"), [(0, 1, [8]), (2, 4, [8]), (3, 8, [8]), (4, 8, [8, 16])])
def test_large_factors_shrink_the_residual_path_in_stages(n_scalings, patch, widths):
    level = ConvLevel(n_out=3, n_scalings=n_scalings, size=8, depth=1)
    level.build((32, 32, 3))
    assert (level.patch, level.widths) == (patch, widths)
    for model in (level.encoder, level.decoder):
        blocks = [layer for layer in model.layers if layer.name.endswith("_second")]
        assert sorted(layer.filters for layer in blocks) == widths
    assert level.encoding_shape == (32 // level.factor, 32 // level.factor, 3)
    assert level.decoder.output_shape == (None, 32, 32, 3)


def test_three_blocks_by_default_where_they_are_cheap_and_there_is_one_resolution():
    assert [ConvLevel(n_scalings=number).depth for number in range(5)] == [1, 1, 1, 3, 1]
    assert ConvLevel(n_scalings=4, depth=0).depth == 0


@pytest.mark.parametrize("make", [lambda: ConvLevel(4, 1, 4), lambda: ConvLevel(4, 1, 4, latent_dim=5)])
def test_what_the_residual_paths_add_is_bounded(make):
    level = started(make(), blobs(40))
    for model, shape in ((level.encoder, level.input_shape), (level.decoder, level.encoding_shape)):
        residual = model.get_layer("residual")
        rng = np.random.default_rng(0)
        residual.set_weights([rng.standard_normal(weight.shape) for weight in residual.get_weights()])
        path = keras.Model(model.input, residual.output)
        usual, extreme = (np.abs(path(strength * rng.standard_normal((8, *shape)))).max() for strength in (1.0, 1e6))
        assert extreme < 10 * usual


def test_models_are_uncompiled_and_functional():
    level = ConvLevel()
    level.build((None, None, 3))
    for model in (level.encoder, level.decoder):
        assert not model.compiled
        assert isinstance(model, keras.Model)
        assert type(model).__name__ == "Functional"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"size": (64, 64, 3)},
            r"`size` must be one whole number.*`shape=\(height, width, channels\)`.*Received: size=",
        ),
        ({"n_out": 0}, r"`n_out` must be a whole number of at least 1\. Received: n_out=0"),
        ({"n_scalings": -1}, r"`n_scalings` must be a whole number of at least 0"),
        ({"latent_dim": 2.5}, r"`latent_dim` must be a whole number.*Received: latent_dim=2\.5"),
        ({"depth": True}, "`depth` must be a whole number"),
    ],
)
def test_wrong_arguments_are_named(arguments, text):
    with pytest.raises(ValueError, match=text):
        ConvLevel(**arguments)


def test_a_vector_needs_a_known_size_and_ends_the_stack():
    with pytest.raises(
        ValueError, match=r"`latent_dim=3` needs images of one known size.*shape=\(height, width, channels\)"
    ):
        ConvLevel(latent_dim=3).build((None, None, 3))
    with pytest.raises(ValueError, match="use a DenseLevel after a level that outputs vectors"):
        ConvLevel().build((10,))


def test_a_bilinear_level_needs_a_known_size():
    with pytest.raises(ValueError, match=r'`upsampling="bilinear"` needs images of one known size'):
        ConvLevel(upsampling="bilinear").build((None, None, 3))
    with pytest.raises(ValueError, match=r'`upsampling` must be None, "nearest" or "bilinear"'):
        ConvLevel(upsampling="cubic")


def loss_of(level, images):
    return np.mean(np.square(level.decode(level.encode(images)) - images))


@pytest.mark.parametrize("level", [ConvLevel(8, 2, 8), ConvLevel(6, 3, 16), ConvLevel(4, 1, 8, tied=True)])
def test_a_decoder_of_neighbouring_encodings_is_better_than_pca(level):
    images, held_out = blobs(200, 32), blobs(40, 32, seed=1)
    started(level, images)
    pca, encodings = loss_of(level, held_out), level.encode(held_out)
    level.initialise_neighbour_decoder(Stream(lambda _: iter([images])))
    assert loss_of(level, held_out) < 0.95 * pca
    np.testing.assert_array_equal(level.encode(held_out), encodings)  # only the decoder changes
    weights = level.neighbour_layer.get_weights()
    level.neighbour_layer.set_weights([np.zeros_like(weight) for weight in weights])
    assert loss_of(level, held_out) == pytest.approx(pca, rel=1e-5)


def test_a_decoder_of_few_images_stays_that_of_pca():
    images = blobs(2, 32)
    level = started(ConvLevel(8, 2, 8), images)
    pca = loss_of(level, images)
    level.initialise_neighbour_decoder(Stream(lambda _: iter([images])))
    assert loss_of(level, images) == pca


@pytest.mark.parametrize("images", [np.zeros((40, 32, 32, 3), np.float32), np.tile(blobs(1, 4), (40, 8, 8, 1))])
def test_a_decoder_without_errors_stays_that_of_pca(images):
    level = started(ConvLevel(8, 2, 8), images)
    level.initialise_neighbour_decoder(Stream(lambda _: iter([images])))
    assert loss_of(level, images) < 1e-9


@pytest.mark.parametrize(
    "level",
    [
        ConvLevel(n_scalings=4, size=4),
        ConvLevel(latent_dim=3, size=4),
        ConvLevel(upsampling="nearest", size=4),
        ConvLevel(output_activation="sigmoid", size=4),
        ConvLevel(loss="mae", size=4),
        ConvLevel(corruption=keras.layers.GaussianNoise(0.1), size=4),
        ConvLevel(kl_weight=0.1, size=4),
        ConvLevel(n_out=129, size=4),  # a least-squares problem that takes too long
    ],
)
def test_other_levels_have_no_decoder_of_neighbouring_encodings(level):
    level.build((16, 16, 3))
    assert level.neighbour_layer is None
