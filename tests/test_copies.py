"""Copies of stacks, levels, stores and detectors, and the same objects in a process that starts anew."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from stacked_autoencoder import Autoencoder
from stacked_autoencoder.heads import AnomalyDetector
from tests.conftest import blobs


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("state", ["new", "used", "trained", "trained and used"])
def test_copies_of_a_stack_and_of_its_levels_are_the_same_at_any_time(state):
    images = blobs(4, seed=1)
    sae = Autoencoder(shape=(16, 16, 3), size=8, n_out=6, n_scalings=1, n_levels=2)
    if "trained" in state:
        sae.train(blobs(40), epochs=0, verbose=0)
    if "used" in state:
        sae.reconstruct(images)
    copies = [(again(sae), [again(level) for level in sae.levels]) for again in (copy.deepcopy, pickled)]
    encodings = sae.encode(images)
    restored = sae.decode(encodings)
    for whole, (lower, upper) in copies:
        np.testing.assert_array_equal(whole.encode(images), encodings)
        np.testing.assert_array_equal(whole.decode(encodings), restored)
        np.testing.assert_array_equal(upper.encode(lower.encode(images)), encodings)
        for level in (*whole.levels, lower, upper):
            level.encoder.set_weights([0 * weight for weight in level.encoder.get_weights()])
    np.testing.assert_array_equal(sae.encode(images), encodings)  # the copies have weights of their own


@pytest.mark.parametrize("again", [copy.deepcopy, pickled])
def test_copies_of_a_detector_are_the_same_at_any_time(trained, again):
    normal, images = blobs(40), blobs(4, seed=1)
    detector = AnomalyDetector(trained[0], levels=0)
    new = again(detector)
    detector.fit(normal)
    unused = again(detector)
    scores, maps = detector.score(images), detector.score_map(images)
    for other in (new.fit(normal), unused, again(detector)):
        assert other.threshold == pytest.approx(detector.threshold, rel=1e-5)
        np.testing.assert_allclose(other.score(images), scores, rtol=1e-5)
        np.testing.assert_allclose(other.score_map(images), maps, rtol=1e-4)


def results_of(sae, level, store, detector, images):
    """Runs in another process."""
    results = {
        "encodings": sae.encode(images),
        "reconstructions": sae.reconstruct(images),
        "errors": sae.errors(images),
        "encodings of the level": level.encode(images),
        "rows of the store": store[3:20],
        "scores": detector.score(images),
        "maps": detector.score_map(images),
    }
    return results, detector.update(images[:15])


@pytest.mark.slow
def test_a_stack_a_level_a_store_and_a_detector_can_be_sent_to_a_spawned_process_and_back(trained, held_out, tmp_path):
    sae, _ = trained
    level, detector = sae.levels[0], AnomalyDetector(sae).fit(held_out)
    store = sae.encode_to(tmp_path / "store", held_out, verbose=0)
    assert store[:1].shape == (1, 6)  # its files are open
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        results, updated = executor.submit(results_of, sae, level, store, detector, held_out).result()
    expected, twice = results_of(sae, level, store, copy.deepcopy(detector), held_out)
    assert results.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(results[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(results["rows of the store"], store[3:20])
    assert updated.threshold == pytest.approx(twice.threshold, rel=1e-4)
    np.testing.assert_allclose(updated.score(held_out), twice.score(held_out), rtol=1e-4)
    assert (updated.score(held_out) != detector.score(held_out)).any()
