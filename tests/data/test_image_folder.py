import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageOps

from stacked_autoencoder import Autoencoder, ImageFolder
from stacked_autoencoder.data.adapters import as_source

ANY = (None, None, 3)


def draw(path: Path, number: int = 0, height: int = 8, width: int = 12) -> Path:
    """A picture of one colour, whose number can be read again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "PNG" if path.suffix in (".png", "") else None
    Image.new("RGB", (width, height), (number, 100, 200)).save(path, "JPEG" if path.suffix == ".jfif" else kind)
    return path


def numbers(source) -> list[int]:
    return [int(image[0, 0, 0]) for batch in as_source(source, ANY).in_order(8, scale=False) for image in batch]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The current folder, with pictures number 1 to 4 in two folders of `photos`."""
    for number, name in enumerate(("cats/a.png", "cats/b.png", "dogs/a.png", "dogs/c.png"), 1):
        draw(tmp_path / "photos" / name, number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# === Listing ===


def test_links_to_folders_are_followed_and_each_folder_is_listed_once(here):
    draw(here / "elsewhere" / "birds" / "e.png")
    links = {"birds": "../elsewhere/birds", "again": "../elsewhere/birds", "also cats": "cats", "loop": ".."}
    for name, target in links.items():
        (here / "photos" / name).symlink_to(target)
    (here / "elsewhere" / "birds" / "back").symlink_to(here / "photos")
    images = ImageFolder("photos", labels=True)
    assert images.names == ["again/e.png", "cats/a.png", "cats/b.png", "dogs/a.png", "dogs/c.png"]
    assert images.class_names == ["again", "cats", "dogs"]


def test_a_link_to_a_folder_that_is_gone_is_reported(here):
    (here / "photos" / "birds").symlink_to("nowhere")
    with pytest.warns(UserWarning, match=r"cannot be listed: photos/birds \(No such file or directory\)"):
        assert len(ImageFolder("photos")) == 4


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPE"])
def test_suffixes_of_jpeg_files(here, suffix):
    draw(here / "photos" / "e.jpg").rename(here / "photos" / f"e{suffix}")
    assert f"e{suffix}" in ImageFolder("photos").names
    assert len(as_source("photos", ANY).folder) == 5


def test_files_that_are_no_pictures_are_counted_by_suffix(here):
    for name in ("notes.txt", "cats/more.TXT", "labels.csv", "README", ".hidden", "cats/._a.png"):
        (here / "photos" / name).write_bytes(b"?")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = ImageFolder("photos")
    assert images.ignored == {".txt": 2, ".csv": 1, "": 1}
    assert repr(images) == "ImageFolder('photos'): 4 pictures, 2 .txt, 1 without suffix, 1 .csv ignored"


@pytest.mark.parametrize("suffix", [".heic", ".avif", ".jp2", ".psd", ".svg", ".CR2"])
def test_pictures_of_kinds_that_cannot_be_read_are_named_once(here, suffix):
    for name in ("e", "cats/f"):
        (here / "photos" / f"{name}{suffix}").write_bytes(b"?")
    with pytest.warns(UserWarning, match=rf"formats that can't be read: 2 \{suffix.lower()}\. Convert them") as caught:
        images = ImageFolder("photos")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert images.ignored == {suffix.lower(): 2}


def test_a_folder_of_other_kinds_says_what_is_in_it(here):
    (here / "scans").mkdir()
    for index in range(3):
        (here / "scans" / f"{index}.heic").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"No pictures \(.*\.png.*There are other files, 3 \.heic: convert them"):
        ImageFolder("scans")


@pytest.mark.parametrize("make", [str, Path, lambda path: [path], lambda path: [path + "/cats", path + "/dogs"]])
def test_a_tilde_is_the_home_folder(here, monkeypatch, make):
    monkeypatch.setenv("HOME", str(here))
    assert ImageFolder(make("~/photos")).names == ["cats/a.png", "cats/b.png", "dogs/a.png", "dogs/c.png"]
    assert numbers(make("~/photos")) == [1, 2, 3, 4]


# === Files, lists and tables ===

