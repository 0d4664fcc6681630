import keras
import numpy as np
import pytest

from stacked_autoencoder import Autoencoder, DenseLevel
from stacked_autoencoder.layers.penalties import divergence
from stacked_autoencoder.least_squares import least_squares
from stacked_autoencoder.pca import fit_linear_code
from stacked_autoencoder.training.model import ReconstructionModel
from tests.conftest import blobs

IMAGES = blobs(2000, 8, 1)


def started(level, images=IMAGES):
    sae = Autoencoder(shape=images.shape[1:], levels=[level])
    sae.train(images, epochs=0, verbose=0)
    return sae


def test_the_layers_are_those_of_the_textbook():
    level = DenseLevel([100, 30], ["relu", "selu"], output_activation="sigmoid")
    level.build((28, 28, 1), index=2)
    dense = [layer for layer in (*level.encoder.layers, *level.decoder.layers) if isinstance(layer, keras.layers.Dense)]
    assert [(layer.units, layer.activation.__name__) for layer in dense] == [
        (100, "relu"), (30, "selu"), (100, "relu"), (784, "sigmoid"),
    ]  # fmt: skip
    assert (level.encoder.name, level.decoder.name) == ("encoder2", "decoder2")
    assert level.encoding_shape == (30,)
    assert level.decoder.output_shape == (None, 28, 28, 1)


def test_vectors_need_not_be_flattened():
    vectors = np.random.default_rng(0).normal(size=(64, 12)).astype(np.float32)  # beyond [-1, 1]: these aren't pixels
    sae = Autoencoder(shape=(12,), levels=[DenseLevel(8), DenseLevel(3)])
    sae.train(vectors, epochs=1, verbose=0)
    assert sae.encode(vectors).shape == (64, 3)
    assert sae.reconstruct(vectors, level=0).shape == vectors.shape
    assert not any(isinstance(layer, keras.layers.Flatten) for layer in sae.levels[0].encoder.layers)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "selu", "tanh", "sigmoid", "silu"])
def test_the_start_is_near_the_linear_code(activation, tied):
    budget = started(DenseLevel([32, 6], activation, tied=tied)).evaluate(IMAGES, return_dict=True)[0]
    variance = np.mean(np.square(IMAGES - IMAGES.mean(axis=0)))
    random = started_randomly(activation)
    # A sigmoid's slope is a quarter, so that tied kernels must be large, where it saturates.
    bound = 2.5 if tied and activation == "sigmoid" else 1.6
    assert budget["pca_loss"] <= budget["full_loss"] <= min(bound * budget["pca_loss"], variance, random)


def started_randomly(activation):
    sae = Autoencoder(shape=(8, 8, 1), levels=[DenseLevel([32, 6], activation)])
    return sae.evaluate(IMAGES)


def test_the_linear_variational_level_is_probabilistic_pca():
    """Lucas et al. 2019: the stationary point of the linear variational autoencoder, in closed form."""
    level, weight = DenseLevel(6, kl_weight=0.2), 0.2
    sae = started(level)
    code, noise = fit_linear_code(lambda: [IMAGES], None, 6), weight / 2
    assert (code.variances > noise).all()
    up = np.sqrt(code.variances - noise)
    expected = (IMAGES.reshape(len(IMAGES), -1) - code.mean) @ code.components * (up / code.variances)
    np.testing.assert_allclose(sae.encode(IMAGES), expected, atol=1e-4)
    _, log_variance = level.posterior(IMAGES)
    np.testing.assert_allclose(np.exp(log_variance[0]), noise / code.variances, rtol=1e-4)
    kernel = np.asarray(level.decoder.get_layer("dense0").kernel)
    cosines = np.sum(kernel * code.components.T, axis=1) / up
    np.testing.assert_allclose(cosines, 1, atol=0.05)  # fitted to draws
    # No small change of the posterior or of the decoder makes the loss smaller.
    model = ReconstructionModel([level])

    def loss():
        keras.utils.set_random_seed(0)
        model.parts[0].seed_generator.state.assign(np.array([1, 2], np.uint32))
        return float(model.compute_loss(IMAGES, None, model(IMAGES)))

    best = loss()
    for variable in (level.decoder.get_layer("dense0").kernel, level.posterior.get_layer("log_variance").bias):
        value = np.asarray(variable)
        for change in (0.8, 1.25):
            variable.assign(value * change)
            assert loss() > best - 1e-4
        variable.assign(value)


