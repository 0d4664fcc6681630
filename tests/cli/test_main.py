"""The command, from its arguments to its exit code."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from functools import partial

import keras
import numpy as np
import pytest
from PIL import Image

from stacked_autoencoder import Autoencoder, EncodingStore, heads
from stacked_autoencoder.cli.main import Terminated, _terminated_as_interrupted, main
from stacked_autoencoder.utils.files import only_writer
from stacked_autoencoder.utils.images import as_bytes
from stacked_autoencoder.utils.signals import deferred_signals
from tests.conftest import blobs

COMMAND = [sys.executable, "-m", "stacked_autoencoder"]
QUIETER = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.fixture
def run(capsys):
    """Runs a command in this process; returns its exit code, what it printed, and what it said went wrong."""

    def run(*words):
        code = main([str(word) for word in words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    for index, image in enumerate(as_bytes(blobs(24), (-1, 1))):
        (path / "some").mkdir(exist_ok=True)
        Image.fromarray(image).save(path / (f"{index:02d}.png" if index < 12 else f"some/{index:02d}.png"))
    return path


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("stack") / "model"
    sizes = ["--size", "8", "--n-out", "4", "--n-scalings", "1", "--n-levels", "2", "--batch-size", "4"]
    assert main(["train", str(folder), "--save-path", str(path), "--side", "16", "--epochs", "1", "2", *sizes]) == 0
    return path


# === Its arguments ===


def test_help_doesnt_wait_for_tensorflow():
    began = []
    for _ in range(3):
        before = time.perf_counter()
        done = subprocess.run([*COMMAND, "--help"], check=True, capture_output=True, text=True)
        began.append(time.perf_counter() - before)
    assert min(began) < 0.5
    assert all(name in done.stdout for name in ("train", "reconstruct", "demo"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["train", "folder"], "required: --save-path"),
        (["train", "folder", "--save-path", "m", "--side", "8", "--crop", "8"], "not allowed with argument --side"),
    ],
)
def test_arguments_that_cant_be_are_told_at_once(words, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert told in capsys.readouterr().err


# === What it does ===


def test_train_saves_what_the_library_trains(folder, model, run):
    sae = Autoencoder.load(model)
    assert [level.encoding_shape for level in sae.levels] == [(8, 8, 4), (4, 4, 4)]
    before = sae.evaluate(folder, return_dict=True)
    code, out, _ = run("train", folder, "--save-path", model, "--continue", "--epochs", 1, "--valid", folder, "--json")
    assert code == 0
    result = json.loads(out)
    assert len(result["histories"]) == 2
    assert result["budget"]["1"]["full_loss"] == pytest.approx(Autoencoder.load(model).evaluate(folder), rel=1e-3)
    assert result["histories"][0]["start_loss"] == pytest.approx(before[0]["loss"], rel=1e-3)  # goes on from there


def test_train_with_a_seed_gives_the_same_model_twice(folder, tmp_path, run):
    for name in ("one", "two"):
        words = ("--side", 16, "--size", 8, "--n-out", 4, "--epochs", 1, "--grey", "--nested", "--json")
        assert run("train", folder, "--save-path", tmp_path / name, *words)[0] == 0
    one, two = (Autoencoder.load(tmp_path / name) for name in ("one", "two"))
    assert one.shape == (16, 16, 1)
    assert one.stack.fingerprint(0) == two.stack.fingerprint(0)
    assert one.levels[0].objective.nested


def test_info_and_evaluate_say_what_a_stack_is_and_loses(folder, model, run):
    code, out, _ = run("info", model)
    assert code == 0
    assert "16x16x3" in out
    assert f"keras {keras.__version__}" in out
    told = json.loads(run("info", model, "--json")[1])
    assert told["levels"][1]["encoding_shape"] == [4, 4, 4]
    assert told["levels"][1]["values"] == 64
    assert told["levels"][1]["ratio"] == 12
    np.testing.assert_allclose(told["levels"][0]["std"], Autoencoder.load(model).levels[0].std)
    code, out, _ = run("evaluate", model, folder, "--json")
    assert json.loads(out)["levels"][1]["full_loss"] == pytest.approx(Autoencoder.load(model).evaluate(folder))
    assert "loss / PCA loss" in run("evaluate", model, folder)[1]


def test_encode_and_decode_give_each_picture_its_own_file(folder, model, tmp_path, run):
    for part in ("0/2", "1/2"):
        assert (
            run("encode", model, folder, tmp_path / "enc", "--level", 0, "--shard", part, "--dtype", "float32")[0] == 0
        )
    store = EncodingStore(tmp_path / "enc")
    assert len(store) == 24
    code, out, _ = run("decode", model, tmp_path / "enc", tmp_path / "out")
    assert code == 0
    assert "24 pictures" in out
    sae = Autoencoder.load(model)
    for name in ("03.png", "some/20.png"):
        expected = sae.reconstruct(np.asarray(Image.open(folder / name))[None], level=0)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / name)), as_bytes(expected, (-1, 1))[0])


def test_decode_takes_encodings_of_pictures_that_differ_in_size(tmp_path, run):
    sizes = {"a.png": 16, "b.png": 20, "c.png": 16}
    (tmp_path / "pictures").mkdir()
    for seed, (name, side) in enumerate(sizes.items()):
        Image.fromarray(as_bytes(blobs(1, side, seed=seed), (-1, 1))[0]).save(tmp_path / "pictures" / name)
    words = ("--size", 8, "--n-out", 6, "--n-scalings", 1, "--epochs", 0, "--batch-size", 2)
    assert run("train", tmp_path / "pictures", "--save-path", tmp_path / "m", *words)[0] == 0
    assert run("encode", tmp_path / "m", tmp_path / "pictures", tmp_path / "enc")[0] == 0
    assert run("decode", tmp_path / "m", tmp_path / "enc", tmp_path / "out")[0] == 0
    for name, side in sizes.items():
        back, picture = (np.asarray(Image.open(tmp_path / where / name), float) for where in ("out", "pictures"))
        assert back.shape == (side, side, 3)
        assert np.abs(back - picture).mean() < 10


def test_reconstruct_writes_a_picture_per_picture_and_a_sheet(folder, model, tmp_path, run):
    out = tmp_path / "out"
    assert run("reconstruct", model, folder, out, "--level", 0)[0] == 0
    assert len(list(out.rglob("*.png"))) == 25
    expected = Autoencoder.load(model).reconstruct(np.asarray(Image.open(folder / "00.png"))[None], level=0)
    np.testing.assert_array_equal(np.asarray(Image.open(out / "00.png")), as_bytes(expected, (-1, 1))[0])
    whole = np.asarray(Image.open(out / "sheet.png"))
    assert whole.shape == (2 * 20 + 4, 8 * 20 + 4, 3)
    np.testing.assert_array_equal(whole[4:20, 4:20], np.asarray(Image.open(folder / "00.png")))
    np.testing.assert_array_equal(whole[24:40, 4:20], np.asarray(Image.open(out / "00.png")))


def test_generate_draws_with_a_saved_head(folder, model, tmp_path, run):
    sae = Autoencoder.load(model)
    flow = heads.Flow(sae.encoding_shape, n_classes=2, width=8)
    flow.fit(sae.encode(folder), np.arange(24) % 2, epochs=1, verbose=0, origin=sae.stack.fingerprint(1))
    flow.save(tmp_path / "flow.keras")
    code, out, _ = run(
        "generate", model, tmp_path / "flow.keras", tmp_path / "out", "-n", 9, "--label", 1, "--guidance", 1.5
    )
    assert code == 0
    assert "9 pictures" in out
    expected = as_bytes(sae.decode(flow.generate(9, seed=0, labels=1, guidance=1.5)), (-1, 1))[8]
    drawn = np.asarray(Image.open(tmp_path / "out" / "000008.png")).astype(int)
    assert np.abs(drawn - expected).max() <= 1
    code, _, told = run("generate", model, tmp_path / "flow.keras", tmp_path / "more", "--level", 0)
    assert code == 1
    assert "generates encodings of shape 4x4x4, but encodings of level 0 have shape 8x8x4. Set --level" in told


def test_generate_refuses_the_head_of_another_stack(folder, model, tmp_path, run):
    sae = Autoencoder.load(model)
    vae = heads.VAE(sae.encoding_shape, width=8)
    vae.fit(sae.encode_to(tmp_path / "enc", folder, verbose=0), epochs=1, verbose=0)
    vae.save(tmp_path / "vae.keras")
    sizes = ["--size", 8, "--n-out", 4, "--n-scalings", 1, "--n-levels", 2, "--side", 16, "--epochs", 0, "--seed", 5]
    assert run("train", folder, "--save-path", tmp_path / "other", *sizes)[0] == 0
    assert Autoencoder.load(tmp_path / "other").encoding_shape == sae.encoding_shape
    code, _, told = run("generate", tmp_path / "other", tmp_path / "vae.keras", tmp_path / "out")
    assert code == 1
    assert "This VAE was fitted on encodings of another stack" in told
    assert not list((tmp_path / "out").glob("*.png"))
    assert run("generate", model, tmp_path / "vae.keras", tmp_path / "more")[::2] == (0, "")


@pytest.mark.filterwarnings("default:It can't be checked:UserWarning")
def test_generate_warns_of_a_head_of_unknown_origin(folder, model, tmp_path, run):
    sae = Autoencoder.load(model)
    vae = heads.VAE(sae.encoding_shape, width=8)
    vae.fit(sae.encode(folder), epochs=1, verbose=0)
    vae.save(tmp_path / "vae.keras")
    code, out, told = run("generate", model, tmp_path / "vae.keras", tmp_path / "out", "-n", 2)
    assert code == 0
    assert "2 pictures" in out
    assert "warning: It can't be checked whether this VAE was fitted on encodings of this stack" in told


@pytest.mark.slow
def test_demo_shows_the_other_commands(tmp_path, run):
    code, out, _ = run("demo", "--out", tmp_path / "demo", "--crops", 64, "--size", 4, "--epochs", 1, 1)
    assert code == 0
    assert out.count("$ stacked-autoencoder ") == 3
    assert (tmp_path / "demo" / "reconstructed" / "sheet.png").stat().st_size > 10_000
    assert len(Autoencoder.load(tmp_path / "demo" / "model").levels) == 2


# === What goes wrong ===


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("info {tmp}/nothing", "does not exist."),
        (
            "evaluate {model} {folder} --side 12",
            "--side 12 does not fit this stack, which takes pictures of 16x16 pixels.",
        ),
        ("evaluate {model} {folder} --crop 12", "pixels. Leave out --crop, or use --crop 16."),
        ("train {folder} --save-path {model}", "Use --continue to train it further, or --overwrite to replace it."),
        ("reconstruct {model} {folder} {folder}", "existing files are never overwritten. Choose a new folder."),
    ],
)
def test_errors_come_in_one_line(words, told, folder, model, tmp_path, run):
    code, out, err = run(*(word.format(tmp=tmp_path, model=model, folder=folder) for word in words.split()))
    assert code == 1
    assert err.startswith("stacked-autoencoder: error: ")
    assert told in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert (
        "Traceback"
        in run(*(word.format(tmp=tmp_path, model=model, folder=folder) for word in words.split()), "--debug")[2]
    )


def test_encodings_of_another_stack_are_refused(folder, model, tmp_path, run):
    assert run("encode", model, folder, tmp_path / "enc")[0] == 0
    assert run("train", folder, "--save-path", tmp_path / "m", "--side", 16, "--size", 8, "--epochs", 0)[0] == 0
    code, _, told = run("decode", tmp_path / "m", tmp_path / "enc", tmp_path / "out")
    assert code == 1
    assert "computed by another stack" in told


@pytest.mark.slow
@pytest.mark.parametrize(("words", "code"), [(["info", "{model}"], 0), (["info", "missing"], 1), (["--help"], 0)])
def test_the_process_ends_before_the_destructors_and_after_all_exit_functions(model, words, code, tmp_path):
    """An object whose destructor prints stands for those of TensorFlow."""
    argv = ["stacked-autoencoder", *(word.format(model=model) for word in words)]
    script = f"""
