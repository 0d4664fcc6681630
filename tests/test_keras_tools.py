"""What Keras itself offers works on the models of a stack: pictures of models, and mixed precision."""

import json
import shutil
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, SequenceLevel, heads
from tests.conftest import blobs, waves

STACKS = {
    "conv": ((16, 16, 3), lambda: [ConvLevel(8, 2, 8), ConvLevel(n_scalings=1, size=8, latent_dim=6)]),
    "grown, tied": ((16, 16, 3), lambda: [ConvLevel(4, 2, 8, upsampling="nearest", tied=True)]),
    "variational": ((16, 16, 3), lambda: [ConvLevel(4, 2, 8, kl_weight=0.1), DenseLevel([12, 4], kl_weight=0.1)]),
    "dense, tied": ((16, 16, 3), lambda: [DenseLevel([30, 10], tied=True)]),
    "recurrent": ((10, 2), lambda: [SequenceLevel(6), SequenceLevel(3, target="both", cell="gru")]),
    "conditional": ((10, 2), lambda: [SequenceLevel(4, conditional=True)]),
}


def stack_and_data(name):
    shape, levels = STACKS[name]
    return Autoencoder(shape=shape, levels=levels()), blobs(64) if len(shape) == 3 else waves(64)


def models_of(sae):
    return [model for level in sae.levels for model in level.models().values()]


@pytest.mark.skipif(find_spec("pydot") is None or shutil.which("dot") is None, reason="needs pydot and graphviz")
@pytest.mark.parametrize("name", STACKS)
def test_keras_draws_every_model(tmp_path, name):
    sae, _ = stack_and_data(name)
    joint = [] if name == "conditional" else [sae.encoder, sae.decoder, keras.Sequential([sae.encoder, sae.decoder])]
    for model in [*models_of(sae), *joint]:  # Graphviz takes a quarter of a minute for each of the conditional ones
        # Keras's default, orthogonal lines, crash Graphviz 2.43 ("Trapezoid-table overflow") on the grown decoder.
        keras.utils.plot_model(model, tmp_path / "model.png", show_shapes=True, splines="spline")
        assert (tmp_path / "model.png").stat().st_size > 5_000
        (tmp_path / "model.png").unlink()


@pytest.mark.skipif(find_spec("pydot") is None or shutil.which("dot") is None, reason="needs pydot and graphviz")
@pytest.mark.parametrize("head", [heads.VAE, heads.Flow, heads.WGAN, heads.BEGAN])
def test_keras_draws_every_generator(tmp_path, head):
    made = head((4, 4, 8))
    # Graphviz takes half a minute for the twenty steps of a flow.
    generator = made.unrolled(steps=1) if head is heads.Flow else made.generator
    keras.utils.plot_model(generator, tmp_path / "model.png", show_shapes=True, expand_nested=True)
    assert (tmp_path / "model.png").stat().st_size > 5_000


@pytest.fixture
def mixed_precision(policy):
    policy("mixed_bfloat16")


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKS)
def test_a_stack_trains_in_mixed_precision_and_gives_float32(tmp_path, mixed_precision, name):
    sae, data = stack_and_data(name)
    for history in sae.train(data, epochs=1, verbose=0):
        assert np.isfinite(history.history["loss"]).all()
    encodings = sae.encode(data)
    assert encodings.dtype == sae.decode(encodings).dtype == sae.reconstruct(data).dtype == np.float32
    assert {model.output.dtype for model in models_of(sae)} == {"float32"}
    again = Autoencoder.load(sae.save(tmp_path / "sae"))
    np.testing.assert_array_equal(again.encode(data), encodings)
    saved = keras.models.load_model(tmp_path / "sae" / "encoder0")
    np.testing.assert_allclose(saved.predict(data, verbose=0), sae.encode(data, level=0), atol=1e-3)
    config = json.loads((tmp_path / "sae" / "encoder0" / "config.json").read_text())
    assert "mixed_bfloat16" in json.dumps(config)  # most layers do compute in half the bits


@pytest.mark.slow
@pytest.mark.parametrize("own_optimizer", [False, True])
def test_float16_learns_what_float32_does(images, held_out, policy, own_optimizer):
    """Its gradients, of a mean over so many pixels, would be rounded to zero if Keras didn't scale the loss."""
    gained = {}
    for name in ("float32", "mixed_float16"):
        policy(name)
        keras.utils.set_random_seed(0)
        sae = Autoencoder(shape=(16, 16, 3), size=8, n_out=4)
        optimizer = keras.optimizers.Adam(1e-3, epsilon=1e-12) if own_optimizer else None
        (history,) = sae.train(images, epochs=8, validation_data=held_out, optimizer=optimizer, verbose=0)
        pca_loss = sae.evaluate(held_out, return_dict=True)[0]["pca_loss"]
        gained[name] = pca_loss - min(history.history["val_loss"])
    assert gained["float32"] > 0
    assert gained["mixed_float16"] == pytest.approx(gained["float32"], rel=0.05)


@pytest.mark.slow
def test_recurrent_levels_train_in_float16(policy):
    """The lower level's encodings have more features than the data: most are constant but for rounding."""
    policy("mixed_float16")
    sae = Autoencoder(shape=(10, 2), levels=[SequenceLevel(8, cell="gru"), SequenceLevel(6, cell="gru")])
    for history in sae.train(waves(128), epochs=2, verbose=0):
        assert history.history["loss"][-1] < history.history["loss"][0]


def test_the_linear_start_is_exact_in_mixed_precision(images, held_out, mixed_precision):
    mixed = Autoencoder(shape=(16, 16, 3), size=8, n_out=8)
    mixed.train(images, epochs=0, verbose=0)
    keras.config.set_dtype_policy("float32")
    single = Autoencoder(shape=(16, 16, 3), size=8, n_out=8)
    single.train(images, epochs=0, verbose=0)
    np.testing.assert_allclose(mixed.encode(held_out), single.encode(held_out), atol=1e-5)
    # The decoder that reads neighbouring encodings computes in 16 bits.
    assert mixed.evaluate(held_out) == pytest.approx(single.evaluate(held_out), rel=0.01)
    for sae in (mixed, single):
        layer = sae.levels[0].neighbour_layer
        layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    assert mixed.evaluate(held_out) == pytest.approx(single.evaluate(held_out), rel=1e-5)
