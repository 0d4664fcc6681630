"""Tests of all pages below `docs/` and of the README: code runs, links lead somewhere, the reference is complete.

Each page is run on its own: in an empty folder, from the first block to the last, in a new namespace. `SMALLER`
replaces settings that would take minutes. Blocks marked as `python` run here. Blocks marked as `py` need another
library or several machines, and each has a test of its own.
"""

import ast
import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import stacked_autoencoder
from stacked_autoencoder import Autoencoder
from stacked_autoencoder.cli.arguments import parser
from stacked_autoencoder.cli.main import main
from tests import cli_reference

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = {
    file.name if file.name == "README.md" else str(file.relative_to(ROOT / "docs")): file.read_text(encoding="utf-8")
    for file in FILES
}
FASHION = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist

# What a page's snippets say, and what the tests put in its place, so that they take seconds. Each must be there.
FEWER_CLOTHES = (
    "test[0][..., None], test[1]\n"
    "images, labels, test_images, test_labels = (each[:2000] for each in (images, labels, test_images, test_labels))\n"
)
SMALLER: dict[str, dict[str, str]] = {
    "how-to/choose-sizes.md": {"count=1000, side=64)  # (1000, 64, 64, 3)": "64, 64)", "epochs=1": "epochs=0"},
    "how-to/train.md": {"epochs=2": "epochs=0", "epochs=[1, 2]": "epochs=1"},
    "tutorials/denoising.md": {
        "images[:20_000]  # (20000, 28, 28, 1)": "images[:64]  # (64, 28, 28, 1)",
        "images[-2_000:]  # (2000, 28, 28, 1)": "images[-64:]  # (64, 28, 28, 1)",
        "test_images[:2_000]  # (2000, 28, 28, 1)": "test_images[:64]  # (64, 28, 28, 1)",
        "reconstruct(noisy_test)  # (2000, 28, 28, 1)": "reconstruct(noisy_test)  # (64, 28, 28, 1)",
    },
    "tutorials/textbook-autoencoders.md": {
        "images[:55_000]  # (55000, 28, 28, 1)": "images[:320]  # (320, 28, 28, 1)",
        "images[55_000:]  # (5000, 28, 28, 1)": "images[-64:]  # (64, 28, 28, 1)",
        '"epochs": 6': '"epochs": 1',
        "encode(valid)  # (5000, 30)": "encode(valid)  # (64, 30)",
        "epochs=10, batch_size=128": "epochs=1, batch_size=128",
        "generate_series(9_000, 51)": "generate_series(400, 51)",
        "series[:, :-1]  # (9000, 50, 1)": "series[:, :-1]  # (400, 50, 1)",
        "series[:, -1]  # (9000, 1)": "series[:, -1]  # (400, 1)",
        "past[:7_000], past[7_000:]": "past[:300], past[300:]",
        "following[7_000:]": "following[300:]",
        "epochs=20, batch_size=32": "epochs=1, batch_size=32",
    },
    "tutorials/classifier.md": {
        "test[0][..., None], test[1]\n": FEWER_CLOTHES,
        "epochs=2, ": "epochs=1, ",
        "epochs=8)": "epochs=1)",
        "epochs=3)": "epochs=1)",
        "epochs=2)": "epochs=1)",
    },
    "tutorials/compress-photographs.md": {
        "count=4000": "count=64",
        "epochs=[5, 10]": "epochs=1",
        "size=48": "size=8",
    },
    "tutorials/generative-model.md": {
        "test[0][..., None], test[1]\n": FEWER_CLOTHES,
        "epochs=2, ": "epochs=1, ",
        "epochs=6": "epochs=1",
        "n_classes=10)": "n_classes=10, width=8, depth=1)",
        "labels=asked": "labels=asked, steps=2",
        "flow.generator\n": "flow.unrolled(steps=2)\n",
    },
}

