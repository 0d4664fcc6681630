"""Tables of picture files with labels: CSV files, DataFrames, and dicts of columns."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stacked_autoencoder.data.listing import AnyPath, Listing, is_path, of_paths
from stacked_autoencoder.utils.checks import did_you_mean
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.files import LARGEST_FILE, expanded, open_regular

TABLES = {".csv": ",;\t", ".tsv": "\t"}  # suffix → possible delimiters
SAMPLED = 100  # values that decide whether a column holds paths
WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")  # not 007, whose zeros would be lost
DECIMAL = re.compile(r"-?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d+)?")


def is_table_file(path: Any) -> bool:
    """Whether a path names a CSV file."""
    return is_path(path) and Path(path).suffix.lower() in TABLES and os.path.isfile(expanded(path))


def is_table(value: Any) -> bool:
    """Whether a value has named columns, like a DataFrame."""
    return hasattr(value, "columns") and hasattr(value, "__getitem__")


def holds_paths(table: Any) -> bool:
    """Whether a DataFrame has a column of paths of existing files."""
    return is_table(table) and _path_column(table, ".") is not None


def of_table(
    table: Any, path: str | None = None, label: str | Sequence[str] | None = None, root: AnyPath | None = None
) -> Listing:
    """Lists the pictures in a column of a table, in the order of its rows.

    Args:
        table: path of a CSV file with column names in its first line; a DataFrame, or a dict of columns.
        path: name of the column of paths; by default the first one that holds paths of existing files.
        label: name of a column of labels, or several names.
        root: folder that relative paths start at; by default the folder of the CSV file, else the current folder.

    Raises:
        ValueError: a column is missing or has empty cells, or the file is not a CSV file.
        FileNotFoundError: the CSV file or some of the pictures do not exist.
    """
    shown = "table"
    if is_path(table):
        shown = repr(os.fspath(table))
        root = os.path.dirname(expanded(table)) or "." if root is None else root
        table = _read(expanded(table), root)
    elif not (is_table(table) or isinstance(table, Mapping)):
        raise ValueError(
            "`table` must be the path of a CSV file, a DataFrame or a dict of columns. "
            f"Received: a {type(table).__name__}"
        )
    root = "." if root is None else root
    if path is None:
        path = _path_column(table, root)
        if path is None:
            raise ValueError(
                f"No column of this table holds paths of existing pictures, relative to {str(root)!r}. Pass the name "
                "of the column and the folder: `ImageFolder.from_table(table, path=…, root=…)`. "
                f"Received: {shown} with the columns {_names(table)}"
            )
    listing = of_paths(_column(table, "path", path), root, f"Column {path!r}")
    listing.shown = shown
    if label is None:
        return listing
    label_names = [label] if isinstance(label, str) else list(label)
    labels = {name: _labels(_column(table, "label", name), name) for name in label_names}
    wrong = [name for name, values in labels.items() if len(values) != len(listing.names)]
    if wrong:  # a dict with columns of different lengths, or a path of a folder, which stands for several pictures
        raise ValueError(
            f"A table needs one picture file and one label in each row. Received: {len(listing.names):,} pictures and "
            f"{len(labels[wrong[0]]):,} labels in column {wrong[0]!r}"
        )
    listing.labels = labels[label] if isinstance(label, str) else labels
    return listing


def _names(table: Any) -> list[Any]:
    return list(table) if isinstance(table, Mapping) else list(table.columns)


def _column(table: Any, argument: str, name: Any) -> list[Any]:
    """Returns the values of a column as plain Python values."""
    if name not in _names(table):
        near = did_you_mean(name, map(str, _names(table)))
        raise ValueError(
            f"`{argument}` must name columns of the table: {near}the table has {printable(_names(table), 300)}. "
            f"Received: {argument}={name!r}"
        )
    column = table[name]
    values = column.tolist() if hasattr(column, "tolist") else list(column)
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _path_column(table: Any, root: AnyPath) -> Any:
    """Returns the name of the first column that holds paths of existing files."""
    start = expanded(root)
    for name in _names(table):
        column = np.asarray(table[name][:SAMPLED])
        texts = column.tolist() if column.dtype.kind in "OTU" else []
        if any(is_path(text) and text and os.path.isfile(os.path.join(start, expanded(text))) for text in texts):
            return name
    return None


def _labels(values: list[Any], name: str) -> np.ndarray:
    """Converts a column to an array of numbers or texts."""
    empty = [row for row, value in enumerate(values) if _is_missing(value)]
    if empty:
        raise ValueError(
            f"Column {name!r} has no label in {len(empty):,} of {len(values):,} rows, first in row {empty[0]}. Fill "
            "the cells, or leave these rows out of the table."
        )
    kinds = {str if isinstance(value, str) else type(value) for value in values}
    if not (kinds <= {str} or kinds <= {bool} or kinds <= {int, float}):
        raise ValueError(
            f"Labels must all be numbers or all be texts. Convert column {name!r}, for example with "
            f"`table[{name!r}] = [str(label) for label in table[{name!r}]]`. "
            f"Received: {', '.join(sorted(kind.__name__ for kind in kinds))}"
        )
    return np.asarray(values)


def _is_missing(value: Any) -> bool:
    if value is None or (isinstance(value, float) and value != value) or value == "":
        return True
    return type(value).__name__ in ("NAType", "NaTType")  # pandas


# === CSV files ===


def _read(file: str, root: AnyPath) -> dict[str, np.ndarray]:
    """Reads the columns of a CSV file. A column of numbers becomes numbers, any other column texts."""
    with open_regular(file, LARGEST_FILE) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")  # Excel writes a byte order mark
        try:
            first = text.readline()
            text.seek(0)
            delimiter = max(TABLES.get(Path(file).suffix.lower(), ",;\t"), key=first.count)
            rows = [(reader.line_num, row) for reader in [csv.reader(text, delimiter=delimiter)] for row in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"This is not a CSV file in UTF-8 ({error}). Save it as UTF-8. Received: {file!r}"
            ) from None
    rows = [(line, row) for line, row in rows if row]
    header = [name.strip() for name in rows[0][1]] if rows else []
    if len(rows) < 2 or len(set(header)) < len(header):
        raise ValueError(
            "A table needs different column names in its first line, and one row per picture below it. "
            f"Received: {len(rows)} lines with the columns {printable(header, 300)} in {file!r}"
        )
    pictures = [name for name in header if name and os.path.isfile(os.path.join(expanded(root), expanded(name)))]
    if pictures:
        raise ValueError(
            "The first line of a table must hold the names of its columns, but this one holds a picture: insert a "
            f"line such as `path,label`. Received: {pictures[0]!r} in the first line of {file!r}"
        )
    uneven = [(line, len(row)) for line, row in rows if len(row) != len(header)]
    if uneven:
        line, cells = uneven[0]
        raise ValueError(
            f"Every line of a table must have a value for each of its {len(header)} columns. Put values that contain "
            f"{delimiter!r} in quotes. Received: {cells} values in line {line} of {file!r}"
        )
    columns = zip(*(row for _, row in rows[1:]), strict=True)
    return {name: _parsed([value.strip() for value in column]) for name, column in zip(header, columns, strict=True)}


def _parsed(texts: list[str]) -> np.ndarray:
    if all(WHOLE.fullmatch(text) for text in texts):
        return np.array([*map(int, texts)], np.int64)
    if all(DECIMAL.fullmatch(text) for text in texts):
        return np.array([*map(float, texts)])
    return np.array(texts)