def test_the_divergence_is_that_of_normal_distributions():
    rng = np.random.default_rng(0)
    mean, log_variance = (rng.normal(size=(5, 3)).astype(np.float32) for _ in range(2))
    expected = 0.5 * np.sum(mean**2 + np.exp(log_variance) - log_variance - 1, axis=1).mean()
    assert float(divergence(mean, log_variance)) == pytest.approx(expected, rel=1e-5)
    assert float(divergence(np.zeros((4, 2, 2, 3), np.float32), np.zeros((4, 2, 2, 3), np.float32))) == 0


def test_the_loss_of_a_variational_level_is_told_in_its_parts():
    sae = Autoencoder(shape=(8, 8, 1), levels=[DenseLevel([16, 4], kl_weight=0.3)])
    (history,) = sae.train(IMAGES[:256], epochs=1, validation_data=IMAGES[256:516], verbose=0)
    parts = history.history  # the last batch of the validation data is smaller than the others
    assert parts["val_loss"][0] == pytest.approx(parts["val_reconstruction"][0] + parts["val_kl"][0], rel=1e-4)
    assert parts["loss"][0] == pytest.approx(parts["reconstruction"][0] + parts["kl"][0], rel=1e-4)
    assert parts["val_kl"][0] > 0


def test_samples_look_like_what_they_were_learnt_from():
    sae = started(DenseLevel([32, 6], kl_weight=0.05))
    samples = sae.sample(500, seed=0)
    assert samples.shape == (500, 8, 8, 1)
    np.testing.assert_array_equal(samples, sae.sample(500, seed=0))
    assert (samples != sae.sample(500, seed=1)).any()
    code = fit_linear_code(lambda: [IMAGES], None, 6)
    spread = np.var((samples.reshape(500, -1) - code.mean) @ code.components, axis=0)
    np.testing.assert_allclose(spread, code.variances, rtol=0.25)


def test_only_a_variational_stack_can_be_sampled():
    with pytest.raises(ValueError, match=r"needs a variational last level.*`kl_weight=1\.0`.*Received: DenseLevel"):
        started(DenseLevel(4)).sample(2)


@pytest.mark.parametrize("count", [30, 3000])
def test_least_squares_finds_a_linear_map_and_is_careful_with_few_samples(count):
    rng = np.random.default_rng(0)
    true = rng.normal(size=(20, 5))
    inputs = rng.normal(size=(count, 20)) + 3
    outputs = inputs @ true + 5 * rng.normal(size=(count, 5)) - 7
    found = least_squares(inputs, outputs)
    plain = np.linalg.lstsq(inputs - inputs.mean(axis=0), outputs - outputs.mean(axis=0), rcond=None)[0]
    errors = [np.square(each - true).mean() for each in (found, plain)]
    if count == 30:
        assert errors[0] < 0.8 * errors[1]
    else:
        np.testing.assert_allclose(found, plain, atol=0.02)


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (lambda: DenseLevel([]), "`units` must be at least one whole number"),
        (lambda: DenseLevel([8, 0]), r"`units` must be a whole number of at least 1\. Received: units=0"),
        (lambda: DenseLevel(8, "rleu"), r"`activation` must be the name of a Keras activation: did you mean 'relu'\?"),
        (lambda: DenseLevel([8, 4], ["relu"]), "`activation` must be one name, or one name for each of the 2 layers"),
        (lambda: DenseLevel(8, output_activation="sigmoyd"), r"`output_activation`.*did you mean 'sigmoid'\?"),
        (lambda: DenseLevel(8, lambda x: x), "`activation` must be the name of a Keras activation"),
        (lambda: Autoencoder(levels=[DenseLevel(8)]), "A DenseLevel needs inputs of one known size"),
    ],
)
def test_wrong_arguments_are_told(level, message):
    with pytest.raises(ValueError, match=message):
        level()
