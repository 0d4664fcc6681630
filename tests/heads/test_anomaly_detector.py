import copy
import pickle
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from stacked_autoencoder import Autoencoder, ConvLevel, DenseLevel, ImageFolder, LoadError, SequenceLevel
from stacked_autoencoder.heads import AnomalyDetector, detector_inputs, gaussian_detector
from stacked_autoencoder.heads.anomaly_features import map_network
from stacked_autoencoder.heads.place_gaussians import FeatureSums
from stacked_autoencoder.levels.sequence import delayed
from tests.conftest import blobs, bow, waves


def with_squares(images, side=5, seed=0):
    """Images with a flat square each, and the masks of the squares."""
    rng = np.random.default_rng(seed)
    images, masks = images.copy(), np.zeros(images.shape[:3], bool)
    for image, mask in zip(images, masks, strict=True):
        y, x = rng.integers(0, np.array(mask.shape) - side + 1)
        mask[y : y + side, x : x + side] = True
        image[mask] = rng.uniform(-1, 1, image.shape[-1])
    return images, masks


def auroc(scores, is_positive):
    """Area under the ROC curve: the share of pairs in the right order."""
    order = np.argsort(np.argsort(scores)) + 1
    positives = int(is_positive.sum())
    return (order[is_positive].sum() - positives * (positives + 1) / 2) / (positives * (len(scores) - positives))


def gaussians_of(detector, level=0):
    return detector._parts[level].gaussians


def stack(shape=(16, 16, 3), **options):
    return Autoencoder(shape=shape, size=8, n_out=4, n_scalings=1, **options)


def sequence_stack(**options):
    return Autoencoder(shape=(10, 2), levels=[SequenceLevel(4, **options)])


