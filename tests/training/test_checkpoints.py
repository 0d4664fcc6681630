"""The same call goes on after a kill, and ends where it would have ended."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers.schedules import ExponentialDecay

from benchmarks.safety import faults
from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, SequenceLevel
from stacked_autoencoder.layers.noise import Mask
from stacked_autoencoder.training import checkpoint_callback
from stacked_autoencoder.training.checkpoint_callback import CheckpointCallback, plain_state
from stacked_autoencoder.training.checkpoint_format import read, write
from stacked_autoencoder.utils.seeds import random_state, set_random_state
from tests.conftest import blobs, files_of_at_most, waves
from tests.inference.test_encode_to_store import folder_of

EPOCHS = [3, 2]


class Killed(Exception):
    """Stands for a kill: what is in memory is thrown away, what is on disk stays."""


class KillAfter(keras.callbacks.Callback):
    """Raises at the end of the batches of an epoch, counted over all levels."""

    def __init__(self, epochs):
        super().__init__()
        self.left = iter(range(epochs - 1)) if epochs else None  # a plain number would be kept with the checkpoints

    def on_train_batch_end(self, batch, logs=None):
        if self.left is not None and next(self.left, None) is None:
            raise Killed


class Count(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1


def stack(seed=0):
    keras.utils.set_random_seed(seed)
    noisy = ConvLevel(n_out=4, n_scalings=1, size=4, corruption=Mask(0.2), penalty="l1")
    return Autoencoder(shape=(8, 8, 1), levels=[noisy, DenseLevel([6, 3], kl_weight=0.01)])


def recurrent(seed=0):
    keras.utils.set_random_seed(seed)
    return Autoencoder(shape=(10, 2), levels=[SequenceLevel(4, target="both")])


def pictures(path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    return folder_of(path / "pictures", list(pixels[..., 0]))


SOURCES = {
    "array": lambda path: blobs(40, 8, 1),
    "dataset": lambda path: tf.data.Dataset.from_tensor_slices(blobs(40, 8, 1)),
    "folder": pictures,
}


def train(sae, images, path=None, kill=None, epochs=EPOCHS, **options):
    early = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True, min_delta=10.0)
    callbacks = [early, KillAfter(kill)] if options.pop("early", False) else [KillAfter(kill)]
    options = {"batch_size": 8, "verbose": 0, "callbacks": callbacks, "checkpoint_dir": path} | options
    return sae.train(images, epochs=epochs[: len(sae.levels)], **options)


def assert_same(one, other, histories):
    for levels in zip(one.levels, other.levels, strict=True):
        for first, second in zip(levels[0].models().values(), levels[1].models().values(), strict=True):
            for weights in zip(first.get_weights(), second.get_weights(), strict=True):
                np.testing.assert_array_equal(*weights)
        np.testing.assert_array_equal(levels[0].std, levels[1].std)
        assert (levels[0].linear_code is None) == (levels[1].linear_code is None)
    assert one.value_range == other.value_range
    for first, second in zip(*histories, strict=True):
        assert first.history == second.history
        assert first.epoch == second.epoch
        assert first.start_loss == second.start_loss


@pytest.mark.slow
@pytest.mark.parametrize(("source", "kills"), [("array", [3, 5]), ("dataset", [1]), ("folder", [2])])
def test_training_that_is_killed_ends_as_if_it_had_not_been(tmp_path, source, kills):
    """In the first epoch, in a later one, in the second level."""
    images, valid = SOURCES[source](tmp_path), blobs(16, 8, 1, seed=1)
    whole, validation = stack(), {"validation_data": valid} if source == "array" else {}
    expected = train(whole, images, **validation)
    for kill in kills:
        path = tmp_path / f"checkpoints{kill}"
        with pytest.raises(Killed):
            train(stack(), images, path, kill, **validation)
        again = stack(seed=7)  # another process has other random numbers
        histories = train(again, images, path, **validation)
        assert_same(again, whole, (histories, expected))
        assert not list(path.glob("now*"))


@pytest.mark.slow
@pytest.mark.parametrize(("source", "kills"), [("array", [2, 8]), ("dataset", [5])])
def test_training_goes_on_within_an_epoch(tmp_path, monkeypatch, source, kills):
    """Of 40 steps, 16 at once: killed in the first epoch, in the second level; in the second epoch."""
    monkeypatch.setattr(checkpoint_callback, "WITHIN_EPOCH", 0.0)
    images = SOURCES[source](tmp_path)
    whole, count = stack(), Count()
    expected = train(whole, images, batch_size=1, callbacks=[count, KillAfter(None)])
    for kill in kills:
        path = tmp_path / f"checkpoints{kill}"
        with pytest.raises(Killed):
            train(stack(), images, path, batch_size=1, callbacks=[Count(), KillAfter(kill)])
        (now,) = path.glob("now*")
        assert read(now)[0]["step"] == 16 * ((kill - 1) % 3)
        again, count_again = stack(seed=7), Count()
        histories = train(again, images, path, batch_size=1, callbacks=[count_again, KillAfter(None)])
        assert_same(again, whole, (histories, expected))
        assert count_again.batches == count.batches


@pytest.mark.slow
def test_killed_with_other_options(tmp_path):
    images, falling = blobs(40, 8, 1), ExponentialDecay(0.01, 4, 0.5)
    for name, make, data, options in (
        ("early", stack, images, {"early": True, "epochs": [4, 4], "optimizer": "adam", "steps_per_epoch": 3}),
        (
            "targets",
            stack,
            images,
            {"targets": images[:, ::-1].copy(), "learning_rate": falling},
        ),
        ("recurrent", recurrent, waves(40), {}),
    ):
        whole, path = make(), tmp_path / name
        expected = train(whole, data, **options)
        with pytest.raises(Killed):
            train(make(), data, path, 2, **options)
        again = make(seed=7)
        assert_same(again, whole, (train(again, data, path, **options), expected))
        if name == "early":
            assert len(expected[0].epoch) == 2  # it did end early, and wasn't trained on


def test_a_level_on_top_of_a_trained_stack(tmp_path):
    images = blobs(40, 8, 1)
    whole = stack()
    train(whole, images)
    path = whole.save(tmp_path / "model")
    expected = train(whole, images, levels=[1], epochs=[2])
    with pytest.raises(Killed):
        train(Autoencoder.load(path), images, tmp_path / "checkpoints", 2, levels=[1], epochs=[2])
    again = Autoencoder.load(path)
    keras.utils.set_random_seed(5)
    histories = train(again, images, tmp_path / "checkpoints", levels=[1], epochs=[2])
    assert len(histories[0].epoch) == len(expected[0].epoch) == 2
    np.testing.assert_array_equal(again.levels[0].encoder.get_weights()[0], whole.levels[0].encoder.get_weights()[0])


def test_a_finished_call_gives_what_it_gave(tmp_path):
    images, path = blobs(40, 8, 1), tmp_path / "checkpoints"
    first, again = stack(), stack(seed=3)
    expected = train(first, images, path)
    began = time.perf_counter()
    assert_same(again, first, (train(again, images, path), expected))
    assert time.perf_counter() - began < 30
    assert {file.name for file in path.iterdir()} == {
        "train.json",
        *(f"{n}{i}.npz" for n in ("start", "done") for i in (0, 1)),
    }


def both(sae, images, path=None, kill=None):
    """`train` and `fine_tune` as a script has them, killed in the latter."""
    trained = train(sae, images, path, epochs=[1, 1], callbacks=[])
    tuned = sae.fine_tune(
        images, 3, batch_size=1, verbose=0, callbacks=[KillAfter(kill)], checkpoint_dir=path, validation_data=images[:8]
    )
    return [*trained, tuned]


@pytest.fixture(scope="module")
def undisturbed():
    keras.utils.set_random_seed(0)
    whole = stack()
    return whole, both(whole, blobs(40, 8, 1))


@pytest.mark.slow
@pytest.mark.parametrize("kills", [[1], [6, 4]])
def test_fine_tuning_goes_on_from_the_folder_of_train(undisturbed, tmp_path, monkeypatch, kills):
    """Of three times 40 steps, 16 at once: killed in the first epoch; in the second, and once more in the third."""
    monkeypatch.setattr(checkpoint_callback, "WITHIN_EPOCH", 0.0)
    images, path = blobs(40, 8, 1), tmp_path / "checkpoints"
    whole, expected = undisturbed
    for number, kill in enumerate(kills):
        with pytest.raises(Killed):
            both(stack(seed=number), images, path, kill)
    again = stack(seed=9)
    assert_same(again, whole, (both(again, images, path), expected))
    assert again.levels[1].get_state() == whole.levels[1].get_state()  # what its encodings' statistics now are
    finished = stack(seed=10)
    assert_same(finished, whole, (both(finished, images, path), expected))
    with pytest.raises(ValueError, match=r"the stack has other weights; .*Call `fine_tune` with the earlier arguments"):
        finished.fine_tune(images, checkpoint_dir=path)


CHANGES = [
    ({"epochs": [4, 2]}, r"`epochs` was \{0: 3, 1: 2\} and is now \{0: 4, 1: 2\}"),
    ({"batch_size": 4}, r"`batch_size` was 8 and is now 4\."),
    ({"batch_size": 4, "learning_rate": 0.02}, "`learning_rate` was None and is now 0.02; `batch_size` was 8"),
    ({"optimizer": "adam"}, r"`optimizer` was None and is now Adam\."),
    ({"validation_data": blobs(8, 8, 1)}, "`validation_data` was None and is now 8 images of shape"),
    (
        {"callbacks": lambda index: [keras.callbacks.History(), keras.callbacks.LambdaCallback()][:: 1 - 2 * index]},
        r"`callbacks` was \['KillAfter'\] and is now \[\['History', 'LambdaCallback'\], \['LambdaCallback', '",
    ),
    ({"levels": [0], "epochs": [3]}, r"`epochs` was \{0: 3, 1: 2\} and is now \{0: 3\}"),
]


def test_another_call_raises_an_error(tmp_path):
    images, path = blobs(40, 8, 1), tmp_path / "checkpoints"
    with pytest.raises(Killed):
        train(stack(), images, path, 1)
    for change, words in CHANGES:
        with pytest.raises(ValueError, match=rf"`checkpoint_dir` contains.*{words}.*another folder to start again"):
            train(stack(), images, path, **change)


def test_other_images_or_another_stack_raise_an_error(tmp_path):
    images, path = blobs(40, 8, 1), tmp_path / "checkpoints"
    with pytest.raises(Killed):
        train(stack(), images, path, 1)
    other = images.copy()
    other[3, 0, 0, 0] += 0.01
    with pytest.raises(ValueError, match=r"`images` has other values\."):
        train(stack(), other, path)
    with pytest.raises(ValueError, match="the levels have other arguments"):
        train(Autoencoder(shape=(8, 8, 1), levels=[ConvLevel(3, 1, 4), DenseLevel([6, 3])]), images, path)
    with pytest.raises(ValueError, match=r"`images` was 40 images .* and is now 39 images"):
        train(stack(), images[1:], path)
    trained = stack()
    train(trained, images, epochs=[0, 0])
    with pytest.raises(
        ValueError, match=r"the stack was untrained when that call began and is now trained in levels \[0, 1\]"
    ):
        train(trained, images, path)


def test_a_folder_that_can_not_be_written_raises_an_error_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="`checkpoint_dir` can't be written"):
        train(stack(), blobs(40, 8, 1), tmp_path / "file", 1)


def test_a_full_disk_raises_an_error_and_the_same_call_goes_on(tmp_path):
    images, path = blobs(40, 8, 1), tmp_path / "checkpoints"
    whole = stack()
    expected = train(whole, images)
    with pytest.raises(Killed):
        train(stack(), images, path, 3)
    (first,) = path.glob("now*")
    before = first.read_bytes()
    expected_error = pytest.raises(
        OSError, match=r"Could not write [\d,]+ bytes to `checkpoint_dir`.*repeat the same call"
    )
    with files_of_at_most(len(before) - 1), expected_error:
        train(stack(seed=7), images, path)
    assert first.read_bytes() == before
    again = stack(seed=7)
    assert_same(again, whole, (train(again, images, path), expected))


def test_random_numbers_go_on_where_they_were():
    def seed():
        return keras.random.SeedGenerator(name="seed").state.numpy().tolist()

    keras.utils.set_random_seed(3)
    state = json.loads(json.dumps(random_state()))
    first = np.random.normal(size=5), seed()
    set_random_state(state)
    np.testing.assert_array_equal(np.random.normal(size=5), first[0])
    assert seed() == first[1]


# === Damaged and foreign files ===


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Checkpoints of a training that was killed in its second level."""
    path = tmp_path_factory.mktemp("checkpoints") / "checkpoints"
    keras.utils.set_random_seed(0)
    with pytest.raises(Killed):
        train(stack(), blobs(40, 8, 1), path, 5)
    assert {file.name for file in path.iterdir()} == {
        *("train.json", "start0.npz", "done0.npz", "start1.npz", "now1.npz")
    }
    return path


