from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image

from stacked_autoencoder import Autoencoder, ImageFolder, plots
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.utils.images import as_bytes, as_shown
from tests.conftest import blobs


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_maps_share_a_scale(channels, tmp_path):
    images, maps = blobs(3, channels=channels), np.random.default_rng(0).gamma(2, size=(3, 16, 16))
    figure = plots.heat_maps(images, maps, threshold=4.0)
    above, below = figure.axes[:3], figure.axes[3:6]
    for ax, other, values in zip(above, below, maps, strict=True):
        assert np.asarray(ax.get_images()[0].get_array()).shape == (16, 16, 3)
        (drawn,) = other.get_images()
        np.testing.assert_allclose(drawn.get_array(), values)
        assert drawn.get_clim() == below[0].get_images()[0].get_clim()
        assert len(other.collections) == (values.max() > 4)  # the contour
    figure.savefig(tmp_path / "maps.png")
    assert (tmp_path / "maps.png").stat().st_size > 3000


def test_heat_maps_need_maps_of_the_images():
    with pytest.raises(ValueError, match=r"Received: maps of shape \(2, 16, 16\) for images of shape \(3, 16, 16, 3\)"):
        plots.heat_maps(blobs(3), np.ones((2, 16, 16)))


def test_a_histogram_of_scores():
    normal, other = np.full(10, 1.0), np.linspace(2, 4, 5)
    ax = plots.score_histogram({"normal": normal, "new": other}, threshold=1.5).axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["normal", "new", "threshold"]
    assert sum(patch.get_height() for patch in ax.patches) == pytest.approx(2)
    assert ax.lines[0].get_xdata()[0] == 1.5
    assert plots.score_histogram(other).axes[0].get_legend() is None


@pytest.mark.parametrize("scores", [[], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [0.0], {}])
def test_scores_must_be_finite_and_not_negative(scores):
    with pytest.raises(ValueError, match="`scores` must be finite numbers of at least 0"):
        plots.score_histogram(scores)


def test_scores_of_zero_are_drawn():
    ax = plots.score_histogram(np.array([0.0, 0.5, 2.0])).axes[0]
    assert sum(patch.get_height() for patch in ax.patches) == pytest.approx(1)


def test_no_images_have_no_heat_maps():
    with pytest.raises(ValueError, match="there must be at least one image"):
        plots.heat_maps(blobs(2)[:0], np.ones((0, 16, 16)))


# === The most and the least typical images ===


def labels_of(figure):
    return [ax.get_xlabel() for ax in figure.axes]


