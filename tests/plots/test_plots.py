import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from stacked_autoencoder import Autoencoder, DenseLevel, SequenceLevel, heads, metrics, plots
from stacked_autoencoder.utils.images import as_shown, mosaic
from tests.conftest import blobs


@pytest.fixture(autouse=True)
def nothing_opens(tmp_path):
    yield
    assert plt.get_fignums() == []


def drawn(ax):
    """What is in the only picture of axes."""
    (picture,) = ax.get_images()
    return np.asarray(picture.get_array())


def tile(picture, index, columns, height, width, gap=1):
    row, column = divmod(index, columns)
    top, left = row * (height + gap), column * (width + gap)
    return picture[top : top + height, left : left + width]


# === Pictures ===


def test_a_mosaic_has_its_tiles_in_rows_and_nothing_between():
    tiles = np.random.default_rng(0).random((5, 2, 3, 1), np.float32)
    picture = mosaic(tiles, 3)
    assert picture.shape == (2 * 2 + 1, 3 * 3 + 2, 1)
    for index in range(5):
        np.testing.assert_array_equal(tile(picture, index, 3, 2, 3), tiles[index])
    assert np.isfinite(picture).sum() == tiles.size
    assert mosaic(tiles[:4], 2, gap=0).shape == (4, 6, 1)