KINDS = {
    "one level": (stack, lambda n, seed: blobs(n, seed=seed)),
    "two levels": (lambda: stack(n_levels=2), lambda n, seed: blobs(n, seed=seed)),
    "a vector above": (
        lambda: stack((12, 12, 3), n_levels=2, latent_dim=6),
        lambda n, seed: blobs(n, side=12, seed=seed),
    ),
    "any size": (lambda: stack((None, None, 3)), lambda n, seed: blobs(n, seed=seed)),
    "sides that are padded": (lambda: stack((15, 13, 3), n_levels=2), lambda n, seed: blobs(n, seed=seed)[:, :15, :13]),
    "dense": (
        lambda: Autoencoder(shape=(8, 8, 3), levels=[DenseLevel(12, None)]),
        lambda n, seed: blobs(n, side=8, seed=seed),
    ),
    "vectors": (
        lambda: Autoencoder(shape=(4,), levels=[DenseLevel([16, 2])]),
        lambda n, seed: bow(n, seed=seed),
    ),
    "sequences of sequences": (
        lambda: Autoencoder(shape=(10, 2), levels=[SequenceLevel(4), SequenceLevel(3)]),
        lambda n, seed: waves(n, seed=seed),
    ),
    "sequences": (sequence_stack, lambda n, seed: waves(n, seed=seed)),
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def fitted(request):
    make, source = request.param
    keras.utils.set_random_seed(0)
    sae, normal = make(), source(300, 1)
    sae.train(normal, epochs=0, verbose=0)
    return AnomalyDetector(sae).fit(normal, contamination=0.1), source


def test_normal_images_have_a_score_of_about_1_and_others_more(fitted):
    detector, source = fitted
    images = source(200, 2)
    scores = detector.score(images)
    assert (scores.shape, scores.dtype) == ((200,), np.float64)
    assert 0.4 < np.median(scores) < 1.6
    noisy = images + np.random.default_rng(0).normal(size=images.shape).astype(np.float32) * 0.5 * images.std()
    noisy = np.clip(noisy, -1, 1) if images.ndim == 4 else noisy
    anomalies = detector.score(noisy)
    assert auroc(np.concatenate([scores, anomalies]), np.arange(400) >= 200) > 0.9
    np.testing.assert_array_equal(detector.predict(images), scores > detector.threshold)
    assert 0.005 < detector.predict(images).mean() < 0.35
    assert detector.predict(noisy).mean() > 0.25


def test_the_model_gives_the_same_scores(fitted, tmp_path):
    detector, source = fitted
    images = source(8, 3)
    assert detector.save(tmp_path / "detector") == tmp_path / "detector"
    model = keras.models.load_model(tmp_path / "detector" / "model.keras")
    result = model.predict(detector.stack.pad(images), verbose=0)
    np.testing.assert_allclose(result["score"], detector.score(images), rtol=2e-3)
    assert ("map" in result) == (None not in detector.stack.shape)
    if "map" in result:
        maps = detector.score_map(images)
        shown = result["map"][(slice(None), *map(slice, maps.shape[1:]))]
        np.testing.assert_allclose(shown, maps, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_the_model_runs_without_this_package(trained, tmp_path):
    detector = AnomalyDetector(trained).fit(blobs(40))
    detector.model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", blobs(4))
    code = (
        "import sys; sys.modules['stacked_autoencoder'] = None\n"
        "import keras, numpy as np\n"
        "result = keras.models.load_model('model.keras').predict(np.load('images.npy'), verbose=0)\n"
        "np.savez('result.npz', **result)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)
    with np.load(tmp_path / "result.npz") as result:
        np.testing.assert_allclose(result["score"], detector.score(blobs(4)), rtol=1e-4)
        np.testing.assert_allclose(result["map"], detector.score_map(blobs(4)), rtol=1e-3)


def test_a_saved_detector_is_the_same_after_loading_and_can_be_updated(fitted, tmp_path):
    detector, source = fitted
    detector.save(tmp_path / "detector")
    loaded = AnomalyDetector.load(tmp_path / "detector")
    images, more = source(20, 3), source(40, 4)
    assert (loaded.levels, loaded.threshold) == (detector.levels, detector.threshold)
    np.testing.assert_allclose(loaded.score(images), detector.score(images), rtol=1e-4)
    loaded.update(more)
    whole = AnomalyDetector.load(tmp_path / "detector")
    for some in (more[:13], more[13:]):
        whole.update(some)
    np.testing.assert_allclose(loaded.score(images), whole.score(images), rtol=1e-4)
    assert (loaded.score(images) != detector.score(images)).any()
    with pytest.raises(FileExistsError, match="`path` must be a new or empty folder"):
        detector.save(tmp_path / "detector")


def test_pickled_and_copied_detectors(fitted, trained):
    detector, source = fitted
    images = source(8, 3)
    for other in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        np.testing.assert_allclose(other.score(images), detector.score(images), rtol=1e-4)
        other.update(source(40, 5))
        assert (other.score(images) != detector.score(images)).any()
    new = pickle.loads(pickle.dumps(AnomalyDetector(trained)))
    assert new.threshold is None
    assert new.fit(blobs(40)).score(blobs(4)).shape == (4,)


def test_an_update_is_a_fit_with_all_images():
    sae, images = stack(), blobs(120)
    sae.train(images, epochs=0, verbose=0)
    whole = AnomalyDetector(sae).fit(images, contamination=0.2)
    parts = AnomalyDetector(sae).fit(images[:33], contamination=0.2).update(images[33:])
    np.testing.assert_allclose(parts.score(images), whole.score(images), rtol=1e-4)
    assert parts.threshold == pytest.approx(whole.threshold, rel=1e-4)


@pytest.mark.parametrize("make", [stack, lambda: stack(n_levels=2)], ids=["one level", "two levels"])
def test_the_map_shows_where_an_image_is_not_normal(make):
    keras.utils.set_random_seed(0)
    sae, normal = make(), blobs(400, seed=1)
    sae.train(normal, epochs=0, verbose=0)
    detector = AnomalyDetector(sae).fit(normal)
    images, masks = with_squares(blobs(60, seed=2))
    maps = detector.score_map(images)
    assert (maps.shape, maps.dtype) == ((60, 16, 16), np.float32)
    assert auroc(maps.ravel(), masks.ravel()) > 0.7
    assert np.median(detector.score_map(blobs(60, seed=3))) == pytest.approx(1, abs=0.4)
    if len(sae.levels) == 2:
        levels = [detector.score_map(images, level=level) for level in (0, 1)]
        np.testing.assert_allclose(maps, np.mean(levels, axis=0), rtol=1e-3)
        scores = [detector.score(images, level=level) for level in (0, -1)]
        np.testing.assert_allclose(detector.score(images), np.mean(scores, axis=0))


def test_maps_are_smoothed_by_two_box_filters():
    distances = np.random.default_rng(0).random((2, 5, 4), np.float32)
    values = np.repeat(np.repeat(distances, 4, axis=1), 6, axis=2)[..., None]
    for _ in range(2):
        values = tf.nn.avg_pool2d(values, (5, 7), 1, "SAME")
    smooth = map_network((5, 4), ((0, 0), (0, 0)), (4, 6))(distances)
    np.testing.assert_allclose(smooth, values[..., 0], rtol=1e-5)


def test_places_share_a_gaussian_if_images_are_shifted():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    texture = np.sin(np.arange(64) * 1.3)[:, None] * np.sin(np.arange(64) * 0.9) + 0.2 * rng.normal(size=(64, 64))
    texture = np.clip(texture, -1, 1).astype(np.float32)[..., None]
    corners = rng.integers(0, 32, (300, 2))
    crops = np.stack([texture[y : y + 32, x : x + 32] for y, x in corners])
    sae = stack((32, 32, 1))
    sae.train(crops, epochs=0, verbose=0)
    assert AnomalyDetector(sae).fit(crops)._parts[0].gaussians.is_shared
    fixed = crops * np.linspace(0.05, 1, 32, dtype=np.float32)[:, None, None]  # fades towards the top
    assert not AnomalyDetector(sae).fit(fixed)._parts[0].gaussians.is_shared


def test_images_of_several_sizes():
    keras.utils.set_random_seed(0)
    sae = stack((None, None, 3))
    normal = [blobs(1, side=side, seed=seed)[0] for seed in range(20) for side in (16, 22, 28)]
    sae.train(normal, epochs=0, verbose=0)
    detector = AnomalyDetector(sae).fit(normal)
    images = [blobs(1, side=side, seed=40 + side)[0] for side in (16, 23, 28)]
    assert detector.score(images).shape == (3,)
    assert [each.shape for each in detector.score_map(images)] == [(16, 16), (23, 23), (28, 28)]


def test_names_of_a_folder(tmp_path):
    keras.utils.set_random_seed(0)
    for index, pixels in enumerate(((blobs(30) + 1) * 127.5).astype(np.uint8)):
        keras.utils.save_img(tmp_path / f"{index:02d}.png", pixels)
    sae = stack()
    folder = ImageFolder(tmp_path)
    sae.train(folder, epochs=0, verbose=0)
    assert AnomalyDetector(sae).fit(folder).score(folder).shape == (len(folder.names),)


def test_a_constant_feature_does_not_matter():
    keras.utils.set_random_seed(0)
    images = blobs(60)
    images[..., 2] = 0.25
    sae = stack()
    sae.train(images, epochs=0, verbose=0)
    scores = AnomalyDetector(sae).fit(images).score(images)
    assert np.isfinite(scores).all()
    constant = np.zeros_like(images)
    sae = stack()
    sae.train(constant, epochs=0, verbose=0)
    detector = AnomalyDetector(sae).fit(constant)
    assert np.isfinite(detector.score(constant)).all()
    assert detector.score((images + 1) / 2).min() > detector.threshold


def test_sums_have_the_mean_and_the_covariance():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(500, 3, 4)) @ rng.normal(size=(4, 4)) + [1, 2, 3, 4]).astype(np.float32)
    sums = FeatureSums(3, 4)
    for some in np.split(vectors, 5):
        sums.add(some)
    np.testing.assert_allclose(sums.first / sums.count, vectors.mean(axis=0), rtol=1e-5)
    for place in range(3):
        covariance = sums.second[place] / 500 - np.outer(*[sums.first[place] / 500] * 2)
        np.testing.assert_allclose(covariance, np.cov(vectors[:, place].T, bias=True), rtol=1e-3, atol=1e-3)
    flat = sums.of_all_places()
    np.testing.assert_allclose(flat.first[0] / flat.count, vectors.reshape(-1, 4).mean(axis=0), rtol=1e-5)
    whitening = sums.whitening()
    white = np.einsum("npd,pde->npe", vectors - whitening.mean, whitening.matrix)
    for place in range(3):
        assert np.abs(np.cov(white[:, place].T)).max() < 1.001
    distances = np.square(white).sum(axis=-1).mean(axis=0)
    expected = 0.5 * np.mean(distances + whitening.log_determinant)
    assert whitening.negative_log_likelihood(sums) == pytest.approx(expected, rel=1e-4)


def test_large_encodings_share_a_gaussian_instead_of_taking_much_memory(monkeypatch):
    keras.utils.set_random_seed(0)
    monkeypatch.setattr(gaussian_detector, "LARGEST_SUMS", 500)
    sae, images = stack(), blobs(60)
    sae.train(images, epochs=0, verbose=0)
    part = gaussians_of(AnomalyDetector(sae).fit(images))
    assert part.is_shared
    assert part.sums.second.size == 9 * 9


@pytest.mark.parametrize("folds", [2, 5])
def test_scores_of_the_sample_are_those_of_a_detector_of_the_other_images(folds, monkeypatch):
    monkeypatch.setattr(gaussian_detector, "LARGEST_WORK", 0 if folds == 2 else 1 << 40)
    keras.utils.set_random_seed(0)
    sae, images = stack(), blobs(150)
    sae.train(images, epochs=0, verbose=0)
    whole = AnomalyDetector(sae).fit(images)
    part = gaussians_of(whole)
    is_left_out = np.arange(150) % folds == 1
    others = gaussians_of(AnomalyDetector(sae).fit(images[~is_left_out]))
    assert others.is_shared == part.is_shared
    scores = AnomalyDetector(sae).fit(images[~is_left_out]).score(images[is_left_out])
    np.testing.assert_allclose(part.sample_scores[is_left_out] * part.scale, scores * others.scale, rtol=1e-3)
    assert np.mean(part.sample_scores > whole.threshold) == pytest.approx(0.01, abs=0.01)
    assert whole.score(blobs(300, seed=9)).mean() == pytest.approx(part.sample_scores.mean(), rel=0.15)


def test_the_sample_is_limited(monkeypatch):
    monkeypatch.setattr(gaussian_detector, "MOST_SAMPLED", 37)
    sae, images = stack(), blobs(200)
    sae.train(images, epochs=0, verbose=0)
    part = gaussians_of(AnomalyDetector(sae).fit(images))
    assert sum(map(len, part.sample)) == len(part.sample_scores) == 37
    assert part.sums.count == 200


@pytest.mark.parametrize("count", [256, 257, 266])
def test_any_number_of_images(count, trained):
    images = blobs(count)
    scores = AnomalyDetector(trained).fit(images).score(images[:3])
    detector = AnomalyDetector(trained).fit(images[:69])
    for first, stop in ((69, 70), (70, 75), (75, count)):
        detector.update(images[first:stop])
    np.testing.assert_allclose(detector.score(images[:3]), scores, rtol=1e-4)


def test_a_last_batch_with_fewer_images_than_folds_if_places_have_their_own_gaussians():
    keras.utils.set_random_seed(0)
    images = blobs(260)
    images[:, :8] /= 8
    sae = stack()
    sae.train(images, epochs=0, verbose=0)
    detector = AnomalyDetector(sae).fit(images)
    assert not gaussians_of(detector).is_shared
    assert len(gaussians_of(detector).sample_scores) == 260
    assert detector.threshold == pytest.approx(AnomalyDetector(sae).fit(images[:256]).threshold, rel=0.05)


def test_all_levels_have_the_same_sample(monkeypatch):
    monkeypatch.setattr(gaussian_detector, "SAMPLED_VALUES", 25 * 4 * 4 * 9)
    keras.utils.set_random_seed(0)
    sae, images = stack(n_levels=2), blobs(400)
    sae.train(images, epochs=0, verbose=0)
    detector = AnomalyDetector(sae).fit(images)
    assert [len(gaussians_of(detector, level).sample_scores) for level in (0, 1)] == [25, 25]


def test_small_first_images_do_not_increase_the_memory_of_the_sample(monkeypatch):
    monkeypatch.setattr(gaussian_detector, "SAMPLED_VALUES", 12 * 8 * 8 * 9)
    keras.utils.set_random_seed(0)
    sae, images = stack((None, None, 3)), [*blobs(3, side=8), *blobs(30, side=32)]
    sae.train(images, epochs=0, verbose=0)
    whole = AnomalyDetector(sae).fit(images)
    sample = gaussians_of(whole).sample
    assert sum(len(each) for each in sample if each.shape[1] == 2) == 3
    assert sum(len(each) for each in sample if each.shape[1] == 8) == 11
    assert sum(each.size for each in sample) <= gaussian_detector.SAMPLED_VALUES
    parts = AnomalyDetector(sae).fit(images[:10]).update(images[10:])
    np.testing.assert_allclose(gaussians_of(parts).sample_scores, gaussians_of(whole).sample_scores, rtol=1e-4)


@pytest.mark.parametrize("shape", [(8, 32, 1), (4, 16, 3), (32, 6, 3)])
def test_maps_of_encodings_with_a_short_side(shape):
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=shape, size=8, n_out=4, n_scalings=1, n_levels=1 + (shape[0] == 8))
    images = blobs(60, side=32, channels=shape[-1])[:, : shape[0], : shape[1]]
    sae.train(images, epochs=0, verbose=0)
    detector = AnomalyDetector(sae).fit(images)
    assert detector.score_map(images[:2]).shape == (2, *shape[:2])
    assert detector.model.predict(images[:2], verbose=0)["map"].shape == (2, *shape[:2])


