import numpy as np
import pytest

from stacked_autoencoder import heads


@pytest.mark.slow
@pytest.mark.parametrize("kind", [heads.VAE, heads.Flow, heads.WGAN, heads.BEGAN])
def test_a_step_is_traced_once(monkeypatch, kind):
    traced = []
    step = kind.train_step
    monkeypatch.setattr(kind, "train_step", lambda self, data: traced.append(data) or step(self, data))
    encodings = np.random.default_rng(0).standard_normal((150, 4), dtype=np.float32)
    kind((4,)).fit(encodings, epochs=2, verbose=0)  # batches of 128 and of 22
    assert len(traced) == 1
