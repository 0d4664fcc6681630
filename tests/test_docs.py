"""Every page below `docs/` and the README: their Python runs as it stands, and links and names lead somewhere.

Each page is run on its own: in an empty folder, from the first snippet to the last, with no names but its own. What
would take minutes is made smaller by `SMALLER`. A block marked as `python` runs here; one marked as `py` needs what a
machine may lack (another library, several machines) and has a test of its own.
"""

import ast
import json
import re
import shlex
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import stacked_autoencoder
from stacked_autoencoder import Autoencoder
from stacked_autoencoder.cli.arguments import parser

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


def snippets(page, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], flags=re.DOTALL | re.MULTILINE)


RUNNABLE = [page for page in PAGES if snippets(page) and not page.startswith("tutorials/")]  # see test_tutorials.py


def run_page(page):
    """Runs a page's snippets in the current folder; returns the names that they define."""
    names = {}
    smaller = dict(SMALLER.get(page, {}))
    for number, snippet in enumerate(snippets(page), start=1):
        for old in [old for old in smaller if old in snippet]:
            snippet = snippet.replace(old, smaller.pop(old))
        exec(compile(snippet, f"{page}, snippet {number}", "exec"), names)
        for name, shape in re.findall(r"^(\w+) = .*# \((\d[\d, ]*)\)", snippet, flags=re.MULTILINE):
            assert names[name].shape == tuple(int(side) for side in shape.split(",") if side.strip()), name
    assert not smaller, f"{page} doesn't say {[*smaller]} any more"
    return names


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The working directory; Fashion-MNIST is where Keras looks for it, so that nothing is downloaded."""
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
