import keras
import numpy as np
import pytest
from keras import layers

from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.inference import tiling
from stacked_autoencoder.inference.tiling import ReceptiveField, Tiler, for_any_size
from tests.conftest import blobs


def shaken(sae: Autoencoder) -> Autoencoder:
    """With random weights everywhere, so that every path counts."""
    rng = np.random.default_rng(0)
    for level in sae.levels:
        for model in (level.encoder, level.decoder):
            scales = [0.7 / np.sqrt(max(1, np.prod(weight.shape[:-1]))) for weight in model.get_weights()]
            weights = zip(model.get_weights(), scales, strict=True)
            model.set_weights([rng.normal(0, scale, weight.shape) for weight, scale in weights])
    return sae


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


STACKS = {
    "doubled, nearest": lambda: Autoencoder(levels=[ConvLevel(4, 2, 8, upsampling="nearest")]),
    "doubled, two resolutions": lambda: Autoencoder(levels=[ConvLevel(4, 4, 8, upsampling="nearest")]),
    "factor 4": lambda: Autoencoder(size=8, n_out=4, n_scalings=2),
    "factor 8, three blocks": lambda: Autoencoder(size=8, n_out=4, n_scalings=3),
    "factor 16, two resolutions": lambda: Autoencoder(size=8, n_out=4, n_scalings=4),
    "factor 1": lambda: Autoencoder(levels=[ConvLevel(4, 0, 8, depth=2)]),
    "two levels": lambda: Autoencoder(size=8, n_out=4, n_scalings=2, n_levels=2),
    "three unlike levels": lambda: Autoencoder(levels=[ConvLevel(4, 1, 8), ConvLevel(4, 0, 8), ConvLevel(4, 2, 8)]),
    "a fixed shape": lambda: Autoencoder(shape=(75, 49, 3), size=8, n_out=4, n_scalings=2, n_levels=2),
}
SIZES = [(75, 49), (64, 64), (17, 100), (16, 16), (33, 31)]


@pytest.mark.parametrize("name", STACKS)
def test_tiles_give_what_the_whole_image_gives(name):
    sae = shaken(STACKS[name]())
    for size in SIZES if sae.shape[0] is None else SIZES[:1]:
        images = noise(2, *size, 3)
        encodings = sae.encode(images, tile=None)
        decoded = sae.decode(encodings, tile=None)
        assert encodings.std() > 0.1
        for tile in (max(7, sae.factor), 24, 40, 1000):
            np.testing.assert_allclose(sae.encode(images, tile=tile), encodings, atol=1e-4)
            np.testing.assert_allclose(sae.decode(encodings, tile=tile), decoded, atol=1e-4)
    shallow = sae.encode(images, level=0, tile=20)
    np.testing.assert_allclose(shallow, sae.encode(images, level=0, tile=None), atol=1e-4)
    np.testing.assert_allclose(sae.decode(shallow, 0, tile=20), sae.decode(shallow, 0, tile=None), atol=1e-4)


@pytest.mark.parametrize("name", STACKS)
def test_the_halo_is_as_far_as_a_change_is_seen_and_no_farther(name):
    """Of the pixels of one cell, and of one encoding, changed in the middle; a cell is what one encoding stands for."""
    sae = shaken(STACKS[name]())
    factor, middle = sae.factor, 6
    down = Tiler([level.encoder for level in sae.levels])
    up = Tiler([level.decoder for level in reversed(sae.levels)])

    def touched(call, inputs, changes):
        """The first and the last cell whose values aren't the same any more, counted from the middle."""
        before, seen = call(inputs), np.zeros(2 * middle + 1, bool)
        for change in changes:
            changed = inputs.copy()
            changed[change] += 3
            differs = (call(changed) != before).any(axis=(1, 2))
            seen |= differs.reshape(len(seen), -1).any(axis=1)
        cells = np.flatnonzero(seen) - middle
        return cells[0], cells[-1]

    side = (2 * middle + 1) * factor
    corners = [(row, row) for row in range(middle * factor, (middle + 1) * factor)]
    assert down.factor == up.factor == factor
    assert touched(down, noise(side, side, 3), corners) == (-down.after, down.before)
    encodings = down(noise(side, side, 3))
    assert touched(up, encodings, [(middle, middle)]) == (-up.after, up.before)


def test_the_reach_of_single_layers():
    start = ReceptiveField()
    assert start.through(layers.Conv2D(1, 3, padding="same")) == ReceptiveField(1, -1, 1)
    assert start.through(layers.Conv2D(1, 3, padding="valid")) == ReceptiveField(1, 0, 2)
    assert start.through(layers.Conv2D(1, 4, strides=4)) == ReceptiveField(4, 0, 3)
    assert start.through(layers.Conv2D(1, 4, strides=4)).halo == (0, 0)
    assert start.through(layers.Conv2D(1, 3, strides=2, padding="same")) == ReceptiveField(2, 0, 2)
    assert start.through(layers.Conv2DTranspose(1, 4, strides=4)).halo == (0, 0)
    assert start.through(layers.Activation("relu")) == start
    for layer in (layers.Dense(3), layers.Conv2D(1, 3, dilation_rate=2), layers.Conv2DTranspose(1, 3, strides=2)):
        with pytest.raises(
            ValueError, match=rf"receptive field is known.*Received: layer '{layer.name}' \({type(layer).__name__}\)"
        ):
            start.through(layer)


