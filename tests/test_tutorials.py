"""Every page below `docs/tutorials/` runs as the notebook that the site offers, in a new kernel and an empty folder.

`SMALLER` of `test_docs.py` replaces what would take minutes.
"""

import importlib.util
import re

import pytest

from tests.test_docs import (
    PAGES,
    ROOT,
    empty_folder,  # noqa: F401
    needs_fashion_mnist,
    smaller,
    snippets,
    stated_shapes,
)

TUTORIALS = [page for page in PAGES if page.startswith("tutorials/")]


@pytest.fixture(scope="module")
def notebooks():
    """The module `docs/hooks/notebooks.py`, which also converts the pages when the site is built."""
    pytest.importorskip("jupytext")
    pytest.importorskip("nbclient")
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "hooks" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_checked_shapes(markdown):
    """A page in which each block is followed by one that checks the shapes in its comments."""

    def followed_by_check(match):
        checks = "\n".join(f"assert {name}.shape == {shape}, {name}.shape" for name, shape in stated_shapes(match[0]))
        return f"{match[0]}\n```python\n{checks}\n```\n" if checks else match[0]

    return re.sub(r"^```python\n.*?^```\n", followed_by_check, markdown, flags=re.DOTALL | re.MULTILINE)


def without_optimised_graphs(markdown):
    """A page whose first block switches off TensorFlow's optimisation of graphs, as `conftest.py` does."""
    setting = 'tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})'
    return markdown.replace("```python\n", f"```python\nimport tensorflow\n\n{setting}\n```\n\n```python\n", 1)


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS)
def test_a_tutorial_runs_as_a_notebook(page, notebooks, empty_folder, monkeypatch):  # noqa: F811
    needs_fashion_mnist(page)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")  # the kernel is one more process
    notebook = notebooks.to_notebook(without_optimised_graphs(with_checked_shapes(smaller(page))))
    notebooks.execute(notebook, empty_folder)
    assert len(notebooks.pictures(notebook)) == len(notebooks.IMAGE.findall(PAGES[page]))


@pytest.mark.parametrize("page", TUTORIALS)
def test_notebooks_have_the_code_of_their_page_and_no_relative_links(page, notebooks):
    notebook = notebooks.to_notebook(PAGES[page])
    assert notebook == notebooks.to_notebook(PAGES[page])  # each build of the site writes the same file
    codes = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert codes == [snippet.strip() for snippet in snippets(page)]  # and no others, such as `pip install`
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert texts[0].startswith("# ")
    for text in texts:
        assert "![" not in text
        assert re.findall(r"\]\((?!https?://)", text) == []