import atexit, os, sys
class Destroyed:
    def __init__(self): self.write = os.write
    def __del__(self): self.write(2, b"destroyed")
kept = Destroyed()
from stacked_autoencoder.cli.main import run
def note(event, arguments):
    if event == "import" and arguments[0] == "tensorflow":
        atexit.register(print, "exit function")
sys.addaudithook(note)
sys.argv = {argv!r}
sys.exit(run())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=QUIETER, cwd=tmp_path)
    assert done.returncode == code
    assert done.stdout.endswith("exit function\n") == (code == 0 and words != ["--help"])  # TensorFlow was imported
    assert ("destroyed" in done.stderr) == (words == ["--help"])


def test_names_that_a_terminal_would_obey_are_told_without_that(tmp_path, run):
    code, _, told = run("info", tmp_path / "\x1b[2Jcleared")
    assert code == 1
    assert "\x1b" not in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "what"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "ended by SIGTERM"), (signal.SIGHUP, "ended by SIGHUP")],
)
def test_an_interrupt_keeps_what_was_trained(number, what, folder, tmp_path):
    words = ["train", folder, "--save-path", "m", "--side", "16", "--size", "8", "--n-out", "4", "--epochs", "100000"]
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=tmp_path, env=QUIETER, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    for line in process.stdout:
        if "epoch 3/" in line:
            break
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    way_out = "The best weights so far are saved in m. Use --continue to train them further."
    assert told == f"stacked-autoencoder: {what}. {way_out}\n"
    assert Autoencoder.load(tmp_path / "m").levels[0].started


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated), (signal.SIGHUP, Terminated)],
)
def test_a_signal_during_the_import_of_tensorflow_waits_until_it_is_over(number, raised, request):
    # A shell that starts tests in the background has them ignore Ctrl-C.
    request.addfinalizer(partial(signal.signal, number, signal.getsignal(number)))
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    before, steps = signal.getsignal(number), []
    with pytest.raises(raised), _terminated_as_interrupted():  # noqa: PT012  the order of the steps is what is tested
        with deferred_signals():
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            steps.append("imported")
        steps.append("not reached")
    assert steps == ["imported"]
    assert signal.getsignal(number) == before