def drawn(figure):
    return [np.asarray(ax.get_images()[0].get_array()) for ax in figure.axes]


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures of two sizes, and their values from 0 to 1."""
    images = [image[: 12 + 4 * (index % 2)] for index, image in enumerate(as_bytes(blobs(20), (-1, 1)))]
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index:02d}.png")
    return tmp_path, [image / 255 for image in images]


@pytest.mark.parametrize("as_list", [False, True])
def test_the_lowest_scores_are_above_the_highest_ones(as_list, tmp_path):
    images, scores = blobs(7, channels=1), np.array([3.0, 0.5, 1.25, 4275.6, 1.0, 2.0, 12.345])
    figure = plots.most_and_least_typical([*images] if as_list else images, scores, count=2)
    assert labels_of(figure) == ["0.5", "1", "4,276", "12.3"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["most typical", "", "least typical", ""]
    np.testing.assert_allclose(drawn(figure), as_shown(images[[1, 4, 3, 6]], (-1, 1)))
    figure.savefig(tmp_path / "typical.png")


@pytest.mark.parametrize(("n", "columns"), [(2, 1), (5, 2), (16, 8), (40, 8)])
def test_no_image_is_in_both_rows(n, columns):
    figure = plots.most_and_least_typical(blobs(n), np.arange(n))
    assert labels_of(figure) == [*map(str, range(columns)), *map(str, range(n - 1, n - 1 - columns, -1))]


def test_images_of_several_sizes_and_names_of_any_characters(tmp_path):
    images = [blobs(1, side=8)[0], blobs(1, side=24)[0, :6], blobs(1)[0, :, :3]]
    names = ["$a_{", "line\nbreak", "photos/of/the/second/week/0001.png"]
    figure = plots.most_and_least_typical(images, [1, 2, 3], names=names)
    assert labels_of(figure) == ["1\n$a_{", "3\n…/second/week/0001.png"]
    assert [picture.shape for picture in drawn(figure)] == [(8, 8, 3), (16, 3, 3)]
    figure.savefig(tmp_path / "typical.png")
    assert labels_of(plots.most_and_least_typical(images, [3, 1, 2], names=names))[0] == "1\nline break"


def test_a_dataset_is_refused_with_the_way_out():
    images = blobs(5)
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(2)
    with pytest.raises(ValueError, match=r"`\[\*dataset\.unbatch\(\)\.as_numpy_iterator\(\)\]`"):
        plots.most_and_least_typical(dataset, np.arange(5))
    figure = plots.most_and_least_typical([*dataset.unbatch().as_numpy_iterator()], np.arange(5))
    np.testing.assert_allclose(drawn(figure), as_shown(images[[0, 1, 4, 3]], (-1, 1)))


def test_values_of_every_range_are_drawn_alike():
    images, scores = blobs(4), np.arange(4)
    expected = drawn(plots.most_and_least_typical(images, scores))
    for others, value_range in ((as_bytes(images, (-1, 1)), (0, 1)), ((images + 1) * 32767.5, (0, 65535))):
        shown = drawn(plots.most_and_least_typical(others, scores, value_range=value_range))
        np.testing.assert_allclose(shown, expected, atol=0.003)


@pytest.mark.parametrize("open_folder", [str, Path, ImageFolder])
def test_only_the_drawn_pictures_of_a_folder_are_read(open_folder, folder):
    path, pictures = folder
    scores = np.roll(np.arange(20.0), 3)
    for index in set(range(20)) - {3, 4, 2, 1}:
        (path / f"{index:02d}.png").write_bytes(b"not a picture")  # a warning if it is read
    figure = plots.most_and_least_typical(open_folder(path), scores, count=2)
    assert labels_of(figure) == ["0\n03.png", "1\n04.png", "19\n02.png", "18\n01.png"]
    for shown, index in zip(drawn(figure), (3, 4, 2, 1), strict=True):
        np.testing.assert_allclose(shown, pictures[index], atol=0.003)


def test_the_scores_of_a_folder_are_those_of_its_readable_pictures(folder):
    path, pictures = folder
    (path / "01.png").write_bytes(b"not a picture")
    images = ImageFolder(path)
    with pytest.warns(UserWarning, match=r"Skipped, .*01\.png"):
        errors = Autoencoder(size=4, n_out=4).errors(images)
    figure = plots.most_and_least_typical(images, np.arange(19), count=3)
    assert labels_of(figure)[:3] == ["0\n00.png", "1\n02.png", "2\n03.png"]
    np.testing.assert_allclose(drawn(figure)[1], pictures[2], atol=0.003)
    with pytest.raises(ValueError, match=r"pass the `ImageFolder` that was scored.*shape \(19,\).*for 20 images"):
        plots.most_and_least_typical(path, errors)


def test_random_crops_are_those_that_were_scored(folder):
    images = ImageFolder(folder[0], crop=8, seed=3)
    crops = np.concatenate([*as_source(images, (None, None, 3)).in_order(8, scale=False)])
    shown = drawn(plots.most_and_least_typical(images, np.arange(20), count=10))
    np.testing.assert_allclose(shown, as_shown(crops[[*range(10), *range(19, 9, -1)]], (-1, 1)), atol=1e-6)


def test_a_picture_that_became_unreadable_is_an_error(folder):
    path, _ = folder
    images = ImageFolder(path)
    (path / "00.png").unlink()
    with pytest.raises(ValueError, match=r"cannot be read\. .* Received: .*00\.png \(.*No such file"):
        plots.most_and_least_typical(images, np.arange(20))


def test_a_figure_of_your_own_is_drawn_into():
    part = Figure().subfigures(2)[1]
    assert plots.most_and_least_typical(blobs(4), np.arange(4), figure=part) is part
    assert len(part.axes) == 4


@pytest.mark.parametrize(
    ("n", "arguments", "message"),
    [
        (3, {"scores": [1, 2]}, r"of shape \(2,\), of which 0 are not finite, for 3 images"),
        (3, {"scores": [1, np.nan, np.inf]}, "of which 2 are not finite"),
        (3, {"scores": np.ones((3, 1))}, r"of shape \(3, 1\)"),
        (1, {"scores": [1]}, "there must be at least two images"),
        (2, {"scores": [1, 2], "names": ["a"]}, r"`names` must have one name .* Received: 1 names, 2 images"),
        (2, {"scores": [1, 2], "count": 0}, "`count` must be a whole number of at least 1"),
        (2, {"scores": [1, 2], "value_range": (1, 0)}, "`value_range` must be two finite numbers"),
    ],
)
def test_wrong_scores_names_and_counts_are_errors(n, arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.most_and_least_typical(blobs(n), **arguments)
