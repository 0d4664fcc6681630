import datetime

import numpy as np
import pytest

from stacked_autoencoder.store.writer import labels_record
from stacked_autoencoder.utils.labels import as_labels

WRONG = {
    "one label": (3, r"one label per image\. Received: a single label, 3"),
    "a text": ("cat", r"one label per image\. Received: a single label, cat"),
    "none": ([None, 1], r"The labels must be numbers or texts, all of one kind.*Received: NoneType, int"),
    "texts and numbers": (["1", 1], r"numbers or texts, all of one kind.*Received: int, str"),
    "texts and numbers by name": ({"a": ["1", 1]}, r"The labels 'a' must be numbers or texts"),
    "several lengths": ([[1], [1, 2]], r"must all have one shape.*Received: list of several shapes"),
    "objects": ([{1}, {2}], r"all of one kind and shape.*Received: set"),
    "dates": (
        np.array([datetime.date(2020, 1, 1)] * 2, "datetime64[D]"),
        r"`\.astype\(str\)` makes texts.*datetime64",
    ),
    "huge numbers": ([10**30, 1], r"must be numbers, booleans or texts.*Received: dtype=object"),
    "no UTF-8": ([b"\xff", b"a"], r"must be UTF-8: decode them.*`\[label\.decode\('latin-1'\) for label in labels\]`"),
    "names that are numbers": ({1: [1, 2]}, r"Names of labels must be texts.*Received: labels with the names \[1\]"),
    "no names": ({}, r"Names of labels must be texts, at least one"),
    "other names": ([{"a": 1}, {"b": 1}], r"the same names for all.*\{'a': 1\} for image 0, \{'b': 1\} for image 1"),
    "tuples of several lengths": ([(1, 2), (1,)], r"the same names for all.*\(1, 2\) for image 0, \(1,\) for image 1"),
    "too few of a name": ({"a": [1, 2], "b": [1]}, r"one label per image\. Received: 2 images, 1 labels 'b'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_labels_are_errors(name):
    labels, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        as_labels(labels, 2)


def test_the_advice_works():
    assert as_labels([label.decode("latin-1") for label in [b"\xff", b"a"]], 2).tolist() == ["ÿ", "a"]
    dates = np.array(["2020-01-01", "2020-01-02"], "datetime64[D]")
    assert as_labels(dates.astype(str), 2).tolist() == ["2020-01-01", "2020-01-02"]


def test_a_text_that_would_fill_the_memory_of_readers_is_reported():
    labels = np.array(["a" * 10**5] + ["b"] * 79)
    with pytest.raises(ValueError, match=r"labels of shard 3 can't be stored: one label is far longer"):
        labels_record(labels, 3)
    short = [label[:100] for label in labels.tolist()]  # converted, as the message advises
    assert labels_record(np.array(short), 3) == {"labels": short}
    assert labels_record(None, 3) == {}
