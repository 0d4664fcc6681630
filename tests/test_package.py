import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import stacked_autoencoder

ROOT = Path(__file__).parent.parent


def test_every_public_name_is_there_and_an_unknown_one_is_told():
    for name in stacked_autoencoder.__all__:
        assert getattr(stacked_autoencoder, name) is not None
        assert name in dir(stacked_autoencoder)
    with pytest.raises(AttributeError, match=r"no attribute 'Autoencodr'\. It offers Autoencoder"):
        stacked_autoencoder.Autoencodr  # noqa: B018


def test_importing_the_package_does_not_import_tensorflow():
    program = "import sys, stacked_autoencoder; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_version_is_in_one_place():
    assert version("stacked_autoencoder") == stacked_autoencoder.__version__
    assert "version" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
