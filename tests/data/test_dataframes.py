import re

import keras
import numpy as np
import pandas as pd
import polars
import pytest
import scipy.sparse

from stacked_autoencoder import Autoencoder, DenseLevel
from stacked_autoencoder.data import dataframes
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.levels.stack import Stack
from tests.conftest import run_elsewhere

RNG = np.random.default_rng(0)
COUNT = 40
FRAME = pd.DataFrame(
    {
        "float": RNG.normal(size=COUNT),
        "integer": RNG.integers(-9, 999, COUNT),
        "byte": RNG.integers(0, 256, COUNT).astype(np.uint8),
        "flag": RNG.random(COUNT) < 0.5,
        "Int64": pd.array(RNG.integers(0, 9, COUNT), dtype="Int64"),
        "boolean": pd.array(RNG.random(COUNT) < 0.5, dtype="boolean"),
    }
)
VALUES = np.column_stack([FRAME[name].to_numpy(np.float32) for name in FRAME])


def taken(images, shape, missing="error"):
    """The source that a stack for such a shape makes of what it is given."""
    return as_source(images, **Stack(shape, missing=missing).source_options)


def with_gaps():
    frame = FRAME.copy()
    frame.loc[3, "float"] = np.nan
    frame.loc[5, ["Int64", "boolean"]] = pd.NA
    return frame


def as_polars(frame):
    return polars.DataFrame({name: [None if pd.isna(cell) else cell for cell in frame[name]] for name in frame})


@pytest.mark.parametrize("convert", [lambda frame: frame, as_polars], ids=["pandas", "polars"])
def test_columns_of_a_table_are_numbers(convert):
    (batch,) = taken(convert(FRAME), (6,)).in_order(100)
    np.testing.assert_array_equal(batch, VALUES)
    assert batch.dtype == np.float32


@pytest.mark.parametrize("convert", [lambda frame: frame, as_polars], ids=["pandas", "polars"])
def test_empty_cells_are_missing(convert):
    (batch,) = taken(convert(with_gaps()), (6,), missing="ignore").in_order(100)
    expected = VALUES.copy()
    expected[3, 0] = expected[5, 4] = expected[5, 5] = np.nan
    np.testing.assert_array_equal(batch, expected)


@pytest.mark.parametrize(("code", "count"), [("images.dropna()", 38), ("images.astype('float32').fillna(0)", 40)])
def test_the_advice_for_empty_cells_works(code, count):
    with pytest.raises(
        ValueError, match=r"columns 'float', 'Int64', 'boolean'.*`missing=\"ignore\"`.*in 2 of 40 rows"
    ) as caught:
        taken(with_gaps(), (6,))
    assert f"`{code}`" in str(caught.value)
    assert len(taken(eval(code, {"images": with_gaps()}), (6,))) == count


@pytest.mark.parametrize(
    "code", ["images.fill_nan(None).drop_nulls()", "images.cast(float).fill_nan(None).fill_null(0)"]
)
def test_the_advice_for_empty_cells_works_in_polars(code):
    table = as_polars(with_gaps())
    with pytest.raises(ValueError, match=re.escape(f"`{code}`")):
        taken(table, (6,))
    taken(eval(code, {"images": table}), (6,))