def test_a_stack_that_can_not_be_saved_where_it_was_asked_for_is_saved_elsewhere(folder, tmp_path, run, monkeypatch):
    save, home = Autoencoder.save, tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr("pathlib.Path.home", lambda: home)
    monkeypatch.setattr("pathlib.Path.cwd", lambda: tmp_path / "gone")

    def full(sae, path=None):
        if not str(path).startswith(str(home)):
            raise OSError("No space left on device")
        return save(sae, path)

    monkeypatch.setattr(Autoencoder, "save", full)
    words = ["--save-path", tmp_path / "m", "--side", "16", "--size", "8", "--n-out", "4", "--epochs", "1"]
    code, _, told = run("train", folder, *words)
    assert code == 1
    (path,) = home.glob("*/model")
    assert f"so it was saved to {path}. Move that folder where you want it." in told
    Autoencoder.load(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]


def test_values_in_a_stack_that_a_terminal_would_obey_are_shown_without_that(model, tmp_path, run):
    path = shutil.copytree(model, tmp_path / "copy")
    manifest = json.loads((path / "autoencoder.json").read_text())
    manifest["versions"] = {"\x1b[2J": "\x1b]0;title\x07", "numpy": "\x9b31m"}
    (path / "autoencoder.json").write_text(json.dumps(manifest))
    code, out, _ = run("info", path)
    assert code == 0
    assert not {"\x1b", "\x9b", "\x07"} & set(out)


