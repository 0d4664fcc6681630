import os
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
    with pytest.raises(AttributeError, match=r"no attribute 'Autoencodr'\. Public names: Autoencoder"):
        stacked_autoencoder.Autoencodr  # noqa: B018


def test_importing_the_package_does_not_import_tensorflow():
    program = "import sys, stacked_autoencoder; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_version_is_in_one_place():
    assert version("stacked_autoencoder") == stacked_autoencoder.__version__
    assert "version" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.slow
def test_the_wheel_trains_by_itself(tmp_path):
    """Built by way of the sdist, and run without the checkout."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT]
    done = subprocess.run(build, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("*.tar.gz"))) == 1
    (wheel,) = tmp_path.glob("*.whl")
    there = tmp_path / "there"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", there, wheel]
    subprocess.run(install, check=True, capture_output=True)
    files = {path.relative_to(there).as_posix() for path in there.rglob("*.py")}
    assert files == {path.relative_to(ROOT).as_posix() for path in (ROOT / "stacked_autoencoder").rglob("*.py")}
    assert (there / "stacked_autoencoder" / "py.typed").is_file()
    program = f"""
import sys
sys.path.insert(0, {str(there)!r})
import numpy as np, stacked_autoencoder
assert stacked_autoencoder.__file__.startswith({str(there)!r})
sae = stacked_autoencoder.Autoencoder(size=4, n_out=4)
sae.train(np.zeros((8, 16, 16, 3), np.uint8), epochs=1, verbose=0)
sae.save("model")
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    assert (tmp_path / "model" / "encoder0" / "saved_model.pb").is_file()


# As in the README. The annotations are what the values must be without a cast.
PROGRAM = """
import numpy as np
from stacked_autoencoder import Autoencoder, ConvLevel, EncodingStore, metrics

images = np.zeros((64, 64, 64, 3), np.uint8)
sae = Autoencoder(shape=(64, 64, 3), size=32, n_out=32, n_scalings=2, n_levels=2, save_path="faces")
histories = sae.train(images, epochs=2, validation_data=images[:8])
z = sae.encode(images)
sides: tuple[int, ...] = sae.encode(images, level=0).shape
x: np.ndarray = sae.decode(z)
difference = sae.reconstruct(images, level=0) - x
loss: float = sae.evaluate(images)
table: dict[int, dict[str, float]] = sae.evaluate(images, return_dict=True)
print(f"{sae.evaluate(images):.3f}", table[0]["psnr"] / 2, metrics.psnr(images, x).mean(), difference.std())
sae.add(ConvLevel(latent_dim=16, size=32))
sae.save()
store: EncodingStore = Autoencoder.load("faces").encode_to("encodings", images)
print(store[3].shape, len(store[:2]))
"""
LISTS = """
import numpy as np
from stacked_autoencoder import Autoencoder

sae = Autoencoder.load("faces")
sae.encode([np.zeros((64, 64, 3)), np.zeros((32, 32, 3))]).shape
sae.decode([np.zeros((4, 4, 32)), np.zeros((8, 8, 32))]).shape
sae.reconstruct("photos").shape
"""


def checked_by_mypy(program, path):
    """What mypy says of a program that uses this checkout."""
    path.write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports"]
    command += ["--cache-dir", str(path.parent / "cache"), str(path)]
    done = subprocess.run(
        command, check=False, cwd=path.parent, capture_output=True, text=True, env={**os.environ, "MYPYPATH": str(ROOT)}
    )
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.slow
def test_mypy_accepts_what_the_readme_does_and_knows_that_sizes_may_differ(tmp_path):
    assert checked_by_mypy(PROGRAM, tmp_path / "program.py") == ["Success: no issues found in 1 source file"]
    *errors, _ = checked_by_mypy(LISTS, tmp_path / "lists.py")
    assert [int(line.split(":")[1]) for line in errors] == [6, 7, 8]
    assert all('of "ndarray' in line or 'of "list[ndarray' in line for line in errors)
    assert all('has no attribute "shape"' in line for line in errors)