@pytest.fixture
def path(killed, tmp_path):
    return shutil.copytree(killed, tmp_path / "checkpoints")


def change_meta(file, change):
    """Writes a file of checkpoints with other plain values."""
    meta, arrays = read(file)
    change(meta)
    write(file, arrays, meta)


def change_arrays(file, change):
    meta, arrays = read(file)
    change(arrays)
    write(file, arrays, meta)


def cut(file):
    file.write_bytes(file.read_bytes()[:-300])


def flip(file):
    content = bytearray(file.read_bytes())
    content[300] ^= 0xFF
    file.write_bytes(content)


def other_bytes(file):
    file.write_bytes(b"not a zip")


def pipe(file):
    file.unlink()
    os.mkfifo(file)


def folder(file):
    file.unlink()
    file.mkdir()


def no_meta(file):
    np.savez(file.with_suffix(""), encoder0_0=np.zeros(3))


def other_json(file):
    np.savez(file.with_suffix(""), meta=np.frombuffer(b"[1, 2]", np.uint8))


def deep_json(file):
    np.savez(file.with_suffix(""), meta=np.frombuffer(b"[" * 100_000, np.uint8))


def missing_array(file):
    change_arrays(file, lambda arrays: arrays.pop(sorted(arrays)[-1]))


def wrong_shape(file):
    name = "best_0" if file.name.startswith("now") else "encoder0_0"
    change_arrays(file, lambda arrays: arrays.update({name: arrays[name][..., :1]}))


