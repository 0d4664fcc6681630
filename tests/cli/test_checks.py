"""Checks of arguments before TensorFlow is imported."""

import json
import shutil
import sys
from pathlib import Path

import keras
import pytest
from PIL import Image

from stacked_autoencoder import Autoencoder
from stacked_autoencoder.cli.arguments import parser
from stacked_autoencoder.cli.checks import check
from stacked_autoencoder.cli.main import main
from tests.conftest import blobs


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder with a stack of two levels, pictures, and files where folders are expected."""
    path = tmp_path_factory.mktemp("there")
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_scalings=1, n_levels=2)
    sae.train(blobs(4), epochs=0, verbose=0)
    sae.save(path / "model")
    (path / "photos").mkdir()
    Image.new("RGB", (16, 16)).save(path / "photos" / "1.png")
    (path / "file").touch()
    return path


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("train nothing --save-path m", 1, "Folder of pictures 'nothing' does not exist."),
        ("train file --save-path m", 1, "Folder of pictures 'file' is a file. Name a folder."),
        ("train photos --save-path m --valid nothing", 1, "--valid: folder of pictures 'nothing' does not exist."),
        ("train photos --save-path model", 1, "--save-path 'model' already contains a stack. Use --continue to train"),
        ("train photos --save-path m --continue", 1, "--continue: no saved stack in --save-path 'm'. To train a new"),
        ("train photos --save-path photos --continue", 1, "--continue: no saved stack in --save-path 'photos'."),
        ("train photos --save-path model --continue --n-out 3", 2, "argument --continue: not allowed with --n-out,"),
        ("train photos --save-path model --continue --gray", 2, "argument --continue: not allowed with --grey,"),
        ("train photos --save-path m --latent-dim 3", 2, "argument --latent-dim: requires --side or --crop,"),
        ("train photos --save-path m --n-levels 2 --epochs 1,2,3", 2, "one for each level of the stack (2), received"),
        ("train photos --save-path model --continue --epochs 1,2,3", 2, "argument --epochs: expected one number, or"),
        ("train photos --save-path m --side 3", 2, "argument --side: expected at least 4, by which this stack divides"),
        ("train photos --save-path m --crop 15 --n-levels 2", 2, "expected at least 16, by which this stack"),
        ("train photos --save-path m --crop 3 --n-levels 2 --latent-dim 5", 2, "--crop: expected at least 4, by which"),
        ("info nothing", 1, "Folder of a saved stack 'nothing' does not exist."),
        ("info photos", 1, "'photos' contains no autoencoder.json, so `train` did not save it"),
        ("evaluate model nothing", 1, "Folder of pictures 'nothing' does not exist."),
        ("encode model photos store --level 2", 2, "argument --level: expected a level index from 0 to 1 (or -1 for"),
        ("encode model photos file", 1, "Store of encodings 'file' is a file. Name a folder."),
        ("decode model nothing out", 1, "Store of encodings 'nothing' does not exist."),
        ("reconstruct model photos photos", 1, "Output folder 'photos' is not empty, and existing files are never"),
        ("reconstruct model photos file", 1, "Output folder 'file' is a file. Choose a new folder."),
        ("generate model nothing.keras out", 1, "File of a saved head 'nothing.keras' does not exist."),
        ("demo --out photos", 1, "Output folder 'photos' is not empty"),
    ],
)
def test_mistakes_are_found_before_tensorflow_is_imported(words, code, told, there, monkeypatch, capsys):
    monkeypatch.chdir(there)
    monkeypatch.setitem(sys.modules, "stacked_autoencoder.cli.commands", None)  # can't be imported, and it imports it
    if code == 2:  # as argparse has it
        with pytest.raises(SystemExit, match="2"):
            main(words.split())
    else:
        assert main(words.split()) == code
    out, err = capsys.readouterr()
    assert told in err
    assert err.splitlines()[-1].startswith("stacked-autoencoder")
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize(
    "words",
    [
        "train photos --save-path m",  # without --continue, as its error says
        "train photos --save-path model --continue --epochs 1,2",
        "train photos --save-path model --overwrite",
        "train photos --save-path m --latent-dim 3 --crop 8",
        "train photos --save-path m --crop 16 --n-levels 2",
        "encode model photos store --level 1",
        "encode model photos store --level -2",
        "reconstruct model photos out",
    ],
)
def test_the_ways_out_that_errors_name_pass(words, there, monkeypatch):
    monkeypatch.chdir(there)
    check(parser().parse_args(words.split()))


def test_a_manifest_that_is_no_manifest_is_refused(there, tmp_path):
    path = shutil.copytree(there / "model", tmp_path / "copy")
    manifest = Path(path / "autoencoder.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"levels": []}))
    with pytest.raises(ValueError, match="`levels` must be a list of 1 to"):
        check(parser().parse_args(["info", str(path)]))