def test_pictures_of_too_many_pixels_are_told_and_the_limit_can_be_set(model, folder, tmp_path, run):
    code, _, told = run("encode", model, folder, tmp_path / "store", "--max-pixels", "255")
    assert code == 1
    assert "16 x 16 pixels" in told
    assert "pixels are more than `--max-pixels 255`" in told
    assert run("encode", model, folder, tmp_path / "store", "--max-pixels", "256")[0] == 0


def test_missing_pixels_are_ignored_only_if_that_is_asked_for(tmp_path, run):
    (tmp_path / "pictures").mkdir()
    for index, picture in enumerate(blobs(12)):
        picture[index, 3] = np.nan
        np.save(tmp_path / "pictures" / f"{index:02d}.npy", picture)
    words = ["--save-path", tmp_path / "m", "--side", "16", "--size", "4", "--n-out", "4", "--epochs", "1"]
    words = ["train", tmp_path / "pictures", *words, "--value-range", "-1", "1"]
    code, _, message = run(*words)
    assert code == 1
    assert "`--missing ignore`" in message
    assert run(*words, "--missing", "ignore")[0] == 0
    sae = Autoencoder.load(tmp_path / "m")
    assert sae.missing == "ignore"
    assert np.isfinite(sae.encode(tmp_path / "pictures")).all()


