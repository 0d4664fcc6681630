"""`info` and `evaluate`: what a saved stack is, and what it loses."""

from __future__ import annotations

from argparse import Namespace

from stacked_autoencoder import budget
from stacked_autoencoder.autoencoder import Autoencoder
from stacked_autoencoder.commands.shared import Result, Say, pictures_of
from stacked_autoencoder.errors import printable
from stacked_autoencoder.loading import folder_at, read_manifest
from stacked_autoencoder.stack import show


def info(arguments: Namespace, say: Say) -> Result:
    sae = Autoencoder.load(arguments.model)
    versions = read_manifest(folder_at(arguments.model))["versions"]
    low, high = sae.value_range
    say(f"Images {show(sae.shape)}, floats from {low:g} to {high:g}, sides in multiples of {sae.factor}")
    sae.summary(say)
    levels = []
    for index, level in enumerate(sae.levels):
        values, ratio = sae.values_at(index)
        statistics = {name: None if each is None else each.tolist() for name, each in level.statistics().items()}
        shapes = {"input_shape": level.input_shape, "encoding_shape": level.encoding_shape}
        levels.append(
            {"kind": level.kind, **shapes, "factor": level.factor, "values": values, "ratio": ratio, **statistics}
        )
        if level.std is not None:
            say(
                f"level {index}: encodings' means from {level.mean.min():.3g} to {level.mean.max():.3g}, standard "
                f"deviations from {level.std.min():.3g} to {level.std.max():.3g}"
            )
    say(
        "saved by " + ", ".join(f"{printable(name, 40)} {printable(version, 20)}" for name, version in versions.items())
    )
    return {"shape": sae.shape, "value_range": sae.value_range, "levels": levels, "versions": versions}


def evaluate(arguments: Namespace, say: Say) -> Result:
    sae = Autoencoder.load(arguments.model)
    images = pictures_of(arguments.folder, arguments, sae)
    result = sae.evaluate(images, return_dict=True)
    say("\n".join(budget.table(result)))
    return {"pictures": len(images), "levels": [{"level": index, **row} for index, row in result.items()]}
