"""DataFrames and sparse matrices as rows of numbers, by what they can do: no library of tables is imported."""

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
    """The rows of a DataFrame.

    Args:
        table: columns of numbers or booleans, nullable or not. All of them are taken as numbers: `uint8` isn't scaled.
        shape: of what the model was made for.
        missing: what to do with empty cells: `"error"` or `"ignore"`.

    Returns:
        `(rows, columns)` float32, NaN in empty cells.

    Raises:
        ValueError: the model wants no rows, or a column holds something else than numbers. The message says which, and
            how to encode it.
    """
    _check_is_of_rows("table", len(table.columns), len(table), shape, "images.to_numpy('float32')", table)
    dtypes = dict(enumerate(table.dtypes))
    others = {index: dtype for index, dtype in dtypes.items() if not _is_numeric(dtype)}
    is_pandas = hasattr(table, "iloc")
    if others:
        names = [table.columns[index] for index in others]
        found = ", ".join(f"{table.columns[index]!r} ({dtype})" for index, dtype in others.items())
        if is_pandas:
            dates = [name for name, dtype in zip(names, others.values(), strict=True) if _is_date(dtype)]
            texts = [name for name in names if name not in dates]
            steps = "".join(f".assign(**{{{name!r}: images[{name!r}].astype('int64')}})" for name in dates)
            encode = f"pd.get_dummies(images{steps}, columns={texts!r}, dtype=float)" if texts else f"images{steps}"
            drop = f"images.drop(columns={names!r})"
        else:
            encode, drop = f"images.to_dummies({names!r})", f"images.drop({names!r})"
        raise ValueError(
            f"The columns of a table must be numbers or booleans, and {printable(found, 300)} "
            f"{'is' if len(names) == 1 else 'are'} not. Encode them as numbers with `{encode}`, or leave them out with "
            f"`{drop}`; make the Autoencoder for as many columns as there are then. "
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
    """A sparse matrix that gives its rows as an array would: dense and float32, those alone that are asked for.

    Args:
        matrix: `(rows, columns)`, of any format and numeric dtype.
        shape: of what the model was made for.
        missing: as in `Source`; only NaN that the matrix holds counts, what it doesn't hold is zero.

    Raises:
        ValueError: the model wants no rows, or the matrix holds values that aren't finite.
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
                "The sparse matrix holds NaN or infinite values, which would spoil every weight of the model. "
                "`images.tocsr()[np.isfinite(np.ravel(images.sum(axis=1)))]` keeps the rows without. "
                f"Received: {int(bad.sum())} such values"
            )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """`(columns,)` of one row, `(n, columns)` of several."""
        is_one = isinstance(rows, (int, np.integer))
        if is_one and not -len(self) <= rows < len(self):
            raise IndexError(f"There are {len(self)} rows. Received: {rows}")
        dense = self.rows[[rows] if is_one else rows].toarray().astype(np.float32, copy=False)
        return dense[0] if is_one else dense


def _check_is_of_rows(what: str, columns: int, rows: int, shape: Shape, dense: str, received: Any) -> None:
    """Raises `ValueError` if the model is for something else than rows, with the reshaping that helps if one does."""
    if len(shape) == 1:
        return
    advice = f"Make the Autoencoder with `shape=({columns},)` and `levels=[DenseLevel(…)]`"
    if None not in shape and np.prod(shape) == columns:
        sides = ", ".join(map(str, (rows, *shape)))
        advice += f", or give the rows as {described(shape)} with `{dense}.reshape({sides})`"
    raise ValueError(
        f"A {what} holds rows of numbers, and the model was made for {described(shape)}. {advice}. "
        f"Received: {type(received).__name__} of {rows} rows and {columns} columns"
    )


def _is_numeric(dtype: Any) -> bool:
    if hasattr(dtype, "kind"):  # of numpy and pandas
        return dtype.kind in "biuf"
    return dtype.is_numeric() or str(dtype) == "Boolean"  # of polars


def _is_date(dtype: Any) -> bool:
    return getattr(dtype, "kind", "") in ("M", "m")