def test_a_detector_of_images_of_several_sizes_is_saved(tmp_path):
    keras.utils.set_random_seed(0)
    sae = stack((None, None, 3))
    normal = [blobs(1, side=side, seed=seed)[0] for seed in range(15) for side in (16, 20)]
    sae.train(normal, epochs=0, verbose=0)
    detector = AnomalyDetector(sae).fit(normal)
    detector.save(tmp_path / "detector")
    loaded = AnomalyDetector.load(tmp_path / "detector")
    np.testing.assert_allclose(loaded.score(normal), detector.score(normal), rtol=1e-4)


def test_a_level_that_was_trained_on_a_store(tmp_path):
    keras.utils.set_random_seed(0)
    sae, images = stack(n_levels=2), blobs(60)
    sae.train(images, epochs=0, levels=[0], verbose=0)
    sae.train(sae.encode_to(tmp_path / "store", images, level=0, verbose=0), epochs=0, levels=[1], verbose=0)
    with pytest.raises(ValueError, match=r"such as `levels=\[0\]`.*Received: level 1"):
        AnomalyDetector(sae).fit(images)
    assert AnomalyDetector(sae, levels=[0]).fit(images).score(images).shape == (60,)


def test_a_stack_that_is_trained_again_needs_another_fit(tmp_path):
    keras.utils.set_random_seed(0)
    sae, images = stack(), blobs(60)
    sae.train(images, epochs=0, verbose=0)
    detector = AnomalyDetector(sae).fit(images)
    detector.threshold = 9.0
    assert not detector.predict(images).any()
    sae.levels[0].encoder.set_weights([weight + 0.01 for weight in sae.levels[0].encoder.get_weights()])
    for call in (detector.score, detector.update, detector.score_map):
        with pytest.raises(ValueError, match=r"trained after the detector was fitted: call `fit\(normal\)` again"):
            call(images)
    for other in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        with pytest.raises(ValueError, match="trained after the detector was fitted"):
            other.score(images)
    assert detector.fit(images).threshold != 9