# What must hold for the names of a page after its snippets have run.
AFTERWARDS: dict[str, list[str]] = {
    "how-to/images.md": [
        "restored.shape == counts.shape and restored.max() > 1000",
        "table.labels.tolist() == ['dog', 'cat']",
        "test.labels.tolist() == [1]",
        "sae.encode(padded).shape == (8, 4, 6, 4)",
        "np.isclose(loss, sae.evaluate(noisy, targets=images))",
    ],
    "how-to/many-machines.md": ["len(store) == 8"],
    "how-to/store-encodings.md": ["ages.tolist() == [*range(64)]"],
    "how-to/tables-and-sequences.md": ["np.isfinite(complete).all() and not np.isfinite(rows.to_numpy()).all()"],
    "how-to/troubleshooting.md": ["folder.skipped == {}"],
}


def blocks(markdown, language="python"):
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", markdown, flags=re.DOTALL | re.MULTILINE)


def snippets(page, language="python"):
    return blocks(PAGES[page], language)


RUNNABLE = [page for page in PAGES if snippets(page) and not page.startswith("tutorials/")]  # see test_tutorials.py


def smaller(page):
    """The text of a page with the replacements of `SMALLER`."""
    markdown = PAGES[page]
    for old, new in SMALLER.get(page, {}).items():
        assert old in markdown, f"{page} no longer contains {old!r}"
        markdown = markdown.replace(old, new)
    return markdown


def stated_shapes(block):
    """Names and shapes in comments of a block, such as `z = sae.encode(images)  # (64, 4, 4, 32)`."""
    comments = re.findall(r"^(\w+) = .*# \((\d[\d, ]*)\)", block, flags=re.MULTILINE)
    return [(name, tuple(int(side) for side in shape.split(",") if side.strip())) for name, shape in comments]


