import os
import platform
import subprocess
import sys

import pytest

from stacked_autoencoder.utils.allocator import LIMIT_IN_MB, USE, keep_freed_memory

# Pages that one computation with 40 MB of temporary tensors needs from the operating system.
FAULTS = """
import stacked_autoencoder
import resource
import tensorflow as tf

@tf.function
def compute(values):
    for _ in range(10):
        values = tf.sin(values) @ values
    return values

values = tf.ones((1000, 1000))
faults = []
for _ in range(12):
    compute(values)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print((faults[-1] - faults[1]) // 10)
"""


def faults(**variables):
    inherited = {name: value for name, value in os.environ.items() if name not in (USE, LIMIT_IN_MB)}
    command = [sys.executable, "-c", FAULTS]
    result = subprocess.run(command, env=inherited | variables, capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count pages differently")
def test_freed_memory_is_kept():
    assert faults() < 100
    if platform.libc_ver()[0] == "glibc" and "LD_PRELOAD" not in os.environ:
        assert faults(**{USE: "0"}) > 100  # the choice of the user counts


def test_there_is_no_limit_and_the_choice_of_the_user_counts(monkeypatch):
    monkeypatch.delenv(USE, raising=False)
    monkeypatch.delenv(LIMIT_IN_MB, raising=False)
    keep_freed_memory()
    assert os.environ[USE] == "1"
    assert int(os.environ[LIMIT_IN_MB]) >= 2**20  # a terabyte
    monkeypatch.setenv(USE, "0")
    keep_freed_memory()
    assert os.environ[USE] == "0"