def test_a_stack_can_be_trained_before_the_first_update():
    keras.utils.set_random_seed(0)
    sae, images = stack(), blobs(60)
    sae.train(images, epochs=0, verbose=0)
    detector = AnomalyDetector(sae)
    sae.levels[0].encoder.set_weights([weight + 0.01 for weight in sae.levels[0].encoder.get_weights()])
    np.testing.assert_allclose(detector.update(images).score(images), AnomalyDetector(sae).fit(images).score(images))


@pytest.mark.parametrize("is_fitted", [False, True])
def test_an_error_in_the_middle_of_the_images_changes_nothing(trained, is_fitted):
    images = blobs(60)
    detector = AnomalyDetector(trained)
    if is_fitted:
        detector.fit(images)
        scores, threshold = detector.score(images), detector.threshold

    def batches():
        yield images[:30]
        yield np.full_like(images[:30], np.nan)

    signature = tf.TensorSpec((None, 16, 16, 3), tf.float32)
    with pytest.raises(ValueError, match="NaN"):
        detector.update(tf.data.Dataset.from_generator(batches, output_signature=signature))
    if is_fitted:
        np.testing.assert_array_equal(detector.score(images), scores)
        assert detector.threshold == threshold
        twice = AnomalyDetector(trained).fit(np.concatenate([images, images]))
        assert detector.update(images).threshold == pytest.approx(twice.threshold, rel=1e-4)
    else:
        once = AnomalyDetector(trained).fit(images)
        assert detector.update(images).threshold == pytest.approx(once.threshold, rel=1e-4)


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    sae = stack()
    sae.train(blobs(40), epochs=0, verbose=0)
    return sae


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda sae: AnomalyDetector(stack()), r"must be trained first.*`sae.train\(normal, epochs=0\)`"),
        (lambda sae: AnomalyDetector(sae, levels=3), r"`levels` must be an index"),
        (lambda sae: AnomalyDetector(sae).fit(blobs(9)), r"At least 10 normal images.*Received: 9"),
        (lambda sae: AnomalyDetector(sae).fit(blobs(40), contamination=1), "between 0 and 1.*Received: 1"),
        (lambda sae: AnomalyDetector(sae).fit(blobs(40), contamination=float("nan")), "between 0 and 1"),
        (lambda sae: AnomalyDetector(sae).fit(blobs(40), contamination="1%"), "between 0 and 1"),
        (lambda sae: AnomalyDetector(sae, levels=[]), "`levels` must contain at least one index"),
        (lambda sae: AnomalyDetector(sae).score(blobs(4)), "has not been fitted"),
        (lambda sae: AnomalyDetector(sae).predict(blobs(4)), "has not been fitted"),
        (lambda sae: AnomalyDetector(sae).model, "has not been fitted"),
        (lambda sae: AnomalyDetector(sae).fit(blobs(40)).score(blobs(4), level=2), "`level` must be an index"),
        (lambda sae: AnomalyDetector(sae).fit(blobs(40)).score(np.zeros((4, 8, 8, 3), np.float32)), "8"),
    ],
)
def test_errors(call, message, trained):
    with pytest.raises(ValueError, match=message):
        call(trained)


