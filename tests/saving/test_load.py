"""A stranger's folder runs nothing, takes no more than it holds, and is answered in words."""

import json
import resource
import shutil
import time

import keras
import pytest

from benchmarks.safety.attacks import edit, sign
from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, LoadError, SequenceLevel
from tests.conftest import blobs

LOSSES = []


@keras.saving.register_keras_serializable("tests")
def loss_that_tells(targets, outputs):
    LOSSES.append(1)
    return keras.losses.mean_squared_error(targets, outputs)


@keras.saving.register_keras_serializable("tests")
class NoiseThatTells(keras.layers.GaussianNoise):
    def __init__(self, stddev=0.1, **options):
        LOSSES.append(stddev)
        super().__init__(stddev, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    sae = Autoencoder(shape=(16, 16, 3), levels=[ConvLevel(n_out=4, size=8), DenseLevel([12, 6])])
    sae.train(blobs(64), epochs=0, verbose=0)
    return sae.save(tmp_path_factory.mktemp("models") / "saved")


@pytest.fixture
def path(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "stranger")


def config_of(manifest, level=0):
    return manifest["levels"][level]["config"]


def assert_refused(path, words):
    """Told in words of our own, soon, and without memory for what isn't there."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LoadError, match=words):
        Autoencoder.load(path)
    assert time.perf_counter() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


# === Names ===


@pytest.mark.parametrize("argument", ["loss", "penalty", "corruption"])
@pytest.mark.parametrize(
    "thing",
    [
        "tests>loss_that_tells",
        {"name": "tests>NoiseThatTells", "arguments": {"stddev": 7.0}},
        {"name": "Lambda", "arguments": {"function": "os.system"}},
        "os.system",
        {"name": ["mse"]},
        {},
    ],
)
def test_what_the_program_has_registered_is_made_only_on_trust(path, argument, thing):
    LOSSES.clear()
    edit(path, lambda manifest: config_of(manifest).update({argument: thing}))
    assert_refused(path, argument if thing and thing != {"name": ["mse"]} else "describes cannot be created|is None")
    assert not LOSSES


def test_ones_own_loss_is_there_again_on_trust(tmp_path):
    sae = Autoencoder(shape=(8,), levels=[DenseLevel(3, loss=loss_that_tells, corruption=NoiseThatTells(0.2))])
    path = sae.save(tmp_path / "mine")
    with pytest.raises(LoadError, match=r"register it with Keras and call `Autoencoder\.load\(…, trusted=True\)`"):
        Autoencoder.load(path)
    for loaded in (Autoencoder.load(path, trusted=True), Autoencoder(save_path=path, load=True, trusted=True)):
        assert loaded.levels[0].objective.loss is loss_that_tells
        assert loaded.levels[0].objective.corruption.stddev == 0.2


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "saved_model.pb"])
def test_what_keras_and_tensorflow_would_run_is_not_even_opened(path, name):
    attack = {"class_name": "Lambda", "config": {"function": {"class_name": "__lambda__", "config": {"code": "4wAA"}}}}
    for part in ("encoder0", "decoder1"):
        (path / part / name).write_text(json.dumps(attack))
    sign(path)
    assert Autoencoder.load(path).encode(blobs(2)).shape == (2, 6)


def test_arguments_that_a_level_does_not_take_are_refused(path):
    edit(path, lambda manifest: config_of(manifest).update(build_config={"module": "os"}))
    assert_refused(path, r"unexpected keyword argument 'build_config'.*Copy the folder again")


# === Sizes ===


@pytest.mark.parametrize(
    ("level", "change"),
    [
        (0, {"size": 10**6}),
        (0, {"n_out": 10**6}),
        (0, {"n_out": 10**100}),
        (0, {"depth": 10**6}),
        (0, {"n_scalings": 25}),
        (0, {"n_scalings": 10**9}),
        (0, {"latent_dim": 10**8}),
        (0, {"n_out": 5}),
        (0, {"activation": "nothing"}),
        (0, {"size": [8]}),
        (0, {"size": float("nan")}),
        (1, {"units": [10**7, 6]}),
        (1, {"units": [12] * 100_000}),
        (1, {"units": [6]}),
        (1, {"units": {"12": 6}}),
    ],
)
def test_a_level_with_other_weights_than_those_on_disk_is_refused(path, level, change):
    edit(path, lambda manifest: config_of(manifest, level).update(change))
    assert_refused(path, "is not|do not belong|cannot be created|is too large for a level with these weights")


def test_a_loop_over_steps_that_are_not_there_is_refused(tmp_path):
    sae = Autoencoder(shape=(5, 2), levels=[SequenceLevel(3, conditional=True)])
    path = sae.save(tmp_path / "sequences")
    edit(path, lambda manifest: manifest.update(shape=[10**6, 2]))
    assert_refused(path, r"do not belong to a SequenceLevel for inputs \(1000000, 2\)")


def test_a_recurrent_stack_of_any_kind_loads(tmp_path):
    both = Autoencoder(shape=(6, 2), levels=[SequenceLevel(5), SequenceLevel(3, cell="gru", target="both")])
    path = both.save(tmp_path / "both")
    assert Autoencoder.load(path).levels[0].return_sequences
    edit(path, lambda manifest: config_of(manifest, 1).update(target="input"))
    assert Autoencoder.load(path).levels[1].predictor is None  # fewer parts than there are is no attack


@pytest.mark.parametrize("shape", [[16, 16, 4], [16, 16, 10**12], [16, 16], [], [-1, 16, 3], "16", [True, 16, 3]])
def test_another_image_shape_is_refused(path, shape):
    edit(path, lambda manifest: manifest.update(shape=shape))
    assert_refused(
        path, "not a manifest that `save` wrote|must be the shape of one image|do not belong to|cannot be created"
    )


# === The folder ===


@pytest.mark.parametrize("name", ["../outside.txt", "{outside}", "encoder0/../../outside.txt", "a\0b", "a" * 5000])
def test_names_that_lead_elsewhere_are_refused(path, name):
    outside = path.parent / "outside.txt"
    outside.write_text("secret")
    name = name.format(outside=outside)
    edit(path, lambda manifest: manifest["files"].update({name: "0" * 64}))
    assert_refused(path, "is outside of the folder|cannot be read")


@pytest.mark.parametrize("name", ["encoder0/model.weights.h5", "encoder0", "autoencoder.json"])
def test_links_are_refused(path, name):
    (path / name).rename(path.parent / "elsewhere")
    (path / name).symlink_to(path.parent / "elsewhere")
    assert_refused(path, "is a link|not a manifest that `save` wrote")


def test_a_folder_that_is_itself_reached_by_a_link_loads(path, tmp_path):
    (tmp_path / "latest").symlink_to(path)
    assert Autoencoder.load(tmp_path / "latest").encode(blobs(2)).shape == (2, 6)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "9" * 10_000, " " * (1 << 24) + "{}", '{"format": "1"}', '{"format": NaN}', "\udcff"],
    ids=["deep", "long number", "large", "text", "nan", "no text"],
)
def test_a_manifest_that_is_an_attack_is_refused(path, text):
    (path / "autoencoder.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert_refused(path, r"autoencoder\.json is not a manifest that `save` wrote")


@pytest.mark.parametrize("key", ["shape", "check_range", "value_range", "levels", "files", "format"])
@pytest.mark.parametrize("value", [None, [], {}, 3, "text", [None], [float("nan"), 1.0]])
def test_any_value_in_any_place_is_answered_in_words(path, key, value):
    edit(path, lambda manifest: manifest.update({key: value}))
    assert_refused(
        path, "not a manifest that `save` wrote|must be the shape of one image|is not among the files|in format 3"
    )


@pytest.mark.parametrize("values", [[0.0], [0.0] * 4 + [float("inf")], "text", {"a": 1}, [[0.0] * 4]])
def test_statistics_of_other_channels_are_refused(path, values):
    edit(path, lambda manifest: manifest["levels"][0].update(mean=values))
    assert_refused(path, "`mean` and `std` must be|cannot be created")


ODD = {
    "equal": ("value_range", [1.0, 1.0]),
    "reversed": ("value_range", [1.0, -1.0]),
    "negative format": ("format", -1),
    "format zero": ("format", 0),
    "zero": ("std", lambda values: [0.0, *values[1:]]),
    "negative": ("std", lambda values: [-1.0, *values[1:]]),
    "mean missing": ("mean", lambda values: None),
    "many levels": ("levels", [{"kind": "conv", "config": {}, "started": False, "mean": None, "std": None}] * 100_000),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_values_are_refused(path, name):
    key, value = ODD[name]

    def change(manifest):
        place = manifest["levels"][0] if callable(value) else manifest
        place[key] = value(place["std"]) if callable(value) else value

    edit(path, change)
    assert_refused(path, "is not a manifest that `save` wrote")


def test_what_version_0_1_wrote_of_constant_data_loads(path):
    def change(manifest):
        del manifest["id"]
        manifest["value_range"] = [1.0, 1.0]
        manifest["levels"][0]["std"][0] = 0

    edit(path, change)
    loaded = Autoencoder.load(path)
    assert loaded.value_range[0] < 1 < loaded.value_range[1]
    assert loaded.levels[0].std[0] == 1


def test_messages_are_short_and_printable(path):
    edit(path, lambda manifest: manifest["files"].update({"encoder0/" + "\x1b[2J" * 10**5: "0" * 64}))
    with pytest.raises(LoadError) as told:
        Autoencoder.load(path)
    assert len(str(told.value)) < 3000
    assert str(told.value).isprintable()
