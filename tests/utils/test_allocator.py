import os
import subprocess
import sys

import pytest

from stacked_autoencoder.utils import allocator
from stacked_autoencoder.utils.allocator import LIMIT_IN_MB, ONE_DNN, USE, keep_freed_memory

COMPUTES = """
import stacked_autoencoder
import tensorflow as tf

tf.ones((2, 2)) @ tf.ones((2, 2))
"""


def creates_bfc_allocator(**variables):
    """Whether TensorFlow says that it creates its own allocator for main memory, in a process with these variables."""
    inherited = {name: value for name, value in os.environ.items() if name not in (USE, LIMIT_IN_MB)}
    logged = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "bfc_allocator=1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", COMPUTES]
    result = subprocess.run(command, env=inherited | logged | variables, capture_output=True, text=True, check=True)
    return "BFCAllocator named: bfc_cpu_allocator" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is selected on Linux only")
def test_tensorflow_uses_its_own_allocator_without_onednn():
    if not allocator.PROCESSORS.exists() or "flags" not in allocator.PROCESSORS.read_text():
        pytest.skip("not an x86 processor")
    assert creates_bfc_allocator(**{ONE_DNN: "0"})
    assert not creates_bfc_allocator(**{ONE_DNN: "1"})
    assert not creates_bfc_allocator(**{ONE_DNN: "0", USE: "0"})  # the choice of the user counts


@pytest.fixture
def no_choice(monkeypatch):
    for name in (USE, LIMIT_IN_MB, ONE_DNN):
        monkeypatch.setenv(name, "")  # so that the original value, or its absence, is restored afterwards
        monkeypatch.delenv(name)
    return monkeypatch


def processors(tmp_path, text):
    (tmp_path / "cpuinfo").write_text(text)
    return tmp_path / "cpuinfo"


@pytest.mark.parametrize(
    ("text", "one_dnn", "is_set"),
    [
        ("flags\t\t: fpu avx2 fma", None, True),
        ("flags\t\t: fpu avx2 avx_vnni", None, False),
        ("flags\t\t: fpu avx512f avx512_vnni", None, False),
        ("flags\t\t: fpu avx512f avx512_vnni", "0", True),
        ("flags\t\t: fpu avx2 fma", "1", False),
        ("Features\t: fp asimd", None, False),
    ],
)
def test_the_allocator_is_selected_where_onednn_is_off(text, one_dnn, is_set, no_choice, tmp_path):
    no_choice.setattr(allocator, "PROCESSORS", processors(tmp_path, text))
    if one_dnn is not None:
        no_choice.setenv(ONE_DNN, one_dnn)
    keep_freed_memory()
    assert (os.environ.get(USE) == "1") == is_set


def test_other_systems_have_no_such_file(no_choice, tmp_path):
    no_choice.setattr(allocator, "PROCESSORS", tmp_path / "missing")
    keep_freed_memory()
    assert USE not in os.environ


def test_there_is_no_limit_and_the_choice_of_the_user_counts(no_choice, tmp_path):
    no_choice.setattr(allocator, "PROCESSORS", processors(tmp_path, "flags : fpu avx2"))
    keep_freed_memory()
    assert os.environ[USE] == "1"
    assert int(os.environ[LIMIT_IN_MB]) >= 2**20  # a terabyte
    no_choice.setenv(USE, "0")
    keep_freed_memory()
    assert os.environ[USE] == "0"
