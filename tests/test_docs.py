"""The Python of every page below `docs/` is Python, names what is there, and what can run here runs."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import stacked_autoencoder
from stacked_autoencoder import Autoencoder

ROOT = Path(__file__).parent.parent
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}


def snippets(page, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_snippets_are_python_and_import_what_is_there(page):
    for snippet in snippets(page):
        for node in ast.walk(ast.parse(snippet, page)):
            if isinstance(node, ast.ImportFrom) and node.module == "stacked_autoencoder":
                assert {each.name for each in node.names} <= {*stacked_autoencoder.__all__}


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGES[page]):
        assert (ROOT / "docs" / target).exists(), target
    for path in re.findall(r"(?:examples|benchmarks|docs|tests)/[\w/-]+\.(?:py|md|png)", PAGES[page]):
        assert (ROOT / path).is_file(), path
    for name in re.findall(r"\b(test_\w+\.py)", PAGES[page]):
        assert [*(ROOT / "tests").rglob(name)], name


def test_workers_find_each_other_under_slurm_and_on_kubernetes(monkeypatch):
    slurm, kubernetes = (
        next(each for each in snippets("many-machines.md") if word in each) for word in ("Slurm", "JOB_COMPLETION")
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
    for snippet in snippets("many-machines.md", "bash"):
        for config in re.findall(r"TF_CONFIG='(.*)'", snippet):
            assert json.loads(config).keys() == {"cluster", "task"}


@pytest.mark.parametrize(
    ("page", "word", "name"), [("encode.md", "labelled =", "ages"), ("train.md", "pairs =", "loss")]
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
    (snippet,) = (each for each in snippets("many-machines.md") if "for part in" in each)
    names = {}
    exec(snippet, names)
    np.testing.assert_allclose(names["store"][:], sae.encode(pixels), atol=1e-2)