PATHS = {
    "one path": "photos/dogs/c.png",
    "one Path": Path("photos/dogs/c.png"),
    "a list": ["photos/dogs/c.png", "photos/cats/a.png"],
    "a list of Paths": [Path("photos/dogs/c.png"), Path("photos/../photos/cats/a.png")],
    "a tuple": ("photos/dogs/c.png", "photos/cats/a.png"),
    "an array": np.array(["photos/dogs/c.png", "photos/cats/a.png"]),
    "an array of objects": np.array(["photos/dogs/c.png", Path("photos/cats/a.png")], dtype=object),
    "files and folders": ["photos/dogs/c.png", "photos/cats"],
}
EXPECTED = {"one path": [4], "one Path": [4], "files and folders": [4, 1, 2]}


@pytest.mark.parametrize("kind", PATHS)
def test_paths_work_wherever_a_folder_does_in_their_order(here, kind):
    expected = EXPECTED.get(kind, [4, 1])
    assert numbers(PATHS[kind]) == expected
    assert numbers([here / "photos/dogs/c.png", "photos/cats/a.png"]) == [4, 1]
    images = ImageFolder(PATHS[kind])
    assert [(images.path / name).resolve() for name in images.names] == [
        (here / "photos" / ("", "cats/a.png", "cats/b.png", "dogs/a.png", "dogs/c.png")[number]).resolve()
        for number in expected
    ]


def test_a_stack_trains_on_and_encodes_paths(here, tmp_path):
    sae = Autoencoder(size=4, n_out=4)
    sae.train(["photos/cats/a.png", "photos/dogs/a.png"], epochs=1, verbose=0)
    assert sae.encode("photos/cats/a.png").shape == (1, 2, 3, 4)
    store = sae.encode_to(tmp_path / "store", ["photos/dogs/a.png", "photos/cats/a.png"], verbose=0)
    assert store.names == ["dogs/a.png", "cats/a.png"]


def test_a_picture_without_suffix_is_read_by_its_content(here):
    draw(here / "3fa9", 7)
    assert numbers(["3fa9"]) == [7]


WRONG_PATHS = {
    "missing": (
        ["photos/cats/a.png", "x.png", "y.png"],
        FileNotFoundError,
        r"2 of 3 do not exist: 'x\.png', 'y\.png'\. Relative paths start at '.*'\. Leave out those",
    ),
    "many missing": ([f"{index}.png" for index in range(9)], FileNotFoundError, r"9 of 9.*'2\.png' and 6 more"),
    "text": (
        ["cat", "dog"],
        FileNotFoundError,
        r"A list of text is read as paths of pictures, but 2 of 2 do not exist",
    ),
    "array of text": (np.array(["a"]), FileNotFoundError, r"A list of text is read as paths"),
    "one missing": (
        "photos/none.png",
        FileNotFoundError,
        r"This folder or file does not exist, and relative paths start at.*none\.png'",
    ),
    "no picture": ("notes.txt", ValueError, r"1 of 1 files are not pictures by their names: '.*notes\.txt'.*\.webp"),
    "some no pictures": (
        ["photos/cats/a.png", "notes.txt"],
        ValueError,
        r"1 of 2 files are not pictures.*'notes\.txt'",
    ),
    "not only paths": (
        ["photos/cats/a.png", None],
        ValueError,
        r"must hold only paths\. Leave out.*Received: None at index 1",
    ),
    "twice": (["photos/cats/a.png"] * 2, ValueError, r"1 are listed more than once: 'a\.png'"),
    "in its folder": (["photos", "photos/cats/a.png"], ValueError, r"listed more than once: 'cats/a\.png'"),
}


@pytest.mark.parametrize("kind", WRONG_PATHS)
def test_wrong_paths_get_an_error_that_says_so(here, kind):
    (here / "notes.txt").write_text("?")
    paths, error, message = WRONG_PATHS[kind]
    for take in (lambda: ImageFolder(paths), lambda: as_source(paths, ANY)):
        with pytest.raises(error, match=message):
            take()


@pytest.mark.parametrize("nothing", [[], None, 3, [1.0]])
def test_what_holds_no_paths_is_no_folder(nothing):
    with pytest.raises(ValueError, match=r"`path` must be the path of a folder, a picture or a CSV file"):
        ImageFolder(nothing)


class Frame(SimpleNamespace):
    """What is used of a pandas DataFrame, which this project doesn't need."""

    def __init__(self, **columns):
        super().__init__(columns=list(columns), held={name: np.asarray(each) for name, each in columns.items()})

    def __getitem__(self, name):
        return self.held[name]


FILES = ["dogs/c.png", "cats/a.png", "cats/b.png"]
COLUMNS = {"id": [7, 8, 9], "file": FILES, "kind": ["dog", "cat", "cat"], "age": [3.5, 1.0, 2.0]}