@pytest.mark.slow
def test_closed_streams_are_no_error(model):
    done = subprocess.run(f"{sys.executable} -m stacked_autoencoder info {model} <&- >&- 2>&-", shell=True)
    assert done.returncode == 0


@pytest.mark.slow
def test_as_a_process_it_prints_what_was_asked_for_alone(folder, model):
    own = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}  # it sets that itself
    command = [*COMMAND, "evaluate", model, folder, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=own)
    assert json.loads(done.stdout)["pictures"] == 24
    assert done.stderr == ""
    head = subprocess.run(
        f"{sys.executable} -m stacked_autoencoder info {model} | true", shell=True, capture_output=True
    )
    assert b"Traceback" not in head.stderr


def test_info_shows_stores_with_their_classes_whole_and_in_parts(folder, model, tmp_path, run):
    for index, name in enumerate(("cats", "dogs\x1b[31m")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "a.png").symlink_to(folder / f"{index:02d}.png")
    assert run("encode", model, tmp_path / "pets", tmp_path / "whole", "--labels")[0] == 0
    for part in ("0/2", "1/2"):
        assert run("encode", model, folder, tmp_path / "parts", "--shard", part, "--dtype", "float32")[0] == 0
    code, out, _ = run("info", tmp_path / "whole")
    assert code == 0
    assert "2 encodings 4x4x4 of level 1, float16" in out
    assert "2 classes: cats, dogs\\x1b[31m" in out
    told = json.loads(run("info", tmp_path / "whole", "--json")[1])
    assert (told["shape"], told["class_names"]) == ([2, 4, 4, 4], ["cats", "dogs\x1b[31m"])
    code, out, _ = run("info", tmp_path / "parts")
    assert (code, "24 encodings" in out, "classes" in out) == (0, True, False)


def test_pictures_are_resized_to_what_a_stack_takes_that_is_not_square(folder, tmp_path, run):
    Autoencoder(shape=(8, 12, 3), size=4, n_out=4).save(tmp_path / "wide")
    code, out, _ = run("evaluate", tmp_path / "wide", folder, "--json")
    assert code == 0
    assert json.loads(out)["pictures"] == 24


# === Sizes, splits, silence ===


@pytest.fixture
def run_with_warnings(run):
    """Runs a command as a user does: warnings are printed, not errors."""

    def run_it(*words):
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            return run(*words)

    return run_it


SMALL = ("--size", 4, "--n-out", 4, "--n-scalings", 1, "--n-levels", 2, "--epochs", 0)


def test_padding_is_announced_in_one_line(folder, tmp_path, run_with_warnings):
    code, _, told = run_with_warnings("train", folder, "--save-path", tmp_path / "m", "--side", 10, *SMALL)
    assert code == 0
    assert told.startswith(
        "stacked-autoencoder: warning: --side 10: this stack pads pictures of 10x10 pixels to 12x12,"
    )
    assert told.count("\n") == 1


def test_a_learning_rate_is_used_and_a_fifth_of_it_to_fine_tune(folder, tmp_path, run, monkeypatch):
    rates = {}
    for name in ("train", "fine_tune"):
        method = getattr(Autoencoder, name)

        def spied(*args, method=method, name=name, **options):
            rates[name] = options["learning_rate"]
            return method(*args, **options)

        monkeypatch.setattr(Autoencoder, name, spied)
    words = ("--side", 16, "--size", 4, "--epochs", 1, "--fine-tune", 1, "--learning-rate", 0.005, "--quiet")
    assert run("train", folder, "--save-path", tmp_path / "m", *words)[0] == 0
    assert rates == {"train": 0.005, "fine_tune": pytest.approx(0.001)}


def test_a_split_trains_and_validates_on_other_pictures(folder, tmp_path, run):
    words = ("train", folder, "--side", 16, *SMALL, "--valid-split", 0.25)
    code, out, _ = run(*words, "--save-path", tmp_path / "m")
    assert code == 0
    assert "on 18 images, with 6 validation examples." in out
    assert "loss / PCA loss" in out