def test_a_vector_above_images_has_no_map():
    keras.utils.set_random_seed(0)
    sae, images = stack(n_levels=2, latent_dim=6), blobs(60)
    sae.train(images, epochs=0, verbose=0)
    detector = AnomalyDetector(sae, levels=[1]).fit(images)
    assert not detector.has_maps
    for call in (detector.score_map, detector.score_and_map):
        with pytest.raises(ValueError, match=r"Use `score`, or `sae.error_maps\(images\)`.*Received: level 1"):
            call(images)
    assert AnomalyDetector(sae).fit(images).score_map(images).shape == (60, 16, 16)


def test_maps_of_sequences_vectors_and_images_with_dense_levels_show_the_place():
    rng = np.random.default_rng(0)
    for sae, normal in (
        (sequence_stack(), waves(300, seed=1)),
        (Autoencoder(shape=(10, 2), levels=[SequenceLevel(4), SequenceLevel(3)]), waves(300, seed=1)),
        (Autoencoder(shape=(4,), levels=[DenseLevel([16, 2])]), bow(300, seed=1)),
        (Autoencoder(shape=(8, 8, 3), levels=[DenseLevel(12, None)]), blobs(300, side=8, seed=1)),
    ):
        keras.utils.set_random_seed(0)
        sae.train(normal, epochs=0, verbose=0)
        detector = AnomalyDetector(sae).fit(normal)
        images = normal[:20].copy()
        places = images.shape[1:-1] if images.ndim > 2 else images.shape[1:]
        which = tuple(rng.integers(0, side, 20) for side in places)
        images[(np.arange(20), *which)] += 2 * normal.std() * (1 if images.ndim < 4 else -np.sign(images[0, 0, 0, 0]))
        images = np.clip(images, -1, 1) if images.ndim == 4 else images
        maps = detector.score_map(images)
        assert (maps.shape, maps.dtype) == ((20, *places), np.float32)
        is_there = np.zeros(maps.shape, bool)
        is_there[(np.arange(20), *which)] = True
        assert auroc(maps.ravel(), is_there.ravel()) > 0.9
        assert 0.02 < np.median(detector.score_map(normal[20:])) < 1.5