def test_values_of_every_range_are_drawn_alike():
    grey = blobs(2, channels=1)
    shown = as_shown(grey, (-1, 1))
    assert shown.shape == (2, 16, 16, 3)
    np.testing.assert_allclose(shown[..., :1], (grey + 1) / 2, atol=1e-6)
    np.testing.assert_allclose(as_shown((grey + 1) / 2, (0, 1)), shown, atol=1e-6)
    np.testing.assert_allclose(as_shown(np.round((grey + 1) * 127.5).astype(np.uint8), (0, 1)), shown, atol=0.003)
    assert as_shown(3 * grey, (-1, 1)).max() == 1
    with pytest.raises(ValueError, match=r"`images` must be \(N, H, W, 1 or 3\) .* Received: shape=\(2, 16, 16, 8\)"):
        as_shown(np.zeros((2, 16, 16, 8)), (0, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_reconstructions_shows_a_row_per_title(channels, tmp_path):
    images = blobs(4, channels=channels)
    figure = plots.reconstructions(images, {"level 0": 0.9 * images, "level 1": 0.5 * images})
    assert len(figure.axes) == 12
    assert [figure.axes[index].get_ylabel() for index in (0, 4, 8)] == ["original", "level 0", "level 1"]
    assert figure.axes[5].get_xlabel() == f"{metrics.psnr(images, 0.9 * images)[1]:.1f} dB"
    np.testing.assert_allclose(drawn(figure.axes[9]), as_shown(0.5 * images, (-1, 1))[1])
    figure.savefig(tmp_path / "figure.png")


@pytest.mark.parametrize("as_bytes", [False, True])
def test_reconstructions_of_a_stack_shows_a_row_per_level(trained, held_out, as_bytes):
    sae, _ = trained
    images = np.round((held_out[:3] + 1) * 127.5).astype(np.uint8) if as_bytes else held_out[:3]
    figure = plots.reconstructions(images, sae)
    assert [figure.axes[index].get_ylabel() for index in (0, 3, 6)] == ["original", "level 0", "level 1"]
    restored = sae.reconstruct(images, level=0)
    np.testing.assert_allclose(drawn(figure.axes[4]), as_shown(restored, (-1, 1))[1])
    scaled = images / np.float32(127.5) - 1 if as_bytes else images
    assert figure.axes[4].get_xlabel() == f"{metrics.psnr(scaled, restored)[1]:.1f} dB"


def test_a_grid_has_all_images_in_their_order(tmp_path):
    images = blobs(7)
    figure = plots.grid(images, columns=3)
    for index in range(7):
        shown = as_shown(images, (-1, 1))[index]
        np.testing.assert_allclose(tile(drawn(figure.axes[0]), index, 3, 16, 16), shown, atol=1e-6)
    assert (tile(drawn(figure.axes[0]), 8, 3, 16, 16) == 1).all()
    several = plots.grid({"real": images, "drawn": images[:4], "none": images[:0]})
    assert [ax.get_title(loc="left") for ax in several.axes] == ["real", "drawn", "none"]
    several.savefig(tmp_path / "figure.png")
    ax = Figure().subplots()
    assert plots.grid(images, ax=ax) is ax.figure
    with pytest.raises(ValueError, match=r"`ax` must be left out for several sets of images\. Received: 2 sets"):
        plots.grid({"real": images, "drawn": images}, ax=ax)


def test_interpolations_go_in_even_steps_between_encodings(trained, held_out, tmp_path):
    sae, _ = trained
    first, last = held_out[:2], held_out[2:4]
    figure = plots.interpolations(sae, first, last, n=3)
    picture = drawn(figure.axes[0])
    np.testing.assert_allclose(picture[:16, :16], as_shown(first, (-1, 1))[0], atol=1e-6)
    np.testing.assert_allclose(picture[17:, -16:], as_shown(last, (-1, 1))[1], atol=1e-6)
    middle = sae.decode((sae.encode(first) + sae.encode(last)) / 2)
    left = 16 + 4 + 17  # an original, the space and a step
    np.testing.assert_allclose(picture[17:, left : left + 16], as_shown(middle, (-1, 1))[1], atol=1e-5)
    figure.savefig(tmp_path / "figure.png")
    with pytest.raises(ValueError, match=r"must have the same length\. Received: 2 and 1"):
        plots.interpolations(sae, first, last[:1])


def test_interpolations_of_a_head_are_the_heads(trained, images, held_out):
    sae, _ = trained
    vae = heads.VAE(sae.encoding_shape, latent_dim=2, width=8)
    vae.fit(sae.encode(images), epochs=0, verbose=0)
    picture = drawn(plots.interpolations(sae, held_out[:1], held_out[1:2], n=4, head=vae).axes[0])
    steps = sae.decode(vae.interpolate(*sae.encode(held_out[:2]), 4))
    left = 16 + 4 + 2 * 17
    np.testing.assert_allclose(picture[:, left : left + 16], as_shown(steps, (-1, 1))[2], atol=1e-5)


# === Numbers ===


def test_loss_curves_shows_the_start_beside_the_epochs(trained, tmp_path):
    _, histories = trained
    figure = plots.loss_curves(histories)
    assert [ax.get_title() for ax in figure.axes] == ["level 0", "level 1"]
    training, validation, start = figure.axes[1].get_lines()
    np.testing.assert_allclose(training.get_ydata(), histories[1].history["loss"])
    np.testing.assert_allclose(validation.get_ydata(), histories[1].history["val_loss"])
    np.testing.assert_allclose(start.get_ydata(), histories[1].start_loss)
    assert all(tick == round(tick) for tick in figure.axes[1].get_xticks())
    figure.savefig(tmp_path / "figure.png")
    parts = Figure(figsize=(8, 4)).subfigures(1, 2)
    assert plots.loss_curves(histories[:1], ["alone"], figure=parts[1]) is parts[1]
    assert parts[1].axes[0].get_title() == "alone"


def test_rates_are_drawn_over_the_number_of_values(trained, held_out, tmp_path):
    sae, _ = trained
    rates = sae.evaluate(held_out, n_out=[1, 3, 6])
    figure = plots.rate_distortion(rates)
    (ax,) = figure.axes
    ours, pca = ax.get_lines()
    assert [*ours.get_xdata()] == [*pca.get_xdata()] == [1, 3, 6]
    assert [*ours.get_ydata()] == [row["full_loss"] for row in rates.values()]
    assert [*pca.get_ydata()] == [row["pca_loss"] for row in rates.values()]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "3", "6"]
    figure.savefig(tmp_path / "figure.png")


def test_error_budget_has_a_bar_for_each_loss_and_its_value_on_it(trained, held_out, tmp_path):
    sae, _ = trained
    budget = sae.evaluate(held_out, return_dict=True)
    budget[1]["pca_loss"] = np.nan  # of a level that was trained without the images
    figure = plots.error_budget(budget)
    (ax,) = figure.axes
    ours, linear = ax.containers
    assert [bar.get_height() for bar in ours] == [budget[0]["full_loss"], budget[1]["full_loss"]]
    assert linear[0].get_height() == budget[0]["pca_loss"]
    losses = (budget[0]["full_loss"], budget[1]["full_loss"], budget[0]["pca_loss"])
    assert [text.get_text() for text in ax.texts] == [*(f"{loss:.2e}" for loss in losses), ""]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["level 0\n128 values", "level 1\n6 values"]
    assert ax.get_yscale() == "log"
    figure.savefig(tmp_path / "figure.png")


# === Encodings ===


def test_channels_are_drawn_on_one_scale_beside_their_images(trained, held_out, tmp_path):
    sae, _ = trained
    encodings = sae.encode(held_out[:2], level=0)  # (2, 4, 4, 8)
    figure = plots.channels(encodings, held_out[:2])
    blocks = [figure.axes[1].get_images()[0], figure.axes[3].get_images()[0]]
    assert len({block.get_clim() for block in blocks}) == 1
    low, high = blocks[0].get_clim()
    assert low == -high
    assert high == pytest.approx(np.percentile(np.abs(encodings), 99.5))
    np.testing.assert_allclose(tile(np.asarray(blocks[1].get_array()), 5, 8, 4, 4), encodings[1, :, :, 5])
    np.testing.assert_allclose(drawn(figure.axes[2]), as_shown(held_out[1:2], (-1, 1))[0])
    figure.savefig(tmp_path / "figure.png")
    assert len(plots.channels(encodings).axes) == 2 + 1  # with the colour bar


def test_channels_of_vectors_are_refused(trained, held_out):
    sae, _ = trained
    with pytest.raises(ValueError, match=r"must have the shape .* use `latent_plane`\. Received: shape=\(40, 6\)"):
        plots.channels(sae.encode(held_out))
    with pytest.raises(
        ValueError, match=r"`images` and `encodings` must have the same length\. Received: 1 images, 40"
    ):
        plots.channels(sae.encode(held_out, level=0), held_out[:1])


def places(ax):
    return np.asarray(ax.collections[0].get_offsets())


def test_a_latent_plane_shows_two_values_as_they_are(tmp_path):
    encodings = np.random.default_rng(0).normal(size=(30, 2)) * [3, 1]
    labels = np.arange(30) % 3
    figure = plots.latent_plane(encodings, labels, ["cup", "cat", "sky"])
    (ax,) = figure.axes
    np.testing.assert_allclose(np.sort(places(ax), axis=0), np.sort(encodings, axis=0))
    colours = {
        tuple(place): tuple(colour)
        for place, colour in zip(places(ax), ax.collections[0].get_facecolors(), strict=True)
    }
    assert len({colours[tuple(place)] for place in encodings[labels == 1]}) == 1
    assert len(set(colours.values())) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["cup", "cat", "sky"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("value 0", "value 1")
    figure.savefig(tmp_path / "figure.png")


def test_a_latent_plane_of_more_values_is_that_of_the_principal_components():
    rng = np.random.default_rng(0)
    encodings = rng.normal(size=(500, 2, 2, 3)) * np.linspace(0.1, 3, 12).reshape(2, 2, 3)
    (ax,) = plots.latent_plane(encodings, np.arange(500) % 12).axes
    variances = np.linalg.eigvalsh(np.cov(encodings.reshape(500, -1).T, bias=True))[::-1]
    np.testing.assert_allclose(places(ax).var(axis=0), variances[:2], rtol=1e-6)
    share = 100 * variances[1] / variances.sum()
    assert ax.get_ylabel() == f"principal component 2 ({share:.0f} % of the variance)"
    assert len(ax.get_legend().get_texts()) == 12


def test_a_latent_plane_needs_labels_and_two_values():
    with pytest.raises(ValueError, match=r"`labels` must contain one label for each encoding\. Received: 2 labels, 3"):
        plots.latent_plane(np.zeros((3, 2)), [0, 1])
    with pytest.raises(ValueError, match=r"must have at least two values each\. Received: shape=\(3, 1\)"):
        plots.latent_plane(np.zeros((3, 1)), [0, 1, 2])


# === Features ===


def test_filters_are_the_kernels_of_the_linear_path(trained, tmp_path):
    sae, _ = trained
    kernel = np.asarray(sae.levels[0].encoder.get_layer("linear").kernel)  # (4, 4, 3, 8)
    figure = plots.filters(sae, n=6)
    picture = drawn(figure.axes[0])
    limit = np.abs(kernel[..., :6]).max()
    np.testing.assert_allclose(tile(picture, 5, 6, 4, 4), as_shown(kernel[None, ..., 5], (-limit, limit))[0], atol=1e-6)
    figure.savefig(tmp_path / "figure.png")


def test_filters_of_a_dense_level_are_as_large_as_the_image():
    sae = Autoencoder(shape=(16, 16, 1), levels=[DenseLevel([10, 4])])
    kernel = np.asarray(sae.levels[0].encoder.get_layer("dense0").kernel)
    picture = drawn(plots.filters(sae).axes[0])
    limit = np.abs(kernel).max()
    shown = as_shown(kernel[:, 9].reshape(1, 16, 16, 1), (-limit, limit))[0]
    np.testing.assert_allclose(tile(picture, 9, 8, 16, 16, gap=2), shown, atol=1e-6)


def test_features_of_a_start_are_the_decoders_kernels(images, tmp_path):
    """A level that starts as PCA is linear, so what a feature adds is its kernel of the transposed convolution."""
    sae = Autoencoder(size=8, n_out=5, n_scalings=2)  # of any size
    sae.train(images[:20], epochs=0, verbose=0)  # too few for a decoder that reads neighbouring encodings
    kernel = np.asarray(sae.levels[0].decoder.get_layer("linear").kernel)  # (4, 4, 3, 5)
    figure = plots.features(sae)
    shown = tile(drawn(figure.axes[0]), 3, 5, 8, 8)
    limit = np.abs(kernel).max()
    np.testing.assert_allclose(shown[2:6, 2:6], as_shown(kernel[None, ..., 3], (-limit, limit))[0], atol=1e-3)
    np.testing.assert_allclose(shown[:2], 0.5, atol=1e-3)
    figure.savefig(tmp_path / "figure.png")


def test_features_of_a_vector_are_whole_images(trained):
    sae, _ = trained
    level = sae.levels[1]
    units = level.mean + np.diag(level.std)
    added = (sae.decode(units) - sae.decode(level.mean[None])) / level.std[:, None, None, None]
    limit = np.abs(added).max()
    picture = drawn(plots.features(sae).axes[0])
    np.testing.assert_allclose(tile(picture, 4, 6, 16, 16, gap=2), as_shown(added, (-limit, limit))[4], atol=1e-3)


def test_what_has_no_filters_or_features_is_told():
    recurrent = Autoencoder(shape=(10, 2), levels=[SequenceLevel(4)])
    with pytest.raises(ValueError, match=r"whose level 0 is a ConvLevel or a DenseLevel\. Received: SequenceLevel"):
        plots.filters(recurrent)
    with pytest.raises(
        ValueError,
        match=r"call `train` first\. Received: an Autoencoder of shape \(16, 16, 1\) with an untrained level 0",
    ):
        plots.features(Autoencoder(shape=(16, 16, 1), size=4))
