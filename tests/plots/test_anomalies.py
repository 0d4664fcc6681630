import numpy as np
import pytest

from stacked_autoencoder import plots
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