def test_padded_steps_and_missing_values_do_not_matter():
    keras.utils.set_random_seed(0)
    series = waves(300, seed=1)
    series[::2, 7:] = -9.0
    sae = sequence_stack(mask_value=-9.0)
    sae.train(series, epochs=0, verbose=0)
    detector = AnomalyDetector(sae).fit(series)
    assert np.abs(detector._parts[0].features(*_level_0(sae, series[:2])).features[0, 0, 0, 4 + 14 :]).max() == 0
    points = bow(300, seed=1)
    points[::3, 1] = np.nan
    sae = Autoencoder(shape=(4,), levels=[DenseLevel(2, None)], missing="ignore")
    sae.train(points, epochs=0, verbose=0)
    detector = AnomalyDetector(sae).fit(points)
    assert np.isfinite(detector.score(points)).all()
    errors = detector._parts[0].features(*_level_0(sae, points[:3])).features[:, 0, 0, 2:]
    np.testing.assert_array_equal(errors == 0, np.isnan(points[:3]))


@pytest.mark.parametrize(
    ("make", "images"),
    [
        (lambda: stack(n_levels=2, missing="ignore"), blobs(60)),
        (lambda: Autoencoder(shape=(4,), levels=[DenseLevel(2, None)], missing="ignore"), bow(60)),
        (lambda: Autoencoder(shape=(10, 2), levels=[SequenceLevel(4, target="next")], missing="ignore"), waves(60)),
    ],
    ids=["images", "vectors", "sequences"],
)
def test_the_model_accepts_missing_values(make, images, tmp_path):
    keras.utils.set_random_seed(0)
    images = np.where(np.random.default_rng(0).random(images.shape) < 0.1, np.nan, images).astype(np.float32)
    sae = make()
    sae.train(images, epochs=0, verbose=0)
    detector = AnomalyDetector(sae).fit(images)
    detector.model.save(tmp_path / "model.keras")
    result = keras.models.load_model(tmp_path / "model.keras").predict(images, verbose=0)
    np.testing.assert_allclose(result["score"], detector.score(images), rtol=1e-4)
    np.testing.assert_allclose(result["map"], detector.score_map(images), rtol=1e-3, atol=1e-4)


def _level_0(sae, images):
    return sae.levels[0].encode(images), images, images


@pytest.mark.parametrize("kind", ["vectors", "sequences"])
def test_scores_do_not_depend_on_the_unit(kind):
    make, source = KINDS[kind]
    scores = []
    for unit in (1, 1000):
        keras.utils.set_random_seed(0)
        sae, normal = make(), source(300, 1) * np.float32(unit)
        sae.train(normal, epochs=0, verbose=0)
        scores.append(AnomalyDetector(sae).fit(normal).score(normal[:20] + np.float32(unit)))
    np.testing.assert_allclose(*scores, rtol=2e-2)


def test_predicting_levels_compare_predictions_with_the_sequence(tmp_path):
    keras.utils.set_random_seed(0)
    series = waves(300, seed=1)
    sae = sequence_stack(target="next")
    sae.train(series, epochs=0, verbose=0)
    detector = AnomalyDetector(sae).fit(series)
    errors = detector._parts[0].features(sae.levels[0].encode(delayed(series)), series, series).errors[:, :, 0]
    expected = sae.reconstruct(series) - series
    expected[:, 0] = 0  # the first step cannot be predicted
    np.testing.assert_allclose(errors, expected, atol=1e-5)
    result = detector.model.predict(series, verbose=0)
    np.testing.assert_allclose(result["score"], detector.score(series), rtol=1e-3)
    np.testing.assert_allclose(result["map"], detector.score_map(series), rtol=1e-2, atol=1e-3)


