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
import tarfile
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import stacked_autoencoder
from stacked_autoencoder import Autoencoder
from stacked_autoencoder.cli.arguments import parser
from tests import cli_reference

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = {
    file.name if file.name == "README.md" else str(file.relative_to(ROOT / "docs")): file.read_text(encoding="utf-8")
    for file in FILES
}
FASHION = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist

# What a page's snippets say, and what the tests put in its place, so that they take seconds. Each must be there.
SMALLER: dict[str, dict[str, str]] = {}


def snippets(page, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], flags=re.DOTALL | re.MULTILINE)


RUNNABLE = [page for page in PAGES if snippets(page)]


def run_page(page):
    """Runs the Python blocks of a page in the current folder; returns the names that they define."""
    names = {}
    smaller = dict(SMALLER.get(page, {}))
    for number, snippet in enumerate(snippets(page), start=1):
        for old in [old for old in smaller if old in snippet]:
            snippet = snippet.replace(old, smaller.pop(old))
        exec(compile(snippet, f"{page}, snippet {number}", "exec"), names)
        for name, shape in re.findall(r"^(\w+) = .*# \((\d[\d, ]*)\)", snippet, flags=re.MULTILINE):
            assert names[name].shape == tuple(int(side) for side in shape.split(",") if side.strip()), name
    assert not smaller, f"{page} no longer contains {[*smaller]}"
    return names


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
    if "fashion_mnist.load_data" in PAGES[page] and not FASHION.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    run_page(page)


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
        line for page in PAGES.values() for line in re.findall(r"^stacked-autoencoder (.*)$", page, flags=re.MULTILINE)
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

MODULES = ("callbacks", "datasets", "heads", "metrics", "plots")
HEADINGS = re.compile(r'<h\d id="(stacked_autoencoder\.[\w.]+)" class="doc doc-heading"')

# Names without an underscore that other modules of the package use, but that are not part of the API. A new public
# method must be added to a page in docs/reference/ or to this set.
INTERNAL = {
    "Adversarial": {"average", "draws", "report", "values_of"},
    "BEGAN": {"errors"},
    "ConvLevel": {"patch", "widths"},
    "Corruption": {"corrupted", "drawn"},
    "EncodingStore": {"batch", "index_batches"},
    "Head": {"check_labels", "check_shape", "default_optimizer", "in_units", "standardised", "start", "takes_labels"}
    | {"track", "with_units"},
    "ImageFolder": {"as_call"},
    "LatentHead": {"restored"},
    "Level": {
        "filled",
        "get_state",
        "get_training_weights",
        "get_weights",
        "is_image",
        "is_judged_by_image",
        "is_there",
    }
    | {
        "measure",
        "measure_fill_values",
        "models",
        "rebuild",
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
        next(each for each in snippets("how-to/many-machines.md") if word in each)
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
        for config in re.findall(r"TF_CONFIG='(.*)'", snippet):
            assert json.loads(config).keys() == {"cluster", "task"}


@pytest.fixture
def files_of_other_libraries(tmp_path, monkeypatch):
    """What the snippets read: `images.h5`, `images.zarr`, `photos/` and `photos.tar`."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    with pytest.importorskip("h5py").File("images.h5", "w") as file:
        file["images"], file["labels"] = pixels, [0, 1]
    pytest.importorskip("zarr").create_array("images.zarr", data=pixels)
    Path("photos").mkdir()
    with tarfile.open("photos.tar", "w") as archive:
        for index, picture in enumerate(pixels):
            Image.fromarray(picture).save(f"photos/{index}.png")
            Path(f"photos/{index}.cls").write_text(str(index))
            archive.add(f"photos/{index}.png", f"{index}.png")
            archive.add(f"photos/{index}.cls", f"{index}.cls")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # WebDataset leaves closing its files to Python
@pytest.mark.parametrize(
    ("library", "count"), [("h5py", 2), ("zarr", 2), ("datasets", 2), ("torch", 64), ("grain", 64), ("webdataset", 2)]
)
def test_data_of_other_libraries(library, count, files_of_other_libraries):
    pytest.importorskip(library)
    (snippet,) = (
        each
        for each in snippets("how-to/images.md", "py")
        if f"import {library}\n" in each or f"from {library}" in each
    )
    names = {"sae": Autoencoder(shape=(64, 64, 3), size=4, n_out=4)}
    exec(snippet, names)
    assert len(names["store"]) == count
    assert library == "zarr" or names["store"].labels.tolist() == [*range(count)]


@pytest.mark.parametrize(
    ("page", "word", "name"),
    [("how-to/store-encodings.md", "labelled =", "ages"), ("how-to/images.md", "pairs =", "loss")],
)
def test_labels_and_targets_as_the_pages_show_them(page, word, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    sae.train(images, epochs=0, verbose=0)
    names = {"images": images, "sae": sae}
    (snippet,) = (each for each in snippets(page) if word in each)
    exec(snippet, names)
    expected = np.arange(8) if name == "ages" else sae.evaluate(names["noisy"], targets=images)
    np.testing.assert_allclose(names[name], expected, rtol=1e-6)


def test_images_of_twelve_bits(tmp_path):
    names = {"np": np, "Autoencoder": Autoencoder}
    (snippet,) = (each for each in snippets("how-to/images.md") if "value_range=(0, 4095)" in each)
    exec(snippet, names)
    assert names["restored"].shape == names["counts"].shape
    assert names["restored"].max() > 1000


@pytest.mark.slow
def test_a_corpus_is_encoded_in_parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
    for index, picture in enumerate(pixels):
        Image.fromarray(picture).save(f"photos/{index}.png")
    sae = Autoencoder(size=4, n_out=4)
    sae.train(pixels, epochs=0, verbose=0)
    sae.save("faces")
    (snippet,) = (each for each in snippets("how-to/many-machines.md") if "for part in" in each)
    names = {}
    exec(snippet, names)
    np.testing.assert_allclose(names["store"][:], sae.encode(pixels), atol=1e-2)


@pytest.mark.slow
def test_folders_files_and_tables_of_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        file = Path("photos", ("cats", "dogs")[number % 2], f"{number}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 16), (number, 0, 0)).save(file)
    Path("test/dogs").mkdir(parents=True)
    Image.new("RGB", (24, 16)).save("test/dogs/8.png")
    Path("photos/table.csv").write_text("file,kind,age\ndogs/1.png,dog,3\ncats/0.png,cat,4\n", encoding="utf-8")
    names = {}
    for snippet in snippets("how-to/images.md"):
        if "photos" in snippet:
            exec(snippet, names)
    assert names["table"].labels.tolist() == ["dog", "cat"]
    assert names["test"].labels.tolist() == [1]
    assert names["sae"].encode(names["padded"]).shape == (8, 4, 6, 4)