def test_the_reach_of_two_paths_is_the_wider_one():
    inputs = keras.Input((None, None, 1))
    wide = layers.Conv2D(1, 5, padding="same")(inputs)
    model = keras.Model(inputs, layers.Add()([wide, layers.Conv2D(1, 3, padding="same")(inputs)]))
    assert for_any_size(model, ReceptiveField())[1] == ReceptiveField(1, -2, 2)


def test_large_images_are_taken_by_tiles_and_a_mapped_array_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(tiling, "PIXELS", 40 * 40)
    monkeypatch.setattr(tiling, "TILE", 16)
    calls = []
    monkeypatch.setattr(
        Tiler, "__call__", lambda self, tile, call=Tiler.__call__: calls.append(tile.shape) or call(self, tile)
    )
    sae = shaken(Autoencoder(size=8, n_out=4, n_scalings=2))
    np.save(tmp_path / "images.npy", ((noise(3, 50, 60, 3) + 1) * 127).astype(np.uint8))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    encodings = sae.encode(images)
    assert len(calls) == 3 * 4 * 4
    assert max(shape[0] for shape in calls) == 16 + 2 * 4
    np.testing.assert_allclose(encodings, sae.encode(images, tile=None), atol=1e-4)
    whole = sae.decode(encodings, tile=None)
    np.testing.assert_allclose(sae.decode(encodings), whole, atol=1e-4)
    np.testing.assert_allclose(sae.reconstruct(images), whole[:, :50, :60], atol=1e-4)
    assert sae.evaluate(images) == pytest.approx(np.mean((images / 127.5 - 1 - whole[:, :50, :60]) ** 2), rel=1e-4)
    calls.clear()
    sae.encode(blobs(4, side=40))
    assert calls == []


def test_mixed_sizes_by_tiles():
    sae = shaken(Autoencoder(size=8, n_out=4, n_scalings=2))
    images = [noise(20, 30, 3), noise(41, 17, 3), noise(20, 30, 3)]
    whole = sae.encode(images, tile=None)
    for tiled, encoding in zip(sae.encode(images, tile=8), whole, strict=True):
        np.testing.assert_allclose(tiled, encoding, atol=1e-4)
    for tiled, image in zip(sae.decode(whole, tile=8), sae.decode(whole, tile=None), strict=True):
        np.testing.assert_allclose(tiled, image, atol=1e-4)


def test_tiles_after_more_training_and_one_more_level_are_those_of_the_new_weights(images):
    sae = Autoencoder(size=8, n_out=4, n_scalings=2)
    sae.encode(images, tile=8)
    sae.train(images, epochs=0, verbose=0)
    np.testing.assert_allclose(sae.encode(images, tile=8), sae.encode(images, tile=None), atol=1e-4)
    fixed = Autoencoder(shape=(17, 17, 3), size=8, n_out=4, n_scalings=2)
    picture = noise(1, 17, 17, 3)
    fixed.encode(picture, tile=8)
    fixed.add(ConvLevel(4, 1, 8))  # level 0 is built anew, for more padding
    np.testing.assert_allclose(fixed.encode(picture, tile=8), fixed.encode(picture, tile=None), atol=1e-4)


def test_a_bilinear_level_says_why_it_has_no_tiles():
    sae = Autoencoder(shape=(16, 16, 3), levels=[ConvLevel(4, 2, 8, upsampling="bilinear")])
    encodings = sae.encode(noise(1, 16, 16, 3), tile=8)  # the encoder has nothing to enlarge
    with pytest.raises(ValueError, match=r"bilinear UpSampling2D needs.*`tile=None` to process whole images"):
        sae.decode(encodings, tile=8)
    assert sae.decode(encodings).shape == (1, 16, 16, 3)


def test_a_vector_level_says_why_it_has_no_tiles(trained, images):
    sae, _ = trained
    with pytest.raises(
        ValueError, match=r"Level 1 encodes images as vectors.*depends on the whole image.*Received: tile=8"
    ):
        sae.encode(images, tile=8)
    with pytest.raises(ValueError, match=r"Level 1 encodes images as vectors"):
        sae.decode(sae.encode(images), tile=8)
    np.testing.assert_allclose(sae.encode(images, level=0, tile=8), sae.encode(images, level=0), atol=1e-4)


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        ("large", r"`None` for whole images, or \"auto\"\. Received: tile='large'"),
        (0, "`tile` must be a whole number"),
        (2.5, "`tile` must"),
    ],
)
def test_a_wrong_tile_raises_an_error(images, tile, message):
    with pytest.raises(ValueError, match=message):
        Autoencoder(size=4, n_out=4).encode(images, tile=tile)