def test_scores_and_maps_in_one_pass(fitted):
    detector, source = fitted
    images = source(8, 3)
    assert detector.has_maps
    scores, maps = detector.score_and_map(images)
    np.testing.assert_array_equal(scores, detector.score(images))
    np.testing.assert_array_equal(maps, detector.score_map(images))


# === Stores ===


@pytest.mark.parametrize("kind", ["one level", "a vector above", "any size", "vectors", "sequences"])
def test_a_store_gives_the_same_detector_as_encodings_of_images(kind, tmp_path):
    make, source = KINDS[kind]
    keras.utils.set_random_seed(0)
    sae, normal, images = make(), source(300, 1), source(20, 2)
    sae.train(normal, epochs=0, verbose=0)
    store = sae.encode_to(tmp_path / "normal", normal, level=0, dtype="float32", verbose=0)
    detector = AnomalyDetector(sae).fit(store)
    of_store = detector.score(sae.encode_to(tmp_path / "new", images, level=0, dtype="float32", verbose=0))
    np.testing.assert_allclose(detector.score(images), of_store, rtol=1e-3)
    detector.save(tmp_path / "detector")
    loaded = AnomalyDetector.load(tmp_path / "detector")
    np.testing.assert_allclose(loaded.score(images), of_store, rtol=1e-3)
    result = loaded.model.predict(sae.stack.pad(images), verbose=0)
    np.testing.assert_allclose(result["score"], of_store, rtol=2e-3)
    extreme = normal.mean(axis=0) + 3 * (images - normal.mean(axis=0))
    extreme = np.clip(extreme, -1, 1) if images.ndim == 4 else extreme
    assert detector.score(extreme).mean() > 1.2 * of_store.mean()
    if detector.has_maps:
        assert detector.score_map(store).shape == detector.score_map(normal).shape


def test_a_level_that_was_trained_on_a_store_is_fitted_to_a_store(tmp_path):
    keras.utils.set_random_seed(0)
    sae, images = stack(n_levels=2), blobs(60)
    sae.train(images, epochs=0, levels=[0], verbose=0)
    store = sae.encode_to(tmp_path / "store", images, level=0, verbose=0)
    sae.train(store, epochs=0, levels=[1], verbose=0)
    assert AnomalyDetector(sae).fit((store, np.arange(60))).score(images).shape == (60,)


def test_stores_that_do_not_fit(tmp_path, trained):
    keras.utils.set_random_seed(0)
    sae, images = stack(n_levels=2), blobs(40)
    sae.train(images, epochs=0, verbose=0)
    deep = sae.encode_to(tmp_path / "deep", images, verbose=0)
    with pytest.raises(ValueError, match=r"leave out the lower levels: `AnomalyDetector\(sae, levels=\[1\]\)`"):
        AnomalyDetector(sae).fit(deep)
    assert AnomalyDetector(sae, levels=[1]).fit(deep).score(images).shape == (40,)
    with pytest.raises(ValueError, match="encodings of another stack"):
        AnomalyDetector(trained).fit(deep)
    detector = AnomalyDetector(sae)
    with pytest.raises(ValueError, match="do not contain those of level 0"):
        detector.fit(deep)
    np.testing.assert_array_equal(detector.update(images).score(images), AnomalyDetector(sae).fit(images).score(images))
    detector = AnomalyDetector(trained).fit(images)
    for call in (detector.score, detector.update, detector.score_map):
        with pytest.raises(ValueError, match="Pass images, or fit another detector to a store"):
            call(trained.encode_to(tmp_path / call.__name__, images, verbose=0))


# === Large images ===


@pytest.mark.parametrize(("size", "n_levels"), [((64, 64), 1), ((70, 101), 2), ((33, 90), 2)])
def test_tiles_give_the_same_features_as_whole_images(size, n_levels, monkeypatch):
    keras.utils.set_random_seed(0)
    # Each encoding depends on six neighbours on each side, which is more than the windows of the features have.
    sae = Autoencoder(shape=(None, None, 3), levels=[ConvLevel(4, 1, 8, depth=6) for _ in range(n_levels)])
    sae.train(blobs(20, side=32), epochs=0, verbose=0)
    rng = np.random.default_rng(0)
    for level in sae.levels:
        weights = level.encoder.get_weights()
        level.encoder.set_weights([weight + 0.4 * rng.normal(size=weight.shape) for weight in weights])
    images = blobs(10, side=104)[:, : size[0], : size[1]]
    whole = AnomalyDetector(sae).fit(images)
    scores, maps = whole.score_and_map(images)
    sides = []
    monkeypatch.setattr(detector_inputs, "default_side", lambda size: sides.append(size) or 32)
    np.testing.assert_allclose(whole.score(images), scores, rtol=1e-6)
    np.testing.assert_allclose(whole.score_map(images), maps, rtol=1e-4)
    assert set(sides) == {size}
    tiled = AnomalyDetector(sae).fit(images)
    np.testing.assert_allclose(tiled.score(images), scores, rtol=1e-3)
    assert tiled.threshold == pytest.approx(whole.threshold, rel=1e-3)