def run_page(page):
    """Runs the Python blocks of a page in the current folder; returns the names that they define."""
    names = {}
    for number, block in enumerate(blocks(smaller(page)), start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
        for name, shape in stated_shapes(block):
            assert names[name].shape == shape, name
    return names


def needs_fashion_mnist(page):
    """Skips the test of a page that would have to download Fashion-MNIST."""
    if "fashion_mnist.load_data" in PAGES[page] and not FASHION.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The working directory. Fashion-MNIST is in the folder where Keras looks for it, so that nothing is downloaded."""
    monkeypatch.chdir(tmp_path)
    if FASHION.is_dir():
        home = tmp_path.parent / f"{tmp_path.name}-keras"
        (home / "datasets").mkdir(parents=True)
        (home / "datasets" / "fashion-mnist").symlink_to(FASHION)
        monkeypatch.setenv("KERAS_HOME", str(home))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE)
def test_a_page_runs_on_its_own(page, empty_folder):
    needs_fashion_mnist(page)
    names = run_page(page)
    for expected in AFTERWARDS.get(page, ()):
        assert eval(expected, names), expected


@pytest.mark.parametrize("page", PAGES)
def test_snippets_are_python_and_import_what_is_there(page):
    for snippet in (*snippets(page), *snippets(page, "py")):
        for node in ast.walk(ast.parse(snippet, page)):
            if isinstance(node, ast.ImportFrom) and node.module == "stacked_autoencoder":
                assert {each.name for each in node.names} <= {*stacked_autoencoder.__all__}


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    folder = ROOT if page == "README.md" else (ROOT / "docs" / page).parent
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGES[page]):
        assert (folder / target).exists(), target
    for path in re.findall(r"(?:examples|benchmarks|docs|tests)/[\w/-]+\.(?:py|md|png)", PAGES[page]):
        assert (ROOT / path).is_file(), path
    for name in re.findall(r"\b(test_\w+\.py)", PAGES[page]):
        assert [*(ROOT / "tests").rglob(name)], name


def test_the_commands_of_the_pages_are_commands():
    lines = [
        line
        for page in PAGES.values()
        for line in re.findall(r"^stacked-autoencoder (\w.*)$", page, flags=re.MULTILINE)
        if "[OPTIONS]" not in line  # a usage line of the reference, which has a test
    ]
    assert len(lines) > 10
    for line in lines:
        words = [word.replace("$SLURM_ARRAY_TASK_ID", "0") for word in shlex.split(line, comments=True)]
        assert parser().parse_args(words).command == words[0]


def test_the_page_of_the_command_has_the_options_of_the_parser():
    page = PAGES["reference/cli.md"]
    places = [place[1] for place in cli_reference.PLACE.findall(page)]
    assert places == [*cli_reference.subcommands()]
    assert cli_reference.with_options(page) == page, "run `python -m tests.cli_reference`"


# === API reference ===

MODULES = ("callbacks", "datasets", "heads", "metrics", "plots", "sklearn")
HEADINGS = re.compile(r'<h\d id="(stacked_autoencoder\.[\w.]+)" class="doc doc-heading"')

# Names without an underscore that other modules of the package use, but that are not part of the API. A new public
# method must be added to a page in docs/reference/ or to this set.
INTERNAL = {
    "Adversarial": {"average", "draws", "report", "values_of"},
    "BEGAN": {"errors"},
    "ConvLevel": {"patch", "widths"},
    "Corruption": {"corrupted", "random_values"},
    "EncodingStore": {"batch", "index_batches"},
    "Head": {"check_labels", "check_shape", "default_optimizer", "in_units", "standardised", "start", "takes_labels"}
    | {"track", "with_units"},
    "ImageFolder": {"as_call"},
    "LatentHead": {"restored"},
    "SequenceLevel": {"following", "parts", "values"},
    "Level": {
        "decoders",
        "filled",
        "get_state",
        "get_training_weights",
        "get_weights",
        "input_layers",
        "is_image",
        "is_judged_by_image",
        "is_there",
    }
    | {
        "measure",
        "measure_fill_values",
        "models",
        "network",
        "rebuild",
        "reconstruction_layers",
        "reconstruction_unit",
        "set_state",
        "set_training_weights",
        "set_weights",
        "sizes",
    }
    | {"statistics"},
}


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """Paths of all names with a heading of their own in the built site, such as `stacked_autoencoder.Level.build`."""
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package)
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--no-strict", "--site-dir", str(site)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    pages = [file.read_text(encoding="utf-8") for file in (site / "reference").rglob("*.html")]
    return [name for page in pages for name in HEADINGS.findall(page)]


def public_names():
    """Path in the API → the class or function, for all that users import."""
    names = {name: getattr(stacked_autoencoder, name) for name in stacked_autoencoder.__all__ if name not in MODULES}
    for name in MODULES:
        module = importlib.import_module(f"stacked_autoencoder.{name}")
        for each in getattr(module, "__all__", vars(module)):
            thing = getattr(module, each)
            is_own = getattr(thing, "__module__", "").startswith(module.__name__)
            if not each.startswith("_") and is_own and (inspect.isclass(thing) or inspect.isroutine(thing)):
                names[f"{name}.{each}"] = thing
    return {f"stacked_autoencoder.{name}": thing for name, thing in names.items()}


def public_members(cls):
    """Public methods and properties that this package defines for a class, without those that Keras documents."""
    members = {}
    for each in reversed(cls.__mro__):
        if not each.__module__.startswith("stacked_autoencoder"):
            continue
        for name, value in vars(each).items():
            kinds = (property, cached_property, classmethod, staticmethod)
            is_internal = any(name in INTERNAL.get(base.__name__, ()) for base in cls.__mro__)
            if not name.startswith("_") and not is_internal and (inspect.isfunction(value) or isinstance(value, kinds)):
                members[name] = each
    keras_has = [base for base in cls.__mro__ if base.__module__.startswith("keras")]
    return {name for name in members if name == "fit" or not any(hasattr(base, name) for base in keras_has)}


def canonical(path):
    """The path without the module that has the same name as its function, such as `heads.classifier.classifier`."""
    return re.sub(r"\.(\w+)\.\1$", r".\1", path)


def listed_attributes(cls):
    """Names in the section `Attributes` of a docstring, which the page shows without headings."""
    return set(re.findall(r"^ {4}(\w+): ", inspect.getdoc(cls).partition("Attributes:")[2], flags=re.MULTILINE))


@pytest.mark.slow
def test_the_reference_has_all_public_names_and_no_others(documented):
    headings = {canonical(path) for path in documented}
    assert len(headings) == len(documented), "a name has two headings"
    names = public_names()
    members = {path: public_members(thing) for path, thing in names.items() if inspect.isclass(thing)}
    missing = [path for path in names if path not in headings]
    for path, of_class in members.items():
        # What a base class has is enough, if that is in the reference itself.
        shown = [each for each in members if issubclass(names[path], names[each])]
        known = {name for each in shown for name in listed_attributes(names[each])}
        known |= {name for name in of_class if any(f"{each}.{name}" in headings for each in shown)}
        missing += [f"{path}.{name}" for name in sorted(of_class - known)]
    assert not missing

    expected = {*names, *(f"{path}.{name}" for path, of_class in members.items() for name in of_class)}
    assert not [path for path in headings - expected if not path.endswith("__")]


@pytest.mark.slow
@pytest.mark.parametrize("head", ["BEGAN", "Flow", "VAE", "WGAN"])
def test_generative_heads_show_what_they_inherit(documented, head):
    assert {f"stacked_autoencoder.heads.{head}.{name}" for name in ("fit", "generate", "generator")} <= {*documented}


def test_the_overview_names_everything_but_the_functions_of_datasets():
    names = {path.rpartition(".")[2] for path in public_names() if ".datasets." not in path}
    assert not [name for name in names if f"`{name}`" not in PAGES["reference/api.md"]]


def test_workers_find_each_other_under_slurm_and_on_kubernetes(monkeypatch):
    slurm, kubernetes = (
        next(each for each in snippets("how-to/many-machines.md", "py") if word in each)
        for word in ("Slurm", "JOB_COMPLETION")
    )
    for name, value in (("NUM_TASKS", "2"), ("NODELIST", "node[1-2]"), ("TASKS_PER_NODE", "1(x2)")):
        monkeypatch.setenv(f"SLURM_STEP_{name}", value)
    monkeypatch.setenv("SLURM_PROCID", "1")
    names = {}
    exec(slurm.partition("strategy =")[0], names)
    assert names["resolver"].cluster_spec().as_dict() == {"worker": ["node1:12345", "node2:12345"]}
    assert (names["resolver"].task_type, names["resolver"].task_id) == ("worker", 1)

    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    monkeypatch.setenv("TF_CONFIG", "")
    exec(kubernetes, {})
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    assert len(resolver.cluster_spec().as_dict()["worker"]) == 4
    assert (resolver.task_type, resolver.task_id) == ("worker", 3)
    for snippet in snippets("how-to/many-machines.md", "bash"):
        for config in re.findall(r"TF_CONFIG='(.*?)'", snippet, flags=re.DOTALL):
            assert json.loads(config).keys() == {"cluster", "task"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # WebDataset leaves closing its files to Python
@pytest.mark.parametrize(
    ("library", "count"), [("h5py", 8), ("zarr", 8), ("datasets", 2), ("torch", 8), ("grain", 8), ("webdataset", 8)]
)
def test_data_of_other_libraries(library, count, empty_folder):
    pytest.importorskip(library)
    (snippet,) = (
        each
        for each in snippets("how-to/images.md", "py")
        if f"import {library}\n" in each or f"from {library}" in each
    )
    names = {}
    exec(snippets("how-to/images.md")[0], names)
    exec(snippet, names)
    assert len(names["store"]) == count
    assert library == "zarr" or names["store"].labels.tolist() == [*range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("library", ["ai_edge_litert", "onnxruntime"])
def test_exported_files_run_as_the_page_shows(library, empty_folder):
    pytest.importorskip(library)
    names = {}
    for snippet in snippets("how-to/export.md"):
        exec(snippet, names)
    if library == "onnxruntime":
        pytest.importorskip("tf2onnx")
    for snippet in snippets("how-to/export.md", "py"):
        if ("onnx" in snippet) == (library == "onnxruntime"):
            exec(snippet, names)
    np.testing.assert_allclose(names["encodings"], names["sae"].encode(names["images"]), atol=1e-4)


@pytest.mark.slow
def test_the_commands_run_in_the_order_of_their_page(empty_folder):
    names = {}
    for language, block in re.findall(
        r"^```(python|py|bash)\n(.*?)^```", PAGES["how-to/command.md"], flags=re.DOTALL | re.MULTILINE
    ):
        if language != "bash":
            exec(block, names)
            if "save_photographs" in block:  # large ones would take most of the time
                for file in Path("photos").iterdir():
                    Image.open(file).resize((72, 64)).save(file)
            continue
        for line in block.splitlines():
            words = shlex.split(line)[1:]
            if words[0] == "train":
                if "faces" not in words and "deep" not in words:
                    continue  # nothing else on the page needs this stack
                words += ["--epochs", "0"] if "--continue" in words else ["--epochs", "0", "--size", "4"]
            assert main(words) == 0, line
    for file in ("decoded/coffee.png", "restored/sheet.png", "phone/encoder.tflite", "drawn/sheet.png"):
        assert Path(file).is_file(), file


def errors_of(calls):
    """The messages of the errors that calls raise, with the names of their classes."""
    for number, call in enumerate(calls):
        try:
            call()
        except Exception as error:
            yield f"{type(error).__name__}: {error}"
        else:
            pytest.fail(f"call {number} raised no error")


@pytest.mark.slow
def test_the_messages_that_troubleshooting_quotes_are_raised(empty_folder):
    quoted = re.findall(r"^> (.+)$", PAGES["how-to/troubleshooting.md"], flags=re.MULTILINE)
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    sae.train(images, epochs=0)
    sae.encode_to("store", images, verbose=0)
    sae.train(images, epochs=1, checkpoint_dir="checkpoints", verbose=0)
    other = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    sae.save("model")
    Path("model/encoder0/config.json").write_text("{}", encoding="utf-8")
    Path("photos").mkdir()
    Path("photos/1.png").write_text("no picture", encoding="utf-8")
    floats = images.astype(np.float32)
    objects = np.empty(2, object)
    objects[:] = [images[0], images[1, :8]]
    endless = tf.data.Dataset.from_tensor_slices(images).repeat()
    calls = [
        lambda: sae.encode(floats),
        lambda: sae.encode(images.astype(np.uint16)),
        lambda: sae.encode(images[0]),
        lambda: Autoencoder(size=4).encode(images.transpose(0, 3, 1, 2)),
        lambda: sae.encode(objects),
        lambda: sae.encode(floats * np.nan),
        lambda: sae.encode("photos"),
        lambda: sae.train(endless),
        lambda: sae.encode(iter(images)),
        lambda: Autoencoder(shape=(16, 16, 3), n_levels=3),
        lambda: Autoencoder(size=(16, 16)),
        lambda: sae.train(images, optimizer="sgd", callbacks=BreakLoss()),
        lambda: sae.train(images, callbacks=keras.callbacks.ReduceLROnPlateau()),
        lambda: sae.train(images, epochs=2, checkpoint_dir="checkpoints"),
        lambda: other.encode_to("store", images),
        lambda: sae.encode_to("photos", images),
        lambda: Autoencoder.load("model"),
    ]
    # What TensorFlow prints, what needs another process, and what needs a machine without a package.
    elsewhere = ["Could not find cuda drivers", "oneDNN custom operations are on", "before this process was forked"]
    raised = [*errors_of(calls), *elsewhere, "ImportError"]
    assert [fragment for fragment in quoted if not any(fragment in message for message in raised)] == []
    assert len(quoted) == len(raised)


class BreakLoss(keras.callbacks.Callback):
    """Makes the next loss NaN."""

    def on_train_batch_begin(self, batch, logs=None):
        self.model.set_weights([np.full_like(weight, np.nan) for weight in self.model.get_weights()])
