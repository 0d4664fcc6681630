"""DataFrames and sparse matrices as rows of numbers. Their libraries are not imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from stacked_autoencoder.utils.checks import described
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.images import Shape


def is_dataframe(data: Any) -> bool:
    """Whether this is a DataFrame of pandas or polars."""
    return all(hasattr(data, name) for name in ("to_numpy", "dtypes", "columns"))


def is_sparse(data: Any) -> bool:
    """Whether this is a sparse matrix or array of scipy."""
    return hasattr(data, "tocsr") and hasattr(data, "toarray")


def rows_of_dataframe(table: Any, shape: Shape, missing: str = "error") -> np.ndarray:
    """Converts a DataFrame to an array.

    Args:
        table: DataFrame with columns of numbers or booleans, nullable or not. `uint8` columns are not scaled.
        shape: shape of one item that the model accepts.
        missing: `"error"` if empty cells are an error, `"ignore"` if they are missing values.

    Returns:
        `(rows, columns)` float32, with NaN in empty cells.

    Raises:
        ValueError: the model was not made for vectors, or a column does not hold numbers. The message names the columns
            and code that encodes them.
    """
    _check_is_of_rows("table", len(table.columns), len(table), shape, "images.to_numpy('float32')", table)
    dtypes = dict(enumerate(table.dtypes))
    other_dtypes = {index: dtype for index, dtype in dtypes.items() if not _is_numeric(dtype)}
    is_pandas = hasattr(table, "iloc")
    if other_dtypes:
        names = [table.columns[index] for index in other_dtypes]
        named = ", ".join(f"{table.columns[index]!r} ({dtype})" for index, dtype in other_dtypes.items())
        if is_pandas:
            dates = [name for name, dtype in zip(names, other_dtypes.values(), strict=True) if _is_date(dtype)]
            texts = [name for name in names if name not in dates]
            steps = "".join(f".assign(**{{{name!r}: images[{name!r}].astype('int64')}})" for name in dates)
            encode = f"pd.get_dummies(images{steps}, columns={texts!r}, dtype=float)" if texts else f"images{steps}"
            drop = f"images.drop(columns={names!r})"
        else:
            encode, drop = f"images.to_dummies({names!r})", f"images.drop({names!r})"
        raise ValueError(
            f"The columns of a table must be numbers or booleans, but {printable(named, 300)} "
            f"{'is' if len(names) == 1 else 'are'} not. Encode them as numbers with `{encode}`, or leave them out with "
            f"`{drop}`. Then make the Autoencoder with `shape=(n,)` for the number n of columns. "
            f"Received: a table of {len(dtypes)} columns"
        )
    if is_pandas:
        values = table.to_numpy(np.float32, na_value=np.nan)
    else:
        values = np.column_stack([np.asarray(table[name].to_numpy(), np.float32) for name in table.columns])
    empty = np.flatnonzero(np.isnan(values).any(axis=0)) if missing == "error" else ()
    if len(empty):
        names = printable(", ".join(repr(table.columns[index]) for index in empty), 300)
        drop, fill = "images.dropna()", "images.astype('float32').fillna(0)"
        if not is_pandas:
            drop, fill = "images.fill_nan(None).drop_nulls()", "images.cast(float).fill_nan(None).fill_null(0)"
        raise ValueError(
            f"Cells are empty in {'column' if len(empty) == 1 else 'columns'} {names}. Make the Autoencoder with "
            f'`missing="ignore"`, which leaves them out of the loss; or pass `{drop}` or `{fill}`. '
            f"Received: a table with empty cells in {int(np.isnan(values).any(axis=1).sum())} of {len(values)} rows"
        )
    return values


class SparseRows:
    """A sparse matrix whose rows are read as an array: dense float32, and only the rows that are indexed.

    Args:
        matrix: `(rows, columns)`, of any format and numeric dtype.
        shape: shape of one item that the model accepts.
        missing: as in `rows_of_dataframe`. Only stored NaN are missing values; values that are not stored are zero.

    Raises:
        ValueError: the model was not made for vectors, or the matrix holds values that are not finite.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, matrix: Any, shape: Shape, missing: str = "error") -> None:
        self.rows = matrix.tocsr()
        columns = self.rows.shape[-1]
        _check_is_of_rows("sparse matrix", columns, self.rows.shape[0], shape, "images.toarray()", matrix)
        self.shape = self.rows.shape
        self.ndim = len(self.shape)
        bad = np.isinf(self.rows.data) if missing == "ignore" else ~np.isfinite(self.rows.data)
        if bad.any():
            raise ValueError(
                "The sparse matrix holds NaN or infinite values, which would make every weight of the model NaN. "
                "`images.tocsr()[np.isfinite(np.ravel(images.sum(axis=1)))]` keeps only the rows without them. "
                f"Received: {int(bad.sum())} such values"
            )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Returns `(columns,)` for one row, `(n, columns)` for several."""
        is_one = isinstance(rows, (int, np.integer))
        if is_one and not -len(self) <= rows < len(self):
            raise IndexError(f"There are {len(self)} rows. Received: {rows}")
        dense = self.rows[[rows] if is_one else rows].toarray().astype(np.float32, copy=False)
        return dense[0] if is_one else dense


def _check_is_of_rows(kind: str, columns: int, rows: int, shape: Shape, dense: str, received: Any) -> None:
    """Raises `ValueError` if the model was not made for vectors. The message has code that reshapes, if that helps."""
    if len(shape) == 1:
        return
    advice = f"Make the Autoencoder with `shape=({columns},)` and `levels=[DenseLevel(…)]`"
    if None not in shape and np.prod(shape) == columns:
        sides = ", ".join(map(str, (rows, *shape)))
        advice += f", or convert the rows to {described(shape)} with `{dense}.reshape({sides})`"
    raise ValueError(
        f"A {kind} holds rows of numbers, but the model was made for {described(shape)}. {advice}. "
        f"Received: {type(received).__name__} of {rows} rows and {columns} columns"
    )


def _is_numeric(dtype: Any) -> bool:
    if hasattr(dtype, "kind"):  # NumPy and pandas
        return dtype.kind in "biuf"
    return dtype.is_numeric() or str(dtype) == "Boolean"  # Polars


def _is_date(dtype: Any) -> bool:
    return getattr(dtype, "kind", "") in ("M", "m")