@pytest.mark.parametrize("features", [1, 2, 5])
def test_the_threshold_of_few_rows_is_near_the_quantile_of_new_rows(features):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    rows, new = (rng.normal(size=(count, features)).astype(np.float32) for count in (200, 20_000))
    sae = Autoencoder(shape=(features,), levels=[DenseLevel(1, None)])
    sae.train(rows, epochs=0, verbose=0)
    share = AnomalyDetector(sae).fit(rows, contamination=0.02).predict(new).mean()
    assert 0.005 < share < 0.04


def test_of_large_images_only_some_places_are_kept(tmp_path, monkeypatch):
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=(None, None, 3), size=8, n_out=4, n_scalings=1)
    images = [blobs(1, side=side, seed=seed)[0] for seed in range(20) for side in (60, 68)]
    sae.train(images, epochs=0, verbose=0)
    whole = AnomalyDetector(sae).fit(images, contamination=0.1)
    monkeypatch.setattr(gaussian_detector, "SAMPLED_VALUES", 10 * 9 * 64)
    detector = AnomalyDetector(sae).fit(images, contamination=0.1)
    gaussians = gaussians_of(detector)
    assert [each.shape for each in gaussians.sample[:2]] == [(1, 8, 8, 9), (1, 6, 6, 9)]
    assert len(gaussians.sample_scores) == 13
    np.testing.assert_allclose(detector.score(images), whole.score(images), rtol=0.2)
    assert detector.threshold == pytest.approx(whole.threshold, rel=0.3)
    detector.save(tmp_path / "detector")
    loaded = AnomalyDetector.load(tmp_path / "detector")
    np.testing.assert_allclose(loaded.update(images[:3]).score(images), detector.update(images[:3]).score(images))


def test_a_progress_bar(trained, capsys):
    AnomalyDetector(trained).fit(blobs(40), verbose=1)
    assert "40/40 images" in capsys.readouterr().out
    AnomalyDetector(trained).fit(blobs(40))
    assert not capsys.readouterr().out


def test_a_level_that_the_detector_does_not_use():
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=(16, 16, 3), levels=[ConvLevel(4, 1, 8), ConvLevel(4, 1, 8)])
    sae.train(blobs(40), epochs=0, verbose=0)
    detector = AnomalyDetector(sae, levels=1).fit(blobs(40))
    with pytest.raises(ValueError, match=re.escape("one of the levels of the detector, [1]. Received: 0")):
        detector.score(blobs(4), level=0)


def test_the_threshold_does_not_make_a_detector(trained):
    detector = AnomalyDetector(trained)
    detector.threshold = 1.5
    with pytest.raises(ValueError, match="has not been fitted"):
        detector.predict(blobs(4))
    assert np.isfinite(detector.fit(blobs(40), contamination=1e-17).threshold)


@pytest.mark.parametrize(
    "change",
    ["threshold", "first0", "sample0", "levels", "count0", "count", "contamination", "sizes0", "uses_errors"],
)
def test_a_damaged_file_raises_an_error(change, trained, tmp_path):
    AnomalyDetector(trained).fit(blobs(40)).save(tmp_path / "detector")
    file = tmp_path / "detector" / "statistics.npz"
    with np.load(file) as content:
        arrays = dict(content)
    for damaged in (None, np.zeros((2, 2)), np.array(["text"]), np.zeros((1, 1, 1, 1 << 21), np.float32), np.array(-1)):
        if change == "threshold" and damaged is not None and damaged.size == 1 and damaged.dtype.kind != "U":
            continue  # any number
        changed = {name: array for name, array in arrays.items() if name != change}
        np.savez(file, **changed | ({} if damaged is None else {change: damaged}))
        with pytest.raises(LoadError):
            AnomalyDetector.load(tmp_path / "detector")
    if change == "count0":
        for count in (39, 1e308):  # fewer images than in the sample, and too many
            np.savez(file, **arrays | {change: np.array(count)})
            with pytest.raises(LoadError, match="the number of images is out of range"):
                AnomalyDetector.load(tmp_path / "detector")
    np.savez(tmp_path / "elsewhere.npz", **arrays)
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere.npz")
    with pytest.raises(LoadError, match="not a link"):
        AnomalyDetector.load(tmp_path / "detector")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="no saved detector"):
        AnomalyDetector.load(tmp_path / "detector")
