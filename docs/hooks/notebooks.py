"""Offers every page below docs/tutorials as a Jupyter notebook. MkDocs runs this file as a hook; the tests import it.

To run a tutorial with the settings that it prints, and to replace the figures that it shows:

    python docs/hooks/notebooks.py docs/tutorials/classifier.md
"""

import argparse
import base64
import re
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import jupytext
import nbformat

FOLDER = "tutorials/"  # below docs/
HOOKS = "hooks/"  # MkDocs would copy this file to the site
LARGEST_FIGURE = 150_000  # bytes
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
IMAGE = re.compile(r"^!\[.*?\]\((.*?)\)\n+", flags=re.DOTALL | re.MULTILINE)
OTHER_BLOCK = re.compile(r"^```((?!python\n)\w+\n.*?)^```", flags=re.DOTALL | re.MULTILINE)
RELATIVE_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://)[^)]+\)")


def to_notebook(markdown: str) -> nbformat.NotebookNode:
    """Converts a tutorial: each `python` block becomes a code cell, and everything else stays text.

    The images of the page are left out, because the code of the notebook draws them. Relative links become plain text.
    """
    # Jupytext would also make a cell of a `bash` block, which installs packages.
    notebook = jupytext.reads(OTHER_BLOCK.sub(r"~~~\1~~~", markdown), fmt="md")
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index}"  # otherwise random: every build of the site would differ
        if cell.cell_type == "markdown":
            cell.source = RELATIVE_LINK.sub(r"\1", IMAGE.sub("", f"{cell.source}\n")).strip()
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: Path, timeout: float = 1200) -> None:
    """Runs a notebook in a new kernel whose working directory is `folder`; the outputs are stored in the notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an exception.
    """
    from nbclient import NotebookClient  # the site is built without it

    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=timeout, kernel_name=KERNEL["name"], resources=resources).execute()


def pictures(notebook: nbformat.NotebookNode) -> list[bytes]:
    """Returns the PNG files that the cells of an executed notebook display, in order."""
    return [
        base64.b64decode(output.data["image/png"])
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


# === Events of MkDocs ===


def on_files(files: Any, config: Any) -> Any:
    """Adds `tutorials/NAME.ipynb` to the site for every page `tutorials/NAME.md`."""
    from mkdocs.structure.files import File

    for file in [*files]:
        if file.src_uri.startswith(HOOKS):
            files.remove(file)
        elif file.src_uri.startswith(FOLDER) and file.src_uri.endswith(".md"):
            content = nbformat.writes(to_notebook(file.content_string))
            files.append(File.generated(config, file.src_uri.removesuffix(".md") + ".ipynb", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Puts the link to the notebook below the title of a tutorial."""
    if not page.file.src_uri.startswith(FOLDER):
        return markdown
    link = f"[Download this tutorial as a Jupyter notebook]({Path(page.file.src_uri).stem}.ipynb)"
    return re.sub(r"^(# .*\n)", rf"\1\n{link}\n", markdown, count=1, flags=re.MULTILINE)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Makes browsers save a notebook instead of showing its source."""
    return html.replace('.ipynb">', '.ipynb" download>') if page.file.src_uri.startswith(FOLDER) else html


# === Figures ===


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="tutorial to run, a Markdown file")
    parser.add_argument("--notebook", type=Path, help="write the executed notebook to this file as well")
    arguments = parser.parse_args(argv)
    markdown = arguments.page.read_text(encoding="utf-8")
    notebook = to_notebook(markdown)
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, Path(folder))
    if arguments.notebook is not None:
        nbformat.write(notebook, arguments.notebook)
    for target, picture in zip(IMAGE.findall(markdown), pictures(notebook), strict=True):
        save_small(picture, arguments.page.parent / target)


def save_small(picture: bytes, path: Path) -> None:
    """Writes a PNG file with as many colours, 256 at most, as fit into `LARGEST_FIGURE` bytes."""
    from PIL import Image  # the site is built without it

    image = Image.open(BytesIO(picture)).convert("RGB")
    for colours in (256, 128, 64):
        image.quantize(colours).save(path, optimize=True)
        if path.stat().st_size <= LARGEST_FIGURE:
            break


if __name__ == "__main__":
    main()
