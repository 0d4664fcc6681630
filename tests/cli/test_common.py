from argparse import Namespace

import pytest

from stacked_autoencoder import Autoencoder
from stacked_autoencoder.cli.common import pictures_of


def pictures(folder, sae, **asked):
    return pictures_of(folder, Namespace(**{"side": None, "crop": None, "max_pixels": None} | asked), sae)


def test_the_seed_of_the_command_decides_the_split(photos, any_size):
    def validation(seed):
        arguments = Namespace(side=4, crop=None, max_pixels=None, valid_split=0.25, seed=seed)
        return pictures_of(photos, arguments, any_size, "validation").names

    assert validation(0) == validation(0) != validation(1)


@pytest.fixture(scope="module")
def any_size():
    return Autoencoder(size=4, n_out=4, n_scalings=1, n_levels=2)


@pytest.mark.parametrize("name", ["side", "crop"])
def test_padding_is_announced_with_the_sizes_that_fit(name, photos, any_size):
    with pytest.warns(
        UserWarning, match=rf"^--{name} 10: this stack pads pictures of 10x10 pixels to 12x12, .* of 4\. "
    ):
        pictures(photos, any_size, **{name: 10})
    with pytest.warns(UserWarning, match=rf"Use --{name} 8 or --{name} 12 to avoid padding\.$"):
        pictures(photos, any_size, **{name: 10})
    assert [getattr(pictures(photos, any_size, **{name: fits}), name) for fits in (8, 12)] == [8, 12]


@pytest.mark.parametrize("name", ["side", "crop"])
def test_sizes_that_a_stack_cannot_take_are_refused(name, photos, any_size):
    with pytest.raises(
        ValueError, match=rf"^--{name} 3 is too small .* height and width by 4\. Use --{name} 4 or more\."
    ):
        pictures(photos, any_size, **{name: 3})
    pictures(photos, any_size, **{name: 4})
    fixed = Autoencoder(size=4, n_out=4, n_scalings=1, shape=(16, 16, 3))
    with pytest.raises(ValueError, match=rf"takes pictures of 16x16 pixels\. Leave out --{name}, or use --{name} 16\."):
        pictures(photos, fixed, **{name: 12})
    assert pictures(photos, fixed).side == 16
    pictures(photos, fixed, **{name: 16})