DATES = pd.date_range("2020-01-01", periods=COUNT)
OTHERS = {
    "text": ({"kind": ["red", "green"] * 20}, "pd.get_dummies(images, columns=['kind'], dtype=float)", 8),
    "category": ({"kind": pd.Categorical(["a", "b"] * 20)}, "pd.get_dummies(images, columns=['kind'], dtype=float)", 8),
    "dates": ({"day": DATES}, "images.assign(**{'day': images['day'].astype('int64')})", 7),
    "dates with a zone": (
        {"day": DATES.tz_localize("UTC")},
        "images.assign(**{'day': images['day'].astype('int64')})",
        7,
    ),
    "durations": ({"took": DATES - DATES[0]}, "images.assign(**{'took': images['took'].astype('int64')})", 7),
    "text and dates": (
        {"kind": ["red", "green"] * 20, "day": DATES},
        "pd.get_dummies(images.assign(**{'day': images['day'].astype('int64')}), columns=['kind'], dtype=float)",
        9,
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_columns_of_something_else_are_named_and_the_advice_works(name):
    columns, code, features = OTHERS[name]
    frame = FRAME.assign(**columns)
    drop = f"images.drop(columns={list(columns)!r})"
    named = ", ".join(f"'{column}'" + r" \(.*\)" for column in columns)
    with pytest.raises(ValueError, match=named) as caught:
        taken(frame, (7,))
    for advice, count in ((code, features), (drop, 6)):
        assert f"`{advice}`" in str(caught.value)
        source = taken(eval(advice, {"pd": pd, "images": frame}), (count,))
        assert len(source) == COUNT


def test_text_in_polars_is_named_and_the_advice_works():
    table = as_polars(FRAME.assign(kind=["red", "green"] * 20))
    with pytest.raises(ValueError, match=r"'kind' \(String\).*`images.to_dummies\(\['kind'\]\)`"):
        taken(table, (7,))
    assert len(taken(table.to_dummies(["kind"]), (8,))) == COUNT


def test_a_table_for_a_stack_of_images_gets_the_reshaping_that_works():
    frame = pd.DataFrame(RNG.uniform(-1, 1, (5, 48)))
    code = "images.to_numpy('float32').reshape(5, 4, 4, 3)"
    with pytest.raises(ValueError, match=re.escape("`shape=(48,)`") + ".*" + re.escape(f"`{code}`")):
        taken(frame, (4, 4, 3))
    assert len(taken(eval(code, {"images": frame}), (4, 4, 3))) == 5
    assert len(taken(frame, (48,))) == 5


@pytest.mark.filterwarnings("ignore:Some columns of `images` vary less:UserWarning")
def test_a_stack_trains_on_a_table_with_empty_cells():
    sae = Autoencoder(shape=(6,), levels=[DenseLevel(4)], missing="ignore")
    (history,) = sae.train(with_gaps(), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert np.isfinite(sae.encode(with_gaps())).all()


# === Sparse matrices ===

DENSE = (RNG.random((70, 30)) * (RNG.random((70, 30)) < 0.1)).astype(np.float32)
FORMATS = [scipy.sparse.csr_matrix, scipy.sparse.csr_array, scipy.sparse.coo_array, scipy.sparse.csc_matrix]


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("dtype", ["float64", "int64", "uint8", "bool"])
def test_sparse_rows_are_those_of_the_dense_matrix(make, dtype):
    matrix = np.ceil(DENSE).astype(dtype)
    source, dense = taken(make(matrix), (30,)), taken(matrix.astype(np.float32), (30,))
    for method in ("in_order", "batches"):
        sparse, expected = (np.concatenate(list(getattr(each, method)(16))) for each in (source, dense))
        np.testing.assert_array_equal(sparse, expected)
    assert [block.fingerprint() for block in source.blocks(32)] == [block.fingerprint() for block in dense.blocks(32)]
    assert source.describe() == dense.describe()


def test_sparse_rows_train_as_dense_ones_and_only_batches_are_made_dense(monkeypatch, tmp_path):
    shapes, take = [], dataframes.SparseRows.__getitem__

    def seen(self, rows):
        dense = take(self, rows)
        shapes.append(dense.shape)
        return dense

    monkeypatch.setattr(dataframes.SparseRows, "__getitem__", seen)
    monkeypatch.setattr("stacked_autoencoder.data.array.CHECKED_AT_ONCE", 16 * 30)
    losses = []
    for images in (DENSE, scipy.sparse.csr_array(DENSE)):
        keras.utils.set_random_seed(0)
        sae = Autoencoder(shape=(30,), levels=[DenseLevel(6)])
        (history,) = sae.train(images, epochs=2, batch_size=16, verbose=0)
        losses.append(history.history["loss"])
    assert losses[0] == losses[1]
    assert max(shape[0] for shape in shapes if len(shape) == 2) == 16
    store = sae.encode_to(tmp_path / "store", images, shard_size=16, dtype="float32", verbose=0)
    np.testing.assert_allclose(store[:], sae.encode(DENSE), atol=1e-5)


def test_sparse_values_that_are_not_finite_are_refused_and_the_advice_works():
    matrix = scipy.sparse.csr_array(DENSE)
    matrix.data[[0, 5]] = np.nan
    code = "images.tocsr()[np.isfinite(np.ravel(images.sum(axis=1)))]"
    with pytest.raises(ValueError, match=re.escape(f"`{code}`") + ".*Received: 2 such values"):
        taken(matrix, (30,))
    assert 68 <= len(taken(eval(code, {"np": np, "images": matrix}), (30,))) < 70
    assert len(taken(matrix, (30,), missing="ignore")) == 70


def test_a_sparse_matrix_for_sequences_gets_the_reshaping_that_works():
    matrix = scipy.sparse.csr_matrix(DENSE)
    code = "images.toarray().reshape(70, 10, 3)"
    with pytest.raises(ValueError, match=re.escape(f"`{code}`")):
        taken(matrix, (10, 3))
    assert len(taken(eval(code, {"images": matrix}), (10, 3))) == 70


def test_no_library_of_tables_is_imported():
    program = "import sys, stacked_autoencoder; print(sorted({'pandas', 'polars', 'scipy'} & set(sys.modules)))"
    assert run_elsewhere(program).strip() == "[]"