def more_arrays(file):
    change_arrays(file, lambda arrays: arrays.update(encoder0_99=np.zeros(3), variable_999=np.zeros(3)))


def no_random_state(file):
    change_meta(file, lambda meta: meta.pop("random"))


DAMAGES = [cut, flip, other_bytes, pipe, folder, no_meta, other_json, deep_json, missing_array, wrong_shape]
DAMAGES += [more_arrays, no_random_state]


def states(sae):
    return [weight for level in sae.levels for model in level.models().values() for weight in model.get_weights()]


@pytest.mark.parametrize("name", ["start1.npz", "now1.npz", "done0.npz"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda value: value.__name__)
def test_a_damaged_checkpoint_is_refused(path, name, damage):
    damage(path / name)
    sae = stack()
    before = states(sae)
    with pytest.raises(ValueError, match=rf"{name} in `checkpoint_dir` is damaged, or isn't.*delete {name}") as told:
        train(sae, blobs(40, 8, 1), path)
    assert told.type is ValueError
    if name == "done0.npz":  # the first that is read
        assert all(map(np.array_equal, states(sae), before))


@pytest.mark.parametrize("names", [["now1.npz"], ["start1.npz", "now1.npz"], ["done0.npz"]])
def test_deleting_what_the_message_names_goes_on(path, names):
    other_bytes(path / names[0])
    sae = stack()
    with pytest.raises(ValueError, match=f"delete {' and '.join(names)}, and repeat the call"):
        train(sae, blobs(40, 8, 1), path)
    for name in names:
        (path / name).unlink()
    histories = train(stack(), blobs(40, 8, 1), path)
    assert [len(history.epoch) for history in histories] == EPOCHS


def test_deleting_now_ends_as_an_undisturbed_training(path):
    whole = stack()
    expected = train(whole, blobs(40, 8, 1))
    (path / "now1.npz").unlink()
    again = stack(seed=7)
    assert_same(again, whole, (train(again, blobs(40, 8, 1), path), expected))


@pytest.mark.parametrize("change", [
    {"epoch": 3}, {"epoch": [True]}, {"history": []}, {"history": {"loss": 1.0}}, {"step": -1}, {"step": 10**9},
    {"step": 1.5}, {"best": "0.1"}, {"last": None}, {"is_over": 1}, {"callbacks": []}, {"callbacks": [[]]},
    {"callbacks": [{"wait": [1]}]}, {"lists": [["weights"]]}, {"lists": [[3]]}, {"random": []}, {"random": {}},
])  # fmt: skip
def test_values_of_other_types_are_refused(path, change):
    change_meta(path / "now1.npz", lambda meta: meta.update(change))
    with pytest.raises(ValueError, match=r"now1\.npz in `checkpoint_dir` is damaged"):
        train(stack(), blobs(40, 8, 1), path)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", "3", '{"format": 1}', "\x1b[31m"])
@pytest.mark.parametrize("name", ["train.json", "fine_tune.json"])
def test_json_that_is_not_ours_is_refused_and_kept(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    sae, images = stack(), blobs(40, 8, 1)
    train(sae, images, epochs=[0, 0])
    call = train if name == "train.json" else lambda sae, images, path: sae.fine_tune(images, 1, checkpoint_dir=path)
    with pytest.raises(
        ValueError, match=rf"{name} in `checkpoint_dir` is damaged.*Use another `checkpoint_dir`"
    ) as told:
        call(sae, images, tmp_path)
    assert "\x1b" not in str(told.value)
    assert (tmp_path / name).read_text() == text


def test_a_pipe_in_place_of_json_is_refused(tmp_path):
    os.mkfifo(tmp_path / "train.json")
    with pytest.raises(ValueError, match=r"train\.json in `checkpoint_dir`.*a named pipe"):
        train(stack(), blobs(40, 8, 1), tmp_path)


@pytest.mark.parametrize("name", ["start0.npz", "now0.npz", "done0.npz", "start1.npz"])
def test_files_of_the_users_own_are_kept(tmp_path, name):
    np.savez(tmp_path / name, mine=np.ones(3))
    before = (tmp_path / name).read_bytes()
    with pytest.raises(ValueError, match=rf"contains {name}, but no train\.json.*Use another folder"):
        train(stack(), blobs(40, 8, 1), tmp_path)
    assert (tmp_path / name).read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "start.npz").write_text("mine")
    train(stack(), blobs(40, 8, 1), tmp_path, epochs=[1, 1])
    assert (tmp_path / "notes.txt").read_text() == (tmp_path / "start.npz").read_text() == "mine"


# === Callbacks of the user's ===


class Holds(keras.callbacks.Callback):
    at_class = 0

    def __init__(self, target="here", limit=3):
        super().__init__()
        self.target, self.limit = target, limit
        self.count, self.best, self.label, self.thing, self.arrays = 0, None, "own", object(), None


def put_back_into(callback, plain, lists=(), arrays=None):
    keeper = CheckpointCallback(Path("nothing here"), None, [callback])
    keeper.meta, keeper.arrays = {"callbacks": [plain], "lists": [[*lists]]}, arrays or {}
    keeper._restore_others()


def test_only_numbers_that_a_callback_changes_itself_are_put_back():
    callback = Holds()
    thing = callback.thing
    put_back_into(
        callback,
        {"count": 4, "best": 0.5, "later": True, "at_class": 2, "label": "x", "target": "/etc", "thing": 3},
        ["arrays"],
        {"callback0_arrays_0": np.ones(2)},
    )
    assert (callback.count, callback.best, callback.later, callback.at_class) == (4, 0.5, True, 2)
    assert (callback.label, callback.target, callback.thing) == ("own", "here", thing)
    np.testing.assert_array_equal(callback.arrays, [np.ones(2)])


@pytest.mark.parametrize(
    ("plain", "lists"),
    [
        ({"limit": 9}, []),
        ({"__class__": 1}, []),
        ({"on_epoch_end": None}, []),
        ({"model": None}, []),
        ({}, ["target"]),
        ({}, ["__dict__"]),
        ({}, ["set_model"]),
    ],
)
def test_attributes_that_are_never_written_are_refused(plain, lists):
    callback = Holds()
    before = {**vars(callback)}
    arrays = {f"callback0_{name}_0": np.ones(2) for name in lists}
    with pytest.raises(ValueError, match="of a Holds, which is never saved"):
        put_back_into(callback, {"count": 4, **plain}, lists, arrays)
    assert vars(callback) == before


def test_neither_text_nor_arguments_are_written():
    state = plain_state(Holds())
    assert state.items() >= {"count": 0, "best": None, "arrays": None}.items()
    assert not state.keys() & {"target", "limit", "label", "thing"}
    checkpoint = keras.callbacks.ModelCheckpoint("mine.keras", save_best_only=True)
    assert {"best", "_last_batch_seen"} <= plain_state(checkpoint).keys()
    assert not any(isinstance(value, str) for value in plain_state(checkpoint).values())


def test_a_checkpoint_does_not_say_where_callbacks_write(tmp_path):
    images, mine, other = blobs(40, 8, 1), tmp_path / "mine.weights.h5", tmp_path / "other.weights.h5"

    def callbacks(kill=None):
        return [keras.callbacks.ModelCheckpoint(str(mine), save_weights_only=True), KillAfter(kill)]

    path = tmp_path / "checkpoints"
    with pytest.raises(Killed):
        train(stack(), images, path, callbacks=callbacks(2))
    change_meta(path / "now0.npz", lambda meta: meta["callbacks"][0].update(filepath=str(other)))
    train(stack(), images, path, callbacks=callbacks())
    assert sorted(tmp_path.glob("mine*")) == [tmp_path / f"mine_level{level}.weights.h5" for level in range(2)]
    assert not [*tmp_path.glob("other*")]


@pytest.mark.slow
def test_callbacks_of_keras_go_on(tmp_path):
    """What is best so far, since when, and whether the learning rate is to fall."""
    images = blobs(40, 8, 1)

    def callbacks(kill=None):
        plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=10.0, cooldown=1)
        early = keras.callbacks.EarlyStopping("loss", patience=4, restore_best_weights=True, min_delta=10.0)
        return [plateau, early, KillAfter(kill)]

    whole, options = stack(), {"epochs": [7, 7], "optimizer": "adam"}
    expected = train(whole, images, callbacks=callbacks(), **options)
    with pytest.raises(Killed):
        train(stack(), images, tmp_path / "checkpoints", callbacks=callbacks(4), **options)
    again = stack(seed=7)
    histories = train(again, images, tmp_path / "checkpoints", callbacks=callbacks(), **options)
    assert_same(again, whole, (histories, expected))
    assert len(expected[0].epoch) == 5


# === Random numbers ===


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("numpy"),
        lambda state: state["python"].pop(),
        lambda state: state["python"].__setitem__(0, 2),
        lambda state: state["python"][1].pop(),
        lambda state: state["python"][1].__setitem__(3, -1),
        lambda state: state["python"][1].__setitem__(624, 10**6),
        lambda state: state["numpy"].__setitem__(0, "PCG64"),
        lambda state: state["numpy"][1].__setitem__(0, 1 << 32),
        lambda state: state["numpy"].__setitem__(2, 625),
        lambda state: state["numpy"].__setitem__(4, "0"),
    ],
)
def test_a_random_state_that_is_none_is_refused_and_nothing_is_set(change):
    state = json.loads(json.dumps(random_state()))
    np.random.normal(size=3)
    before = random_state()
    change(state)
    with pytest.raises(ValueError, match="the state of the random numbers isn't"):
        set_random_state(state)
    assert random_state() == before


