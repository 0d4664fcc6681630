"""Photographs, 64x64x3 in [-1, 1]: PCA, the usual design and ours; and what swapped colours in training are worth."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from benchmarks import data
from benchmarks.clocks import step_times
from benchmarks.ours import BATCH, reconstruction, share_worse_than_pca, train_ours
from benchmarks.rivals import train_plain, usual_design
from benchmarks.table import row, show
from stacked_autoencoder import Autoencoder, ConvLevel
from stacked_autoencoder.sources.base import scaled

CODES = {"16x16x32": 2, "8x8x32": 3, "4x4x32": 4}  # code shape of a 64x64 picture → halvings
N_OUT, SIZE = 32, 64


def level_for(code: str) -> ConvLevel:
    return ConvLevel(N_OUT, CODES[code], SIZE)


def compare_photographs(codes: Sequence[str], seconds: float, test_folder: Path) -> list[dict]:
    test, valid, images = data.test_tiles(test_folder), data.validation_tiles(), data.training_crops()
    rows = []
    for code in codes:
        sae, ours_seconds = train_ours([level_for(code)], images, valid, seconds)
        keras.utils.set_random_seed(0)
        usual = usual_design(images.shape[1:], CODES[code], N_OUT, SIZE)
        usual_seconds = train_plain(usual, images, valid, seconds, BATCH, steps=100)
        budgets = [sae.evaluate(tiles, return_dict=True)[0] for tiles in (test, valid)]
        pca = [budget["pca_loss"] for budget in budgets]
        theirs = [usual.evaluate(scaled(tiles), scaled(tiles), verbose=0) for tiles in (test, valid)]
        batch = images[:BATCH]
        steps = step_times({"ours": reconstruction(sae, batch), "usual": usual}, scaled(batch))
        about = ("photographs", code, int(budgets[0]["values"]))
        rows += [
            row(*about, "PCA", pca[0], pca[0], valid=pca[1]),
            row(*about, "usual design", theirs[0], pca[0], usual_seconds, steps["usual"], valid=theirs[1]),
            our_row(code, "ours", sae, test, budgets, ours_seconds, steps["ours"]),
        ]
        show(rows[-3:])
    return rows


def compare_colours(seconds: float, test_folder: Path) -> list[dict]:
    """The same crops with their own colours, and with the colour channels swapped in half of them."""
    test, valid = data.test_tiles(test_folder), data.validation_tiles()
    rows = []
    for swapped in (False, True):
        images = data.training_crops(swap_colours=swapped)
        sae, took = train_ours([level_for("8x8x32")], images, valid, seconds)
        budgets = [sae.evaluate(tiles, return_dict=True)[0] for tiles in (test, valid)]
        rows.append(our_row("8x8x32", f"ours, colours {'swapped' if swapped else 'kept'}", sae, test, budgets, took))
    return rows


def our_row(
    code: str, design: str, sae: Autoencoder, test: np.ndarray, budgets: list[dict], seconds: float, step: float = 0.0
) -> dict:
    """The row of a stack of one level, from its error budgets on the test and the validation set."""
    judged, chosen = budgets
    return row(
        "photographs",
        code,
        int(judged["values"]),
        design,
        judged["full_loss"],
        judged["pca_loss"],
        seconds,
        step,
        valid=chosen["full_loss"],
        worse=share_worse_than_pca(sae, test),
    )
