"""The estimators for scikit-learn: scikit-learn's own checks, and PCA as the oracle."""

import pickle
import random
import sys

import numpy as np
import pandas as pd
import pytest

from tests.conftest import check_advice, run_elsewhere

pytest.importorskip("sklearn")

import joblib
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from stacked_autoencoder import Autoencoder
from stacked_autoencoder.sklearn import AnomalyDetector, StackedAutoencoder

DIGITS, LABELS = load_digits(return_X_y=True)  # (1797, 64) float64 from 0 to 16, and the digits
NAMES = [f"pixel{index}" for index in range(64)]


@pytest.fixture(scope="module")
def trained():
    """A briefly trained network. Not to be changed by tests."""
    return StackedAutoencoder(3, hidden_layer_sizes=(64,), epochs=2, random_state=0).fit(DIGITS[:400])


def pca_of_digits(n_components, **arguments):
    return StackedAutoencoder(n_components, epochs=0, **arguments).fit(DIGITS)


@pytest.mark.slow
@parametrize_with_checks([StackedAutoencoder(epochs=0), AnomalyDetector()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


# Those that read what training changes; all of them would take half a minute.
BRIEFLY_TRAINED = {
    StackedAutoencoder(hidden_layer_sizes=(8,), nested=True, epochs=1): {
        "check_dict_unchanged",
        "check_estimators_pickle",
        "check_fit_idempotent",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_transformer_general",
    },
    AnomalyDetector(hidden_layer_sizes=(8,), epochs=1, contamination=0.1): {
        "check_estimators_pickle",
        "check_methods_subset_invariance",
        "check_outliers_fit_predict",
    },
}
OF_TRAINED = [
    (estimator, check)
    for estimator, names in BRIEFLY_TRAINED.items()
    for _, check in estimator_checks_generator(estimator)
    if check.func.__name__ in names
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # on data without structure
@pytest.mark.parametrize(
    ("estimator", "check"), OF_TRAINED, ids=lambda each: getattr(each, "func", type(each)).__name__
)
def test_scikit_learns_checks_of_trained_networks(estimator, check):
    check(clone(estimator))


def test_the_package_does_not_import_scikit_learn():
    run_elsewhere("import sys, stacked_autoencoder\nassert 'sklearn' not in sys.modules")


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "stacked_autoencoder.sklearn")
    with pytest.raises(ImportError, match=r'pip install "stacked_autoencoder\[sklearn\]"'):
        import stacked_autoencoder.sklearn  # noqa: F401


# === Reconstruction ===


@pytest.mark.parametrize("n_components", [1, 8])
@pytest.mark.parametrize("image_shape", [None, (8, 8, 1)])
def test_without_epochs_it_is_pca(n_components, image_shape):
    sae, pca = pca_of_digits(n_components, image_shape=image_shape), PCA(n_components).fit(DIGITS)
    np.testing.assert_allclose(sae.explained_variance_ratio_, pca.explained_variance_ratio_, atol=1e-6)
    codes, expected = sae.transform(DIGITS), pca.transform(DIGITS)
    np.testing.assert_allclose(sae.inverse_transform(codes), pca.inverse_transform(expected), atol=1e-3)
    factors = (codes * expected).sum(axis=0) / np.square(expected).sum(axis=0)
    np.testing.assert_allclose(codes, factors * expected, atol=1e-4)  # principal components …
    np.testing.assert_allclose(np.abs(factors), abs(factors[0]), rtol=1e-4)  # … divided by one number
    assert sae.autoencoder_.shape == (image_shape or (64,))


def test_score_is_the_negative_mean_squared_error(trained):
    restored = trained.inverse_transform(trained.transform(DIGITS))
    assert restored.shape == DIGITS.shape
    assert trained.score(DIGITS) == pytest.approx(-np.mean(np.square(restored - DIGITS)))
    np.testing.assert_allclose(trained.autoencoder_.reconstruct(DIGITS), restored, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("image_shape", [None, (8, 8, 1)])
def test_training_improves_on_pca(image_shape):
    train, test = train_test_split(DIGITS, random_state=0)
    sae = StackedAutoencoder(8, image_shape=image_shape, epochs=5, random_state=0).fit(train)
    pca = PCA(8).fit(train)
    assert -sae.score(test) < 0.8 * np.mean(np.square(pca.inverse_transform(pca.transform(test)) - test))
    assert sae.transform(test[:2]).shape == (2, 8)


@pytest.mark.parametrize("nested", [False, True])
def test_ratios_add_up_to_the_explained_variance(nested):
    rows = DIGITS[:300]
    sae = StackedAutoencoder(4, hidden_layer_sizes=(32,), nested=nested, epochs=2, random_state=0).fit(rows)
    explained = 1 + sae.score(rows) / rows.var(axis=0).mean()
    assert sae.explained_variance_ratio_.shape == (4,)
    assert sae.explained_variance_ratio_.sum() == pytest.approx(explained, abs=1e-6)
    if nested:
        assert (sae.explained_variance_ratio_ > 0).all()


def test_constant_data_explain_nothing():
    sae = StackedAutoencoder(2, epochs=0).fit(np.full((4, 3), 7.0))
    np.testing.assert_array_equal(sae.explained_variance_ratio_, 0)
    np.testing.assert_allclose(sae.inverse_transform(sae.transform([[7, 7, 7]])), 7.0)


@pytest.mark.parametrize("validation_fraction", [0.2, 0.0])
def test_a_network_that_is_worse_than_pca_is_replaced(validation_fraction):
    rows = DIGITS[:200]
    sae = StackedAutoencoder(
        8, hidden_layer_sizes=(1,), epochs=1, validation_fraction=validation_fraction, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="is higher than the PCA loss"):
        sae.fit(rows)
    np.testing.assert_allclose(
        sae.explained_variance_ratio_, PCA(8).fit(rows).explained_variance_ratio_, rtol=1e-4, atol=1e-6
    )


def test_a_linear_network_is_not_worse_than_pca():
    sae = StackedAutoencoder(4, hidden_layer_sizes=(), epochs=1, random_state=0).fit(DIGITS[:300])  # no warning
    assert sae.autoencoder_.levels[0].units == [4]


def test_an_encoding_does_not_depend_on_the_other_samples():
    sae = pca_of_digits(1)
    codes = sae.transform(DIGITS[:257])  # a batch of 256 samples, and one sample
    np.testing.assert_array_equal(codes[255:], sae.transform(DIGITS[255:257]))
    np.testing.assert_array_equal(codes[:1], sae.transform(DIGITS[:1]))
    np.testing.assert_array_equal(sae.inverse_transform(codes)[:1], sae.inverse_transform(codes[:1]))


# === Random numbers ===


def test_an_int_as_random_state_gives_the_same_network_and_changes_no_global_state():
    estimator = StackedAutoencoder(2, hidden_layer_sizes=(32,), nested=True, epochs=3, random_state=3)
    before = random.getstate(), np.random.get_state()[1].tolist()
    first = estimator.fit(DIGITS[:100]).transform(DIGITS[:10])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    np.random.seed(5)
    np.testing.assert_array_equal(clone(estimator).fit(DIGITS[:100]).transform(DIGITS[:10]), first)
    other = estimator.set_params(random_state=4).fit(DIGITS[:100]).transform(DIGITS[:10])
    assert np.abs(other - first).max() > 1e-3


def test_without_random_state_numpys_global_state_decides():
    estimator = StackedAutoencoder(2, hidden_layer_sizes=(32,), epochs=3)

    def codes():
        return estimator.fit(DIGITS[:100]).transform(DIGITS[:10])

    np.random.seed(0)
    first, second = codes(), codes()
    assert np.abs(first - second).max() > 1e-3
    np.random.seed(0)
    np.testing.assert_array_equal(codes(), first)


# === In scikit-learn ===


def test_it_stands_in_a_pipeline_where_pca_stood():
    train, test, train_labels, test_labels = train_test_split(DIGITS, LABELS, random_state=0)
    scores = []
    for reduction in (PCA(16), StackedAutoencoder(16, epochs=0)):
        model = make_pipeline(StandardScaler(), reduction, StandardScaler(), LogisticRegression())
        scores.append(model.fit(train, train_labels).score(test, test_labels))
    assert scores[0] == pytest.approx(scores[1], abs=0.01)
    assert scores[0] > 0.9


def test_grid_search_finds_more_components_better():
    search = GridSearchCV(StackedAutoencoder(epochs=0), {"n_components": [1, 2, 4]}, cv=2, error_score="raise")
    search.fit(DIGITS[:200])
    assert search.best_params_ == {"n_components": 4}
    assert search.best_score_ == pytest.approx(search.cv_results_["mean_test_score"].max())
    in_pipeline = make_pipeline(StackedAutoencoder(epochs=0), LogisticRegression(max_iter=1000))
    search = GridSearchCV(in_pipeline, {"stackedautoencoder__n_components": [1, 8]}, cv=2, error_score="raise")
    assert search.fit(DIGITS, LABELS).best_params_ == {"stackedautoencoder__n_components": 8}


def test_clones_are_not_fitted_and_have_the_same_arguments(trained):
    copy = clone(trained)
    assert not hasattr(copy, "autoencoder_")
    assert copy.get_params() == trained.get_params()


@pytest.mark.slow
def test_pickle_and_joblib_keep_the_network(trained, tmp_path):
    codes = trained.transform(DIGITS[:20])
    copy = pickle.loads(pickle.dumps(trained))
    np.testing.assert_array_equal(copy.transform(DIGITS[:20]), codes)
    joblib.dump(trained, tmp_path / "sae.joblib")
    np.savez(tmp_path / "arrays.npz", rows=DIGITS[:20], codes=codes, restored=trained.inverse_transform(codes))
    program = """
import joblib, numpy as np
sae, arrays = joblib.load("sae.joblib"), np.load("arrays.npz")
np.testing.assert_allclose(sae.transform(arrays["rows"]), arrays["codes"], atol=1e-5)
np.testing.assert_allclose(sae.inverse_transform(arrays["codes"]), arrays["restored"], atol=1e-4)
print(sae.explained_variance_ratio_.sum())
"""
    assert float(run_elsewhere(program, tmp_path)) == pytest.approx(trained.explained_variance_ratio_.sum())


def test_the_autoencoder_can_be_saved(trained, tmp_path):
    trained.autoencoder_.save(tmp_path / "model")
    loaded = Autoencoder.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.encode(DIGITS[:5]), trained.transform(DIGITS[:5]), atol=1e-5)


def test_dtypes_are_kept(trained):
    for dtype, expected in ((np.float32, np.float32), (np.float64, np.float64), (np.uint8, np.float64)):
        codes = trained.transform(DIGITS[:3].astype(dtype))
        assert codes.dtype == expected
        assert trained.inverse_transform(codes).dtype == expected


def test_names_of_features_and_data_frames(trained):
    np.testing.assert_array_equal(trained.get_feature_names_out(), [f"stackedautoencoder{index}" for index in range(3)])
    frame = pd.DataFrame(DIGITS[:50], columns=NAMES, index=range(100, 150))
    sae = StackedAutoencoder(2, epochs=0).fit(frame).set_output(transform="pandas")
    assert sae.n_features_in_ == 64
    assert sae.feature_names_in_.tolist() == NAMES
    codes = sae.transform(frame)
    assert codes.columns.tolist() == ["stackedautoencoder0", "stackedautoencoder1"]
    assert codes.index.tolist() == [*range(100, 150)]
    assert sae.inverse_transform(codes).shape == (50, 64)
    with pytest.raises(ValueError, match="feature names should match"):
        sae.transform(frame[NAMES[::-1]])


# === Images ===


@pytest.mark.slow
def test_rows_are_images():
    sae = StackedAutoencoder(4, image_shape=(8, 8, 1), n_levels=2, nested=True, epochs=1, random_state=0)
    sae.fit(DIGITS[:200])
    assert [level.kind for level in sae.autoencoder_.levels] == ["conv", "conv"]
    codes = sae.transform(DIGITS[:5])
    np.testing.assert_allclose(codes, sae.autoencoder_.encode(DIGITS[:5].reshape(5, 8, 8, 1)), atol=1e-5)
    restored = sae.autoencoder_.decode(codes)
    np.testing.assert_allclose(sae.inverse_transform(codes), restored.reshape(5, 64), atol=1e-4)


# === Errors ===


@pytest.mark.parametrize(
    ("mistake", "message", "remedy"),
    [
        ({"n_components": 65}, r"at most the number of features. Received: n_components=65", {"n_components": 64}),
        ({"n_components": 0}, r"`n_components` must be a whole number of at least 1", {"n_components": 1}),
        ({"epochs": -1}, r"`epochs` must be a whole number of at least 0", {"epochs": 0}),
        ({"batch_size": 0}, r"`batch_size` must be a whole number of at least 1", {"batch_size": 1}),
        ({"hidden_layer_sizes": (0,)}, r"`hidden_layer_sizes` must be a whole", {"hidden_layer_sizes": ()}),
        ({"validation_fraction": 1.0}, r"must be below 1.* Received: validation_fraction=1.0", {}),
        ({"validation_fraction": -0.1}, r"must be a number of at least 0", {}),
        ({"n_levels": 2}, r"Several levels need images", {"hidden_layer_sizes": (128, 64)}),
        ({"n_levels": 2}, r"Several levels need images", {"n_levels": 2, "image_shape": (8, 8, 1)}),
        (
            {"hidden_layer_sizes": (9,), "image_shape": (8, 8, 1)},
            r"`hidden_layer_sizes` can't be combined with `image_shape`",
            {"image_shape": (8, 8, 1)},
        ),
        ({"image_shape": (8, 8)}, r"must be \(height, width, channels\).*n_features=64", {"image_shape": (8, 8, 1)}),
        ({"image_shape": (8, 8, 3)}, r"must be \(height, width, channels\)", {"image_shape": (8, 2, 4)}),
    ],
)
def test_mistakes_in_arguments_are_explained(mistake, message, remedy):
    rows = DIGITS[:20]
    check_advice(
        lambda: StackedAutoencoder(**mistake).fit(rows),
        message,
        [lambda: StackedAutoencoder(**{"epochs": 0, **remedy}).fit(rows)],
    )


def test_wrong_data_are_explained(trained):
    with pytest.raises(ValueError, match=r"with 3 columns\. Received: shape=\(5, 64\)"):
        trained.inverse_transform(DIGITS[:5])
    with pytest.raises(ValueError, match="expecting 64 features"):
        trained.transform(DIGITS[:, :9])
    check_advice(
        lambda: StackedAutoencoder(epochs=0).fit(DIGITS * 1e300),
        "too large for float32.*StandardScaler",
        [lambda: StackedAutoencoder(epochs=0).fit(StandardScaler().fit_transform(DIGITS * 1e100))],
    )


# === Anomalies ===

CANCER, IS_BENIGN = load_breast_cancer(return_X_y=True)  # (569, 30), and 1 for benign
SCALED = StandardScaler().fit(CANCER[IS_BENIGN == 1]).transform(CANCER).astype(np.float32)
NORMAL, OTHERS = train_test_split(SCALED[IS_BENIGN == 1], random_state=0)
UNSEEN = np.concatenate([OTHERS, SCALED[IS_BENIGN == 0]])
IS_NORMAL = np.arange(len(UNSEEN)) < len(OTHERS)


@pytest.fixture(scope="module")
def of_rows():
    return AnomalyDetector().fit(NORMAL)


@pytest.fixture(scope="module")
def of_images():
    return AnomalyDetector(image_shape=(8, 8, 1)).fit(DIGITS[LABELS == 1])


def test_malignant_tumours_are_found(of_rows):
    scores = of_rows.score_samples(UNSEEN)
    pca = PCA(of_rows.autoencoder_.encoding_shape[0]).fit(NORMAL)
    errors = np.square(UNSEEN - pca.inverse_transform(pca.transform(UNSEEN))).mean(axis=1)
    assert roc_auc_score(IS_NORMAL, scores) > max(0.9, roc_auc_score(IS_NORMAL, -errors))
    assert (scores.shape, scores.dtype) == ((len(UNSEEN),), np.float64)
    assert np.median(scores[IS_NORMAL]) == pytest.approx(-1, abs=0.5)
    predicted = of_rows.predict(UNSEEN)
    np.testing.assert_array_equal(predicted, np.where(of_rows.decision_function(UNSEEN) < 0, -1, 1))
    np.testing.assert_array_equal(of_rows.detector_.predict(UNSEEN), predicted == -1)
    assert (predicted[IS_NORMAL] == 1).mean() > 0.9
    assert (predicted[~IS_NORMAL] == -1).mean() > 0.3


def test_digits_that_are_not_ones_are_found(of_images):
    assert roc_auc_score(LABELS == 1, of_images.score_samples(DIGITS)) > 0.95
    assert of_images.autoencoder_.encoding_shape == (4, 4, 4)
    np.testing.assert_allclose(
        of_images.detector_.score(DIGITS[:9].reshape(-1, 8, 8, 1)), -of_images.score_samples(DIGITS[:9])
    )


@pytest.mark.parametrize("contamination", [0.01, 0.1, 0.5])
def test_contamination_is_the_share_of_the_training_rows_that_are_anomalies(contamination):
    detector = AnomalyDetector(4, contamination=contamination)
    predicted = detector.fit_predict(NORMAL)
    assert (predicted == -1).sum() == pytest.approx(contamination * len(NORMAL), abs=1)
    np.testing.assert_allclose(detector.decision_function(NORMAL), detector.score_samples(NORMAL) - detector.offset_)
    np.testing.assert_array_equal(detector.detector_.predict(NORMAL), predicted == -1)


def test_few_new_normal_rows_are_anomalies_by_default():
    rows = np.random.default_rng(0).normal(size=(2000, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
    detector = AnomalyDetector().fit(rows[:1000])
    assert 0.002 < (detector.predict(rows[1000:]) == -1).mean() < 0.03


def test_the_order_of_the_training_rows_does_not_matter():
    rows = np.random.default_rng(0).normal(size=(4000, 4)) * np.repeat([1, 4], [3000, 1000])[:, None]
    shuffled = np.random.default_rng(1).permutation(rows)
    offsets = [AnomalyDetector().fit(each).offset_ for each in (rows, shuffled)]
    assert offsets[0] == pytest.approx(offsets[1], rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "factor", "offset"),
    [({}, 1e20, 0), ({}, 1e-20, 0), ({}, 1, 1e8), ({"image_shape": (3, 10, 1)}, 1e-3, 1e4)],
)
def test_scores_do_not_depend_on_the_unit_and_the_offset(arguments, factor, offset):
    scores = AnomalyDetector(**arguments).fit(NORMAL).score_samples(UNSEEN)
    others = AnomalyDetector(**arguments).fit(factor * NORMAL.astype(float) + offset)
    np.testing.assert_allclose(others.score_samples(factor * UNSEEN.astype(float) + offset), scores, rtol=1e-3)


def test_huge_values_and_constant_features(of_rows):
    huge = NORMAL[:3].copy()
    huge[:, 0] = [1e12, 1e25, 3e38]
    assert np.isfinite(of_rows.decision_function(huge)).all()
    np.testing.assert_array_equal(of_rows.predict(huge), -1)
    maps = of_rows.score_map(huge)
    assert np.isfinite(maps).all()
    assert (maps[:, 0] >= maps[:, 1:].max(axis=1)).all()
    constant = AnomalyDetector().fit(np.full((20, 3), 7.0))
    np.testing.assert_array_equal(constant.predict([[7, 7, 7], [7, 7, 8]]), [1, -1])


def test_maps_show_the_feature_and_the_pixel(of_rows, of_images):
    row = NORMAL[:2].copy()
    row[:, 3] += 20
    maps = of_rows.score_map(row)
    assert maps.shape == (2, 30)
    assert (maps.argmax(axis=1) == 3).all()
    image = DIGITS[LABELS == 1][:1].reshape(1, 8, 8).copy()
    image[0, :3, :3] = 16
    maps = of_images.score_map(image.reshape(1, 64))
    assert maps.shape == (1, 8, 8)
    assert maps[0, :4, :4].mean() > 2 * maps[0, 4:, 4:].mean()


@pytest.mark.slow
def test_a_trained_detector_is_the_same_for_an_int_and_changes_no_global_state():
    detector = AnomalyDetector(2, hidden_layer_sizes=(32,), epochs=2, random_state=3)
    before = random.getstate(), np.random.get_state()[1].tolist()
    scores = detector.fit(DIGITS[:200]).score_samples(DIGITS[:20])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert detector.autoencoder_.levels[0].units == [32, 2]
    np.testing.assert_array_equal(clone(detector).fit(DIGITS[:200]).score_samples(DIGITS[:20]), scores)
    assert np.abs(AnomalyDetector(2).fit(DIGITS[:200]).score_samples(DIGITS[:20]) - scores).max() > 1e-2


@pytest.mark.slow
def test_a_network_of_images_is_trained():
    rows = DIGITS[:40]
    detectors = [AnomalyDetector(image_shape=(8, 8, 1), epochs=epochs, random_state=0).fit(rows) for epochs in (0, 1)]
    weights = [detector.autoencoder_.levels[0].encoder.get_weights() for detector in detectors]
    assert any(np.abs(first - second).max() > 1e-6 for first, second in zip(*weights, strict=True))
    assert detectors[1].score_samples(rows[:3]).shape == (3,)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["of_rows", "of_images"])
def test_pickle_joblib_and_clones_of_detectors(name, request, tmp_path):
    detector = request.getfixturevalue(name)
    rows = UNSEEN[:40] if name == "of_rows" else DIGITS[:40]
    scores = detector.score_samples(rows)
    joblib.dump(detector, tmp_path / "detector.joblib")
    for copy in (pickle.loads(pickle.dumps(detector)), joblib.load(tmp_path / "detector.joblib")):
        np.testing.assert_allclose(copy.score_samples(rows), scores, rtol=1e-6)
        assert copy.offset_ == detector.offset_ == -copy.detector_.threshold
        assert copy.detector_.stack is copy.autoencoder_.stack
    assert clone(detector).get_params() == detector.get_params()
    assert not hasattr(clone(detector), "detector_")


def test_a_detector_in_a_pipeline_and_a_grid_search():
    model = make_pipeline(StandardScaler(), AnomalyDetector())
    rows = CANCER[IS_BENIGN == 1]
    assert roc_auc_score(IS_BENIGN, model.fit(rows).score_samples(CANCER)) > 0.9
    assert set(model.predict(CANCER)) == {-1, 1}
    search = GridSearchCV(
        model,
        {"anomalydetector__n_components": [2, 15]},
        scoring="roc_auc",
        cv=[(np.flatnonzero(IS_BENIGN), [*range(569)])],
        error_score="raise",
    )
    search.fit(CANCER, IS_BENIGN)  # a split, so that the training rows are normal
    expected = roc_auc_score(IS_BENIGN, search.best_estimator_.fit(rows).decision_function(CANCER))
    assert search.best_score_ == pytest.approx(expected)


@pytest.mark.parametrize(
    ("mistake", "message", "remedy"),
    [
        ({"contamination": 0.6}, r'must be "auto", or a number.* Received: contamination=0.6', {"contamination": 0.5}),
        ({"contamination": 0}, r"at most 0.5, such as 0.01", {"contamination": 0.01}),
        ({"contamination": "1%"}, r"Received: contamination='1%'", {"contamination": "auto"}),
        ({"n_components": 65}, r"at most the number of features. Received: n_components=65", {"n_components": 64}),
        ({"epochs": -1}, r"`epochs` must be a whole number of at least 0", None),
        ({"batch_size": 0}, r"`batch_size` must be a whole number of at least 1", None),
        ({"hidden_layer_sizes": (0,)}, r"`hidden_layer_sizes` must be a whole", None),
        (
            {"n_components": 4, "image_shape": (8, 8, 1)},
            r"`n_components` can't be combined with `image_shape`.* Received: n_components=4",
            {"n_components": 4},
        ),
        (
            {"hidden_layer_sizes": (9,), "image_shape": (8, 8, 1)},
            r"`hidden_layer_sizes` can't be combined with `image_shape`",
            {"image_shape": (8, 8, 1)},
        ),
        ({"image_shape": (8, 8)}, r"must be \(height, width, channels\).*n_features=64", {"image_shape": (8, 8, 1)}),
        ({"image_shape": (2, 8, 4)}, r"at least 3 pixels high and wide. Leave out `image_shape`", {}),
    ],
)
def test_mistakes_in_arguments_of_the_detector_are_explained(mistake, message, remedy):
    rows = DIGITS[:20]
    remedies = [] if remedy is None else [lambda: AnomalyDetector(**remedy).fit(rows)]
    check_advice(lambda: AnomalyDetector(**mistake).fit(rows), message, remedies)


def test_too_few_rows_are_explained():
    with pytest.raises(ValueError, match=r"9 sample\(s\).*a minimum of 10 is required by AnomalyDetector"):
        AnomalyDetector().fit(DIGITS[:9])
    assert AnomalyDetector().fit(DIGITS[:10]).predict(DIGITS[:3]).shape == (3,)
