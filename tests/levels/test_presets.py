import pytest

from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.levels.presets import PRESETS


def test_each_preset_costs_more_than_the_one_before():
    stacks = [Autoencoder(shape=(64, 64, 3), preset=name, n_scalings=3) for name in PRESETS]
    weights = [stack.levels[0].count_params() for stack in stacks]
    assert weights == sorted(weights)
    assert weights[0] < weights[1] / 2 < weights[2] / 4


def test_balanced_is_the_default():
    stack = Autoencoder(preset="balanced", n_levels=2)
    assert [level.get_config() for level in stack.levels] == [ConvLevel().get_config()] * 2
    assert stack.save_path.name == Autoencoder().save_path.name == "autoencoder_64_32_2"


def test_a_level_of_its_own_takes_one_and_says_otherwise_what_differs():
    level = ConvLevel.preset("best", n_out=8, depth=1)
    assert (level.size, level.depth, level.n_out) == (PRESETS["best"]["size"], 1, 8)


@pytest.mark.parametrize("make", [lambda: Autoencoder(preset="bets"), lambda: ConvLevel.preset("bets")])
def test_an_unknown_one_is_told(make):
    with pytest.raises(ValueError, match=r"`preset` must be one of 'fast', 'balanced', 'best': did you mean 'best'"):
        make()


def test_a_width_beside_a_preset_is_refused():
    with pytest.raises(ValueError, match=r"`size` can't be combined with `preset`.* Received: size=32, preset='fast'"):
        Autoencoder(size=32, preset="fast")
