"""Arguments of the command, which argparse takes or refuses without reading a file."""

import subprocess
import sys

import pytest

from stacked_autoencoder.cli.arguments import parser

TRAIN = ["train", "--save-path", "m"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--epochs", "3", "6", "photos"], [3, 6]),
        (["--epochs", "3,6", "photos"], [3, 6]),
        (["--epochs=3,6", "photos"], [3, 6]),
        (["photos", "--epochs", "3", "6"], [3, 6]),
        (["--epochs", "3", "6", "--side", "8", "photos"], [3, 6]),
        (["--epo", "3", "6", "photos"], [3, 6]),
        (["--epochs", "3", "photos"], [3]),
        (["photos"], [10]),
        (["photos", "--epochs", "0"], [0]),
    ],
)
def test_epochs_leave_the_folder_alone(words, expected):
    arguments = parser().parse_args([*TRAIN, *words])
    assert arguments.epochs == expected
    assert str(arguments.folder) == "photos"


@pytest.mark.parametrize("words", [["--epochs", "3,6", "2024"], ["--epochs", "3", "6", "./2024"], ["--", "2024"]])
def test_a_folder_may_be_named_as_a_number(words):
    assert str(parser().parse_args([*TRAIN, *words]).folder) == "2024"


def test_epochs_of_the_demo():
    assert parser().parse_args(["demo", "--epochs", "1", "2"]).epochs == [1, 2]
    assert parser().parse_args(["demo", "--epochs", "1,2"]).epochs == [1, 2]


@pytest.mark.parametrize("name", ["--grey", "--gray"])
def test_both_spellings_of_grey(name):
    assert parser().parse_args([*TRAIN, "photos", name]).grey


ENCODE, GENERATE = ["encode", "m", "photos", "store"], ["generate", "m", "flow.keras", "out"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([*TRAIN, "p", "--side", "0"], "argument --side: expected a whole number of at least 1, received '0'"),
        ([*TRAIN, "p", "--side", "64.0"], "argument --side: expected a whole number of at least 1, received '64.0'"),
        ([*TRAIN, "p", "--crop", "-3"], "argument --crop: expected a whole number of at least 1, received '-3'"),
        ([*TRAIN, "p", "--max-pixels", "0"], "argument --max-pixels: expected a whole number of at least 1, received"),
        ([*TRAIN, "p", "--batch-size", "0"], "argument --batch-size: expected a whole number of at least 1, received"),
        ([*TRAIN, "p", "--size", "x"], "argument --size: expected a whole number of at least 1, received 'x'"),
        ([*TRAIN, "p", "--n-out", "0"], "argument --n-out: expected a whole number of at least 1, received '0'"),
        ([*TRAIN, "p", "--n-levels", "0"], "argument --n-levels: expected a whole number of at least 1, received '0'"),
        ([*TRAIN, "p", "--n-scalings", "-1"], "argument --n-scalings: expected a whole number of at least 0, received"),
        ([*TRAIN, "p", "--latent-dim", "0"], "argument --latent-dim: expected a whole number of at least 1, received"),
        ([*TRAIN, "p", "--fine-tune", "-2"], "argument --fine-tune: expected a whole number of at least 0, received"),
        ([*TRAIN, "p", "--seed", "-1"], "argument --seed: expected a whole number from 0 to 4294967295, received '-1'"),
        ([*TRAIN, "p", "--seed", "4294967296"], "argument --seed: expected a whole number from 0 to 4294967295"),
        ([*TRAIN, "p", "--epochs", "-1"], "argument --epochs: expected whole numbers of at least 0, one for all"),
        ([*TRAIN, "p", "--epochs", "3", "-1"], "one per level (3,6), received '3,-1'"),
        ([*TRAIN, "p", "--epochs", "3,x"], "one per level (3,6), received '3,x'"),
        ([*TRAIN, "p", "--learning-rate", "0"], "argument --learning-rate: expected a number greater than 0, received"),
        ([*TRAIN, "p", "--learning-rate", "nan"], "argument --learning-rate: expected a number greater than 0"),
        ([*TRAIN, "p", "--valid-split", "1"], "argument --valid-split: expected a number between 0 and 1, such as 0.1"),
        (
            [*TRAIN, "p", "--valid-split", "0.1", "--valid", "v"],
            "argument --valid: not allowed with argument --valid-s",
        ),
        ([*ENCODE, "--level", "last"], "argument --level: expected a level index (0 is the first level, -1 the last)"),
        ([*ENCODE, "--shard", "4/4"], "argument --shard: expected I/N with I from 0 to N - 1, such as 0/4"),
        ([*ENCODE, "--shard=-1/4"], "received '-1/4'"),
        ([*ENCODE, "--shard", "0/0"], "received '0/0'"),
        ([*ENCODE, "--shard", "half"], "received 'half'"),
        ([*GENERATE, "-n", "0"], "argument -n: expected a whole number of at least 1, received '0'"),
        ([*GENERATE, "--label", "-1"], "argument --label: expected a whole number of at least 0, received '-1'"),
        ([*GENERATE, "--guidance", "inf"], "argument --guidance: expected a number of at least 0, received 'inf'"),
        (["demo", "--crops", "0"], "argument --crops: expected a whole number of at least 1, received '0'"),
        (["demo", "--epochs", "1", "2", "3"], "argument --epochs: expected one or two numbers, for the two levels"),
    ],
)
def test_values_that_cannot_be_are_refused_in_words_of_the_command(words, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(words)
    assert told in capsys.readouterr().err


def test_neither_arguments_nor_the_version_import_numpy():
    program = (
        "import sys; from stacked_autoencoder import __version__; from stacked_autoencoder.cli import checks, main\n"
        "main.parser(); sys.exit('numpy' in sys.modules or 'tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