# === What ends training ===


class Interrupt(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it starts with `&`

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_leaves_a_usable_model_and_says_how_to_go_on(tmp_path):
    images, sae = blobs(40, 8, 1), Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(4, tied=True)])
    options = {"epochs": 4, "batch_size": 8, "verbose": 0, "validation_data": images}
    with pytest.raises(
        KeyboardInterrupt, match=r"Level 0 .* was interrupted.*repeat the call to continue from the checkpoint"
    ):
        sae.train(images, callbacks=[Interrupt()], checkpoint_dir=tmp_path / "checkpoints", **options)
    assert np.isfinite(sae.evaluate(images))
    encoder, decoder = (model.layers[-2 if model is sae.decoder else -1] for model in (sae.encoder, sae.decoder))
    np.testing.assert_array_equal(encoder.kernel, np.transpose(decoder.kernel))  # what is saved is tied
    loaded = Autoencoder.load(sae.save(tmp_path / "model"))
    assert loaded.evaluate(images) == pytest.approx(sae.evaluate(images))
    assert sae.train(images, **options)[0].start_loss == pytest.approx(loaded.train(images, **options)[0].start_loss)


class Poison(keras.callbacks.Callback):
    """Makes a weight NaN after the second batch of the second epoch."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.epoch == 1 and batch >= 2:
            kernel = self.model.trainable_variables[0]
            kernel.assign(np.full(kernel.shape, np.nan))

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def test_a_loss_that_is_no_number_stops_and_names_the_batch():
    images, sae = blobs(256, 8, 1), stack()
    with pytest.raises(
        FloatingPointError, match=r"Level 0 .*in epoch 2, one of the batches 17 to 32\. The best weights"
    ):
        sae.train(images, epochs=3, batch_size=8, verbose=0, callbacks=[Poison()])
    assert all(np.isfinite(weight).all() for weight in sae.levels[0].encoder.get_weights())


# === For real ===


@pytest.mark.slow
def test_a_process_that_is_killed_in_training(tmp_path):
    row = faults.kill_training(3, tmp_path)
    assert row["kills"] == 3
    assert row["the same weights"] >= 1