def write_csv(path: Path, separator: str = ",", start: str = "") -> Path:
    rows = [COLUMNS, *zip(*COLUMNS.values(), strict=True)]
    path.write_text(start + "\n".join(separator.join(map(str, row)) for row in rows) + "\n\n", encoding="utf-8")
    return path


TABLES = {
    "CSV": lambda: write_csv(Path("photos/table.csv")),
    "CSV of Excel": lambda: str(write_csv(Path("photos/table.CSV"), ";", "\ufeff")),
    "TSV": lambda: write_csv(Path("photos/table.tsv"), "\t"),
    "dict": lambda: COLUMNS,
    "frame": lambda: Frame(**COLUMNS),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_give_pictures_in_their_order_with_labels(here, kind):
    table, root = TABLES[kind](), {} if "SV" in kind else {"root": "photos"}
    images = ImageFolder.from_table(table, path="file", label="kind", side=6, **root)
    assert images.names == FILES
    assert numbers(images) == [4, 1, 2]
    assert images.labels.tolist() == ["dog", "cat", "cat"]
    several = ImageFolder.from_table(table, label=["kind", "age", "id"], **root)
    assert list(several.labels) == ["kind", "age", "id"]
    assert several.labels["id"].dtype == np.int64
    assert several.labels["age"].tolist() == [3.5, 1.0, 2.0]
    assert ImageFolder.from_table(table, **root).labels is None


def test_tables_passed_plainly_use_their_column_of_paths(here):
    assert numbers(write_csv(here / "photos" / "table.csv")) == [4, 1, 2]
    os.chdir("photos")
    assert numbers(Frame(**COLUMNS)) == [4, 1, 2]
    assert numbers(Frame(**COLUMNS)["file"]) == [4, 1, 2]


def test_labels_of_a_table_follow_what_could_be_read(here):
    for number in range(5, 45):
        draw(here / "photos" / f"{number}.png", number)
    names = [f"{number}.png" for number in range(5, 45)]
    (here / "photos" / "7.png").write_bytes(b"?")
    table = {"path": names, "label": range(5, 45), "text": [*map(str, range(5, 45))]}
    images = ImageFolder.from_table(table, label=["label", "text"], root="photos")
    with pytest.warns(UserWarning, match="1 of 40"):
        read = numbers(images)
    assert read == images.labels["label"].tolist() == [int(text) for text in images.labels["text"]]
    assert len(read) == len(images) == 39


def test_codes_with_zeros_in_front_stay_text(here):
    Path("t.csv").write_text("path,code\nphotos/cats/a.png,007\nphotos/cats/b.png,012\n", encoding="utf-8")
    assert ImageFolder.from_table("t.csv", label="code").labels.tolist() == ["007", "012"]


WRONG_TABLES = {
    "no such column": ({"path": "files"}, COLUMNS, r"`path` must name columns.*did you mean 'file'\?.*path='files'"),
    "no such label": ({"label": "sort"}, COLUMNS, r"`label` must name columns of the table.*Received: label='sort'"),
    "missing files": (
        {},
        {"file": ["cats/a.png", "x.png"]},
        r"Column 'file' is read as paths of pictures, but 1 of 2 do not exist: 'x\.png'",
    ),
    "no paths": ({}, {"kind": ["cat", "dog"]}, r"No column of this table holds paths.*from_table.*\['kind'\]"),
    "no label": (
        {"label": "kind"},
        {"file": FILES[:2], "kind": ["cat", None]},
        r"no label in 1 of 2 rows, first in row 1",
    ),
    "NaN": ({"label": "age"}, {"file": FILES[:2], "age": [np.nan, 1]}, r"no label in 1 of 2 rows, first in row 0"),
    "mixed": (
        {"label": "kind"},
        {"file": FILES[:2], "kind": ["cat", 3]},
        r"all be numbers or all be texts.*Received: int, str",
    ),
    "no table": ({}, 3, r"`table` must be the path of a CSV file, a DataFrame or a dict of columns.*a int"),
    "two kinds of labels": ({"label": "kind", "labels": True}, COLUMNS, r"pass only one of the two.*label='kind'"),
}


@pytest.mark.parametrize("kind", WRONG_TABLES)
def test_wrong_tables_get_an_error_that_says_so(here, kind):
    arguments, table, message = WRONG_TABLES[kind]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ImageFolder.from_table(table, root="photos", **arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photos/cats/a.png,1\nphotos/cats/b.png,2\n", r"this one holds a picture: insert a line"),
        ("path,label\nphotos/cats/a.png\n", r"2 columns.*Received: 1 values in line 2"),
        ("path,path\nphotos/cats/a.png,1\n", r"different column names in its first line"),
        ("path\n", r"one row per picture below it"),
        ("", r"one row per picture below it"),
    ],
)
def test_files_that_are_no_tables_of_pictures(here, text, message):
    Path("t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        ImageFolder("t.csv")


def test_tables_that_are_no_text(here):
    Path("t.csv").write_bytes(b"path\n\xff\xfe")
    with pytest.raises(ValueError, match=r"This is not a CSV file in UTF-8.*Save it as UTF-8"):
        ImageFolder("t.csv")


# === Sizes ===


def striped(path: Path, height: int, width: int) -> np.ndarray:
    """A smooth picture that differs in all directions."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * y / height, 255 * x / width, 0 * x + 128], -1).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


SIZES = [(16, 16), (12, 32), (40, 10), (100, 200)]
FULL = (60, 90)


def by_pillow(picture: Image.Image, size, fit) -> np.ndarray:
    """What another library makes of a picture."""
    height, width = size
    if fit == "crop":
        fitted = ImageOps.fit(picture, (width, height), Image.Resampling.BOX)
    elif fit == "pad":
        fitted = ImageOps.pad(picture, (width, height), Image.Resampling.BOX)
    else:
        fitted = picture.resize((width, height), Image.Resampling.BOX)
    return np.asarray(fitted).astype(int)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", SIZES)
def test_pictures_get_the_size_by_cropping_padding_or_stretching(tmp_path, size, fit):
    striped(tmp_path / "a.png", *FULL)
    (picture,) = as_source(ImageFolder(tmp_path, size=size, fit=fit), ANY).in_order(1, scale=False)
    assert picture.shape == (1, *size, 3)
    expected = by_pillow(Image.open(tmp_path / "a.png"), size, fit)
    difference = np.abs(picture[0] - expected)
    # Where bars begin may differ by a row, and larger pictures are made by another filter.
    assert np.median(difference) <= 2
    assert np.mean(difference > 8) < 0.05


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_turned_jpeg_files_have_the_size_after_turning(tmp_path, fit):
    upright = striped(tmp_path / "a.png", 800, 500)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    png, jpeg = (
        next(as_source(ImageFolder(tmp_path / name, size=(20, 64), fit=fit), ANY).in_order(1, scale=False))
        for name in ("a.png", "a.jpg")
    )
    assert png.shape == jpeg.shape == (1, 20, 64, 3)
    assert np.abs(png.astype(int) - jpeg).max() < 16


def test_bars_are_black_and_the_picture_is_in_the_middle(tmp_path):
    Image.new("RGB", (10, 20), "white").save(tmp_path / "a.png")
    (picture,) = as_source(ImageFolder(tmp_path, size=(20, 40), fit="pad"), ANY).in_order(1, scale=False)
    expected = np.zeros((1, 20, 40, 3))
    expected[:, :, 15:25] = 255
    np.testing.assert_array_equal(picture, expected)


def test_side_is_a_square_size(here):
    assert (ImageFolder("photos", side=6).size, ImageFolder("photos", size=[6, 6]).side) == ((6, 6), 6)
    one, other = (as_source(ImageFolder("photos", **taken), ANY) for taken in ({"side": 6}, {"size": (6, 6)}))
    assert one.describe() == other.describe() == "4 pictures, ImageFolder('photos', side=6)"
    assert [block.fingerprint() for block in one.blocks(2)] == [block.fingerprint() for block in other.blocks(2)]
    padded = as_source(ImageFolder("photos", size=(6, 6), fit="pad"), ANY)
    assert next(padded.blocks(2)).fingerprint() != next(one.blocks(2)).fingerprint()


# === Classes and subsets ===


def test_class_names_choose_folders_and_number_them(here):
    images = ImageFolder("photos", labels=True, class_names=["dogs", "cats"])
    assert images.labels.tolist() == [1, 1, 0, 0]
    subset = ImageFolder("photos", labels=True, class_names=["dogs"])
    assert (subset.names, subset.labels.tolist()) == (["dogs/a.png", "dogs/c.png"], [0, 0])
    assert subset.ignored == {"cats/": 2}
    assert numbers(subset) == [3, 4]


def test_a_class_that_is_missing_in_a_test_folder_keeps_its_number(here):
    train = ImageFolder("photos", labels=True)
    draw(here / "test" / "dogs" / "e.png")
    assert ImageFolder("test", labels=True).labels.tolist() == [0]
    test = ImageFolder("test", labels=True, class_names=train.class_names)
    assert test.labels.tolist() == [1] == [train.class_names.index("dogs")]


def split(photos, share, seed, **options):
    return [
        ImageFolder(photos, validation_split=share, subset=subset, seed=seed, **options)
        for subset in ("training", "validation")
    ]


@pytest.mark.parametrize("seed", range(6))
def test_no_file_is_in_both_subsets(photos, seed):
    images = ImageFolder(photos, side=4, labels=True)
    parts = split(photos, 0.25, seed, side=4, labels=True)
    assert sorted(name for part in parts for name in part.names) == images.names
    training, validation = ({os.stat(photos / name).st_ino for name in part.names} for part in parts)
    assert not training & validation
    assert len(validation) == 5
    for part in parts:
        assert part.names == sorted(part.names)
        assert part.side == 4
        np.testing.assert_array_equal(part.labels, [name.startswith("dogs") for name in part.names])
    assert [*parts[0].skipped] == ["dogs/empty.png"]
    assert not parts[1].skipped


def test_the_seed_decides_the_split(photos):
    names = [tuple(split(photos, 0.25, seed)[1].names) for seed in (0, 0, 1, 2)]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_pictures_stay_in_their_subset_when_some_are_added(photos):
    before = split(photos, 0.5, 0)
    Image.new("RGB", (4, 4)).save(photos / "cats" / "new.png")
    after = split(photos, 0.5, 0)
    moved = sum(len(set(old.names) - set(new.names)) for old, new in zip(before, after, strict=True))
    assert moved <= 3  # the names of one file, at the border between the two


@pytest.mark.parametrize(("fraction", "expected"), [(0.001, 1), (0.999, 19)])
def test_neither_subset_is_empty(photos, fraction, expected):
    validation = split(photos, fraction, 0)[1]
    assert len({os.stat(photos / name).st_ino for name in validation.names}) == expected


def test_a_split_is_disjoint_complete_and_fixed_by_the_seed(here):
    for number in range(40):
        draw(here / "many" / ("cats", "dogs")[number % 2] / f"{number}.png", number)

    def part(subset, share=0.2, seed=0):
        return ImageFolder("many", labels=True, validation_split=share, subset=subset, seed=seed)

    training, validation = part("training"), part("validation")
    assert (len(training), len(validation)) == (32, 8)
    assert sorted(training.names + validation.names) == ImageFolder("many").names
    assert validation.names == sorted(validation.names) == part("validation").names
    assert validation.names != part("validation", seed=1).names
    assert set(validation.names) < set(part("validation", 0.5).names)
    assert training.class_names == validation.class_names
    np.testing.assert_array_equal(validation.labels, [number % 2 for number in numbers(validation)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 8}, r"`size` must be `\(height, width\)`\. Received: size=8"),
        ({"size": (8, 0)}, r"`size` must be a whole number of at least 1"),
        ({"size": (8, 8), "side": 8}, r"`side=64` means `size=\(64, 64\)`: pass only one"),
        ({"size": (8, 8), "crop": 8}, r"`size` resizes pictures and `crop`.*size=\(8, 8\), crop=8"),
        ({"side": 8, "fit": "cover"}, r"`fit` must be one of crop, pad, stretch\. Received: fit='cover'"),
        ({"fit": "pad"}, r"needs `size=\(height, width\)` as well"),
        ({"class_names": ["cats"]}, r"needs `labels=True` as well"),
        ({"labels": True, "class_names": []}, r"`class_names` must be a list of different names of folders"),
        ({"labels": True, "class_names": "cats"}, r"`class_names` must be a list of different names"),
        ({"labels": True, "class_names": ["cats", "cats"]}, r"different names of folders"),
        ({"labels": True, "class_names": ["Cats"]}, r"No picture is in a folder of.*folders are 'cats', 'dogs'"),
        ({"validation_split": 0.2}, r"must be used together.*subset=None"),
        ({"subset": "training"}, r"must be used together.*validation_split=None"),
        ({"validation_split": 0.2, "subset": "test"}, r"must be used together.*subset='test'"),
        ({"validation_split": 2, "subset": "training"}, r"must be between 0 and 1\. Received: validation_split=2"),
    ],
)
def test_invalid_arguments_are_errors(here, arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder("photos", **arguments)
