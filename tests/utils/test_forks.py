import os
import signal
import time

import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, EncodingStore
from tests.conftest import blobs


def in_child(call):
    """What a call raises in a forked process, as text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            call()
            text = "nothing"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    until = time.monotonic() + 60
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hung"
        time.sleep(0.01)
    with os.fdopen(read) as stream:
        return stream.read()


CALLS = {
    "encode": lambda sae, path: sae.encode(blobs(2)),
    "decode": lambda sae, path: sae.decode(np.zeros((1, 8, 8, 4), np.float32)),
    "train": lambda sae, path: sae.train(blobs(8), epochs=1, verbose=0),
    "evaluate": lambda sae, path: sae.evaluate(blobs(8)),
    "load": lambda sae, path: Autoencoder.load(path),
    "a new stack": lambda sae, path: Autoencoder(size=4),
}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
@pytest.mark.parametrize("name", CALLS)
def test_a_forked_process_gets_an_error_with_a_fix(name, tmp_path):
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_scalings=1)
    path = sae.save(tmp_path / "model")
    answer = in_child(lambda: CALLS[name](sae, path))
    assert answer.startswith("RuntimeError: TensorFlow has run before this process was forked"), answer
    sae.encode(blobs(2))  # the parent process still works


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
def test_a_store_can_be_read_in_a_forked_process(tmp_path):
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4, n_scalings=1)
    store = sae.encode_to(tmp_path / "store", blobs(8), verbose=0)
    expected = store[:]
    assert in_child(lambda: np.testing.assert_array_equal(EncodingStore(tmp_path / "store")[:], expected)) == "nothing"
