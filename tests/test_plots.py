import matplotlib.pyplot as plt
import numpy as np
import pytest

from stacked_autoencoder import plots
from tests.conftest import blobs


@pytest.mark.parametrize("channels", [1, 3])
def test_reconstructions_shows_a_row_per_title_and_opens_no_window(channels, tmp_path):
    images = blobs(4, channels=channels)
    figure = plots.reconstructions(images, {"level 0": 0.9 * images, "level 1": 0.5 * images})
    assert len(figure.axes) == 12
    assert [figure.axes[index].get_ylabel() for index in (0, 4, 8)] == ["original", "level 0", "level 1"]
    assert figure.axes[4].get_xlabel().endswith(" dB")
    assert plt.get_fignums() == []
    figure.savefig(tmp_path / "figure.png")


def test_loss_curves_shows_the_start_beside_the_epochs(trained):
    _, histories = trained
    figure = plots.loss_curves(histories)
    assert [ax.get_title() for ax in figure.axes] == ["level 0", "level 1"]
    training, validation, start = figure.axes[1].get_lines()
    np.testing.assert_allclose(training.get_ydata(), histories[1].history["loss"])
    np.testing.assert_allclose(validation.get_ydata(), histories[1].history["val_loss"])
    np.testing.assert_allclose(start.get_ydata(), histories[1].start_loss)
    assert all(tick == round(tick) for tick in figure.axes[1].get_xticks())
