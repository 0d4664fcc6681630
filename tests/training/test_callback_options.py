"""What each of Keras's callbacks does in the training of a stack: it works for every level, or is refused before."""

import csv
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from keras.callbacks import (
    CallbackList,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ProgbarLogger,
    ReduceLROnPlateau,
    RemoteMonitor,
    SwapEMAWeights,
    TensorBoard,
    TerminateOnNaN,
)

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, SequenceLevel
from stacked_autoencoder.training.callback_options import callbacks_of_levels, with_separate_paths
from tests.conftest import blobs, run_without_this_package, waves

IMAGES = blobs(40, 8, 1)
HELD_OUT = blobs(16, 8, 1, seed=1)
has_tensorboard = find_spec("tensorboard") is not None


def stack(n_levels=2):
    return Autoencoder(shape=(8, 8, 1), levels=[DenseLevel(4 - level) for level in range(n_levels)])


def train(callbacks, epochs=2, sae=None, **options):
    options = {"validation_data": HELD_OUT, "batch_size": 8, "verbose": 0} | options
    return (sae or stack()).train(IMAGES, epochs, callbacks=callbacks, **options)


def fixed_rate():
    return keras.optimizers.Adam(1e-3)


class Note(keras.callbacks.Callback):
    """Keeps the learning rate of every epoch."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_epoch_end(self, epoch, logs=None):
        self.rates.append(round(float(self.model.optimizer.learning_rate), 9))


def test_every_callback_of_keras_has_a_test_here_or_in_the_table_of_those_refused():
    classes = {
        name
        for name, kind in vars(keras.callbacks).items()
        if isinstance(kind, type) and issubclass(kind, keras.callbacks.Callback)
    }
    tested = {CallbackList, CSVLogger, EarlyStopping, History, LambdaCallback, LearningRateScheduler, ModelCheckpoint}
    tested |= {ProgbarLogger, ReduceLROnPlateau, RemoteMonitor, SwapEMAWeights, TensorBoard, TerminateOnNaN}
    tested = {kind.__name__ for kind in tested}
    assert classes - tested == {"Callback", "BackupAndRestore", *(classes & {"OrbaxCheckpoint"})}


# === How they are given ===


class Count(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda each: each,
        lambda each: [each],
        lambda each: (each,),
        lambda each: [[each]],
        lambda each: CallbackList([each]),
        lambda each: {0: each, -1: [each]},
        lambda each: {np.int64(1): each, 0.0: [each]},
        lambda each: lambda level: each,
    ],
)
def test_all_forms_of_one_callback_for_two_levels(wrapped):
    count = Count()
    assert callbacks_of_levels(wrapped(count), [0, 1], 2) == {0: [count], 1: [count]}


@pytest.mark.parametrize("none", [None, (), [], {}, lambda level: None, lambda level: []])
def test_no_callbacks(none):
    assert callbacks_of_levels(none, [0, 1], 2) == {0: [], 1: []}


def test_callbacks_of_single_levels():
    first, last, every = Count(), Count(), Count()
    assert callbacks_of_levels({-1: last}, [1, 2], 3) == {1: [], 2: [last]}
    sae = stack()
    train({0: [first, every], -1: [last, every]}, epochs=[1, 2], sae=sae)
    assert (first.epochs, last.epochs, every.epochs) == (1, 2, 3)
    sae.fine_tune(IMAGES, 1, callbacks=every, verbose=0)
    assert every.epochs == 4


def test_a_function_gives_the_callbacks_of_a_level():
    made = {}
    train(lambda level: made.setdefault(level, Count()), epochs=[1, 2])
    assert {level: count.epochs for level, count in made.items()} == {0: 1, 1: 2}


@pytest.mark.parametrize(
    ("callbacks", "text"),
    [
        ({2: []}, r"`callbacks` must be indices of levels that this call trains: 0, 1 .*Received: 2"),
        ({-3: []}, r"indices of levels that this call trains.*Received: -3"),
        ({"0": []}, r"indices of levels that this call trains.*Received: '0'"),
        ({True: []}, r"indices of levels that this call trains.*Received: True"),
        ({1: [], -1: []}, r"Two keys of `callbacks` mean level 1. Put its callbacks into one list"),
        (EarlyStopping, r"Pass an instance, `EarlyStopping\(…\)`, instead of the class\. Received"),
        ([EarlyStopping], r"Pass an instance, `EarlyStopping\(…\)`, instead of the class\. Received"),
        ("early", r"`callbacks` must be a Keras callback, a list of them.*Received: 'early'"),
        ([3], r"`callbacks` must be a Keras callback, a list of them.*Received: 3"),
        (lambda level: "early", r"`callbacks` must be a Keras callback, a list of them.*Received: 'early'"),
    ],
)
def test_what_are_no_callbacks_raises_an_error_before_training(callbacks, text):
    sae = stack()
    with pytest.raises(ValueError, match=f"(?s){text}"):
        train(callbacks, sae=sae)
    assert not sae.levels[0].started


def test_callbacks_of_a_level_that_is_not_trained_raise_an_error():
    with pytest.raises(ValueError, match=r"levels that this call trains: 0 \(or negative.*Received: 1"):
        train({1: Count()}, levels=[0])


@pytest.mark.parametrize("callbacks", [{0: Count()}, lambda level: Count()])
def test_fine_tuning_has_no_callbacks_of_levels(callbacks):
    with pytest.raises(ValueError, match=r"`fine_tune` trains all levels jointly, so `callbacks` must be one"):
        stack().fine_tune(IMAGES, 1, callbacks=callbacks, verbose=0)


# === The learning rate ===


def rate_setters():
    return [ReduceLROnPlateau(patience=1, min_delta=1.0), LearningRateScheduler(lambda epoch, rate: rate / 2)]


@pytest.mark.parametrize("setter", [0, 1])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learning_rate": 1e-3},
        {"optimizer": keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(1e-3, 4, 0.5))},
    ],
)
def test_what_sets_the_rate_of_a_schedule_is_refused_before_training(setter, options):
    callback, sae = rate_setters()[setter], stack()
    with pytest.raises(ValueError, match=r"sets the learning rate.*`optimizer=keras\.optimizers\.Adam\(1e-3\)`"):
        train(callback, sae=sae, **options)
    assert not sae.levels[0].started
    with pytest.raises(ValueError, match=r"sets the learning rate, which follows a schedule here"):
        sae.fine_tune(IMAGES, 1, callbacks=callback, verbose=0, **options)


@pytest.mark.parametrize("policy_name", ["float32", "mixed_float16"])
def test_the_rate_falls_on_a_plateau_in_every_level_anew_and_is_in_the_history(policy, policy_name):
    policy(policy_name)
    note = Note()
    plateau = ReduceLROnPlateau(factor=0.5, patience=1, min_delta=1.0)  # no level gets that much better
    histories = train([plateau, note], epochs=3, optimizer=fixed_rate())
    assert note.rates == 2 * [0.001, 0.0005, 0.00025]
    for history in histories:  # as in Keras, what it was during the epoch
        np.testing.assert_allclose(history.history["learning_rate"], [0.001, 0.001, 0.0005], rtol=1e-6)


def test_a_scheduler_begins_anew_in_every_level():
    note, sae = Note(), stack()
    scheduled = [LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1)), note]
    train(scheduled, epochs=2, sae=sae, optimizer=fixed_rate())
    sae.fine_tune(IMAGES, 2, callbacks=scheduled, optimizer=fixed_rate(), verbose=0)
    np.testing.assert_allclose(note.rates, 3 * [0.1, 0.05], rtol=1e-6)


def test_early_stopping_begins_anew_in_every_level():
    histories = train(EarlyStopping(patience=1, min_delta=10.0, restore_best_weights=True), epochs=9)
    assert [len(history.epoch) for history in histories] == [2, 2]


# === Models in files ===

KINDS = {
    "conv": ((8, 8, 1), lambda: ConvLevel(4, 1, 4)),
    "tied": ((8, 8, 1), lambda: DenseLevel([12, 6], tied=True)),
    "variational": ((8, 8, 1), lambda: DenseLevel(4, kl_weight=0.1)),
    "recurrent": ((10, 2), lambda: SequenceLevel(4, target="both")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_restores_what_the_level_sees(tmp_path, kind):
    """As a model, and as weights that can be put back into the level."""
    shape, level = KINDS[kind]
    sae, data = Autoencoder(shape=shape, levels=[level()]), IMAGES if len(shape) == 3 else waves(40)
    whole = ModelCheckpoint(tmp_path / "whole.keras")
    weights = ModelCheckpoint(str(tmp_path / "w{epoch}-{level}.weights.h5"), save_weights_only=True)
    sae.train(data, 1, callbacks=[whole, weights], learning_rate=1e-6, batch_size=20, verbose=0)
    (level,) = sae.levels
    restored = level.decode(level.encode(data))
    model = keras.models.load_model(tmp_path / "whole.keras")
    np.testing.assert_allclose(model.predict(data, verbose=0), restored, atol=1e-3)
    model = keras.Sequential([level.encoder, level.decoder])
    for weight in model.weights:
        weight.assign(weight + 1.0)
    model.load_weights(tmp_path / "w1-0.weights.h5")
    np.testing.assert_allclose(level.decode(level.encode(data)), restored, atol=1e-3)


@pytest.mark.slow
def test_a_saved_model_loads_without_this_package(tmp_path):
    train(ModelCheckpoint(tmp_path / "level.keras"), sae=Autoencoder(shape=(8, 8, 1), size=4, n_out=4, n_scalings=1))
    run_without_this_package(
        "import keras, numpy as np\n"
        f"model = keras.models.load_model({str(tmp_path / 'level.keras')!r})\n"
        "assert model.predict(np.zeros((2, 8, 8, 1)), verbose=0).shape == (2, 8, 8, 1)\n"
    )


def test_a_callback_can_load_what_it_has_saved(tmp_path):
    class Reset(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.save_weights(tmp_path / "start.weights.h5")

        def on_epoch_end(self, epoch, logs=None):
            self.model.load_weights(tmp_path / "start.weights.h5")

    sae = stack(1)
    train(None, epochs=0, sae=sae)
    before = sae.encode(IMAGES)
    train(Reset(), sae=sae)
    np.testing.assert_array_equal(sae.encode(IMAGES), before)


@pytest.mark.parametrize(
    ("path", "paths"),
    [
        ("w{epoch}.weights.h5", ["w{epoch}_level0.weights.h5", "w{epoch}_level1.weights.h5"]),
        ("{level}/w{epoch:02d}.weights.h5", ["0/w{epoch:02d}.weights.h5", "1/w{epoch:02d}.weights.h5"]),
        ("{level:02d}-{epoch}.weights.h5", ["00-{epoch}.weights.h5", "01-{epoch}.weights.h5"]),
    ],
)
@pytest.mark.parametrize("is_factory", [False, True])
def test_no_level_overwrites_the_files_of_another(path, paths, is_factory):
    def make(level=None):
        return ModelCheckpoint(path, save_weights_only=True)

    given = callbacks_of_levels(make if is_factory else make(), [0, 1], 2)
    apart = with_separate_paths(given)
    assert [apart[level][0].filepath for level in range(2)] == paths
    assert given[0][0].filepath == path


def test_files_of_all_levels_and_epochs_are_there(tmp_path):
    train(ModelCheckpoint(str(tmp_path / "w{epoch}.weights.h5"), save_weights_only=True))
    names = [file.name for file in sorted(tmp_path.iterdir())]
    assert names == [f"w{epoch}_level{level}.weights.h5" for epoch in (1, 2) for level in range(2)]


def test_the_path_of_a_single_level_stays_as_it_is(tmp_path):
    whole = ModelCheckpoint(tmp_path / "best.keras")
    for given in ({1: whole}, {0: whole}):
        apart = with_separate_paths(callbacks_of_levels(given, [0, 1], 2))
        assert sorted(apart.values(), key=len) == [[], [whole]]


def test_what_was_best_in_one_level_is_not_held_against_the_next(tmp_path):
    """The loss of level 1, of encodings, is higher than that of level 0, of images."""
    best = ModelCheckpoint(tmp_path / "best.weights.h5", save_weights_only=True, save_best_only=True)
    histories = train(best)
    assert min(histories[1].history["val_loss"]) > min(histories[0].history["val_loss"])
    assert (tmp_path / "best_level1.weights.h5").exists()
    assert best.filepath == str(tmp_path / "best.weights.h5")


def test_joint_training_saves_the_whole_stack(tmp_path):
    sae = stack()
    train(None, epochs=0, sae=sae)
    sae.fine_tune(IMAGES, 1, callbacks=ModelCheckpoint(tmp_path / "{level}.keras"), learning_rate=1e-9, verbose=0)
    model = keras.models.load_model(tmp_path / "all.keras")
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), sae.reconstruct(IMAGES), atol=1e-4)


def test_a_path_that_needs_validation_data_raises_an_error_before_training(tmp_path):
    sae, checkpoint = stack(), ModelCheckpoint(str(tmp_path / "{epoch}-{val_loss:.3f}.keras"))
    with pytest.raises(
        ValueError, match=r"contains `val_loss`, which exists only with validation data\. Pass `validation_data=…`"
    ):
        train(checkpoint, sae=sae, validation_data=None)
    assert not sae.levels[0].started
    train(checkpoint, sae=sae, levels=[0], epochs=1)
    assert len([*tmp_path.iterdir()]) == 1


# === Rows in files ===


def rows_of(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("is_factory", [False, True])
def test_a_csv_file_has_the_rows_of_all_levels(tmp_path, is_factory):
    file = tmp_path / "log.csv"
    histories = train((lambda level: CSVLogger(file)) if is_factory else CSVLogger(file), epochs=[2, 3])
    rows = rows_of(file)
    assert [(row["level"], row["epoch"]) for row in rows] == [*zip("00111", "01012", strict=True)]
    losses = [value for history in histories for value in history.history["val_loss"]]
    np.testing.assert_allclose([float(row["val_loss"]) for row in rows], losses)
    assert "level" not in histories[0].history
    if is_factory:
        train(CSVLogger(file, append=True), epochs=1)
        assert len(rows_of(file)) == 7
    else:
        train(CSVLogger(file), epochs=1)
        assert len(rows_of(file)) == 2  # a new call begins it anew, as in Keras


def test_levels_whose_losses_have_other_terms_share_a_csv_file(tmp_path):
    levels = [DenseLevel(4), DenseLevel(3, kl_weight=0.1), DenseLevel(2, penalty="l1")]
    train(CSVLogger(tmp_path / "log.csv", separator=","), epochs=1, sae=Autoencoder(shape=(8, 8, 1), levels=levels))
    rows = rows_of(tmp_path / "log.csv")
    assert [row["level"] for row in rows] == ["0", "1", "2"]
    assert [row["kl"] == "NA" for row in rows] == [True, False, True]
    assert [row["val_penalty"] == "NA" for row in rows] == [True, True, False]
    for row in rows[1:]:
        parts = float(row["reconstruction"]) + float(row["kl" if row["kl"] != "NA" else "penalty"])
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-5)


def test_a_csv_file_of_a_single_level_is_as_keras_writes_it(tmp_path):
    (history,) = train(CSVLogger(tmp_path / "log.csv"), sae=stack(1), validation_data=None)
    first, second = history.history["loss"]
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines == ["epoch,loss,val_loss", f"0,{first},NA", f"1,{second},NA"]


def test_a_csv_file_for_each_level(tmp_path):
    train(CSVLogger(tmp_path / "log{level}.csv"), epochs=1)
    for level in range(2):
        assert [*rows_of(tmp_path / f"log{level}.csv")[0]] == ["epoch", "loss", "val_loss"]


class Killed(Exception):
    pass


@pytest.mark.parametrize(("n_levels", "append"), [(1, True), (2, False)])
def test_a_csv_file_goes_on_after_a_kill(tmp_path, n_levels, append):
    left = iter(range(n_levels))  # in the second epoch of the last level

    def kill(epoch, logs=None):
        if epoch == 1 and next(left, None) == n_levels - 1:
            raise Killed

    def again():
        keras.utils.set_random_seed(0)
        callbacks = [CSVLogger(tmp_path / "log.csv", append=append), LambdaCallback(on_epoch_begin=kill)]
        return train(callbacks, sae=stack(n_levels), epochs=3, checkpoint_dir=tmp_path / "checkpoints")

    with pytest.raises(Killed):
        again()
    histories = again()
    rows = rows_of(tmp_path / "log.csv")
    assert [row["epoch"] for row in rows] == n_levels * ["0", "1", "2"]
    losses = [value for history in histories for value in history.history["loss"]]
    np.testing.assert_allclose([float(row["loss"]) for row in rows], losses)


# === Others ===


def test_a_history_of_the_users_does_not_take_the_place_of_the_one_that_is_kept(tmp_path):
    own = History()
    for _ in range(2):  # the second call finds all done
        histories = train([own], checkpoint_dir=tmp_path / "checkpoints", sae=stack(), epochs=2)
        assert [len(history.history["loss"]) for history in histories] == [2, 2]
        keras.utils.set_random_seed(0)
    assert own.history["loss"] == [value for history in histories for value in history.history["loss"]]


def test_progress_nan_and_functions(capsys):
    ends = []
    note = LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append((epoch, sorted(logs))))
    train([ProgbarLogger(), TerminateOnNaN(), note], epochs=1)
    assert ends == 2 * [(0, ["loss", "val_loss"])]
    capsys.readouterr()


def test_a_remote_monitor_raises_an_error_of_every_epoch():
    told = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        train(RemoteMonitor(f"http://127.0.0.1:{server.server_port}", send_as_json=True), epochs=2)
        server.shutdown()
        thread.join()
    assert [entry["epoch"] for entry in told] == [0, 1, 0, 1]


@pytest.mark.skipif(not has_tensorboard, reason="needs tensorboard")
def test_tensorboard_has_a_folder_for_each_level(tmp_path):
    sae = stack()
    options = {"histogram_freq": 1, "update_freq": 1, "write_steps_per_second": True}
    train(TensorBoard(tmp_path / "logs", **options), sae=sae)
    folders = sorted(str(file.parent.relative_to(tmp_path)) for file in tmp_path.rglob("events.*"))
    assert folders == [f"logs/level{level}/{part}" for level in range(2) for part in ("train", "validation")]
    sae.fine_tune(IMAGES, 1, callbacks=TensorBoard(tmp_path / "joint"), verbose=0)
    assert any((tmp_path / "joint" / "train").iterdir())


@pytest.mark.skipif(has_tensorboard, reason="tensorboard is there")
def test_tensorboard_names_the_package_that_it_needs_before_training(tmp_path):
    sae = stack()
    with pytest.raises(ImportError, match=r"needs the package tensorboard\. Install it with `pip install tensorboard`"):
        train(TensorBoard(tmp_path / "logs"), sae=sae)
    assert not sae.levels[0].started


def test_going_on_after_a_kill_is_left_to_checkpoint_dir(tmp_path):
    sae = stack()
    with pytest.raises(ValueError, match=r"`BackupAndRestore` can't be used with stacks\. Use `checkpoint_dir=…`"):
        train(keras.callbacks.BackupAndRestore(tmp_path / "backup"), sae=sae)
    assert not sae.levels[0].started
    assert not (tmp_path / "backup").exists()
    train(None, epochs=1, sae=sae, levels=[0], checkpoint_dir=tmp_path / "checkpoints")
    assert (tmp_path / "checkpoints" / "done0.npz").exists()


@pytest.mark.skipif(
    find_spec("orbax") is None or not hasattr(keras.callbacks, "OrbaxCheckpoint"), reason="needs orbax-checkpoint"
)
def test_orbax_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`OrbaxCheckpoint` can't be used with stacks\. Use `checkpoint_dir=…`"):
        train(keras.callbacks.OrbaxCheckpoint(str(tmp_path / "orbax")))
    shutil.rmtree(tmp_path / "orbax", ignore_errors=True)


def test_averaged_weights_are_refused():
    averaging = keras.optimizers.Adam(1e-3, use_ema=True)
    with pytest.raises(ValueError, match=r"`SwapEMAWeights` can't be used with stacks.*Remove the callback"):
        train(SwapEMAWeights(), optimizer=averaging)