def test_a_split_needs_two_pictures(tmp_path, run):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "photos" / "1.png")
    code, _, told = run("train", tmp_path / "photos", "--save-path", tmp_path / "m", "--valid-split", 0.5, *SMALL)
    assert code == 1
    assert "`--valid-split` needs at least two pictures" in told
    assert run("train", tmp_path / "photos", "--save-path", tmp_path / "m", *SMALL)[0] == 0


def test_quiet_commands_print_nothing(folder, tmp_path, run):
    model = tmp_path / "m"
    for words in (
        ("train", folder, "--save-path", model, "--side", 16, *SMALL, "--valid-split", 0.2),
        ("encode", model, folder, tmp_path / "store"),
        ("decode", model, tmp_path / "store", tmp_path / "decoded"),
        ("reconstruct", model, folder, tmp_path / "restored"),
    ):
        assert run(*words, "--quiet") == (0, "", ""), words[0]
    assert len(list((tmp_path / "restored").rglob("*.png"))) == 25


# === Pictures that can't be read ===


@pytest.fixture
def damaged(folder, tmp_path):
    """24 pictures, one of which can't be read."""
    path = shutil.copytree(folder, tmp_path / "damaged")
    (path / "05.png").write_bytes(b"no picture")
    return path


def test_skipped_pictures_are_not_counted_as_evaluated(damaged, model, run_with_warnings):
    code, out, told = run_with_warnings("evaluate", model, damaged, "--json")
    assert code == 0
    result = json.loads(out)
    assert (result["pictures"], result["skipped"]) == (23, 1)
    assert "05.png" in told
    assert "23 pictures in" in run_with_warnings("evaluate", model, damaged)[1]


def test_progress_ends_at_what_was_there_and_a_finished_store_says_so(damaged, model, tmp_path, run_with_warnings):
    words = ("encode", model, damaged, tmp_path / "store")
    assert "] 23/23 images, " in run_with_warnings(*words)[1]
    out = run_with_warnings(*words)[1]
    assert "] 23/23 images, already finished\n" in out
    assert "images/s" not in out
    assert "] 23/23 images, " in run_with_warnings("reconstruct", model, damaged, tmp_path / "out")[1]


@pytest.mark.slow
def test_a_warning_starts_a_line_of_its_own_on_a_terminal(damaged, model, tmp_path):
    command = shlex.join([sys.executable, "-m", "stacked_autoencoder", *map(str, ("encode", model, damaged, "store"))])
    done = subprocess.run(
        ["script", "-qec", command, os.devnull], cwd=tmp_path, env=QUIETER, capture_output=True, text=True, check=True
    )
    lines = [line.split("\r")[-1] for line in done.stdout.replace("\r\n", "\n").splitlines()]
    (line,) = (line for line in lines if "warning: " in line)
    assert line.startswith("stacked-autoencoder: warning: Skipped, since they can't be read")


# === Messages of the library ===


def test_errors_of_the_library_name_options_of_the_command(folder, model, tmp_path, run):
    (tmp_path / "taken").touch()
    (tmp_path / "store").mkdir()
    with only_writer(tmp_path / "store"):
        told = run("encode", model, folder, tmp_path / "store")[2]
    assert "give each process its share of the images with `--shard I/N`. Received:" in told
    told = run("encode", model, folder, tmp_path / "labelled", "--labels")[2]
    assert "`--labels` uses the folders directly below" in told
    assert "omit `--labels`" in told
    told = run("train", folder, "--save-path", tmp_path / "taken" / "m", *SMALL)[2]
    assert "`--save-path` can't be written" in told
    assert "Received: --save-path '" in told
    words = ("train", folder, "--save-path", tmp_path / "m", "--side", 16, *SMALL, "--checkpoint-dir", tmp_path / "c")
    assert run(*words)[0] == 0
    told = run(*words, "--overwrite", "--batch-size", 8)[2]
    assert told.startswith(
        "stacked-autoencoder: error: `--checkpoint-dir` contains checkpoints of a call with other arguments: "
        "`--batch-size`"
    )


def test_black_pictures_can_be_evaluated(tmp_path, run):
    (tmp_path / "black").mkdir()
    for index in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / "black" / f"{index}.png")
    words = ("train", tmp_path / "black", "--valid", tmp_path / "black", "--save-path", tmp_path / "m", "--side", 8)
    code, out, told = run(*words, *SMALL)
    assert (code, told) == (0, "")
    assert "of at least 11x11 pixels." in out
