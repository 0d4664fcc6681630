"""The commands that use a saved stack: `info`, `evaluate`, `encode`, `decode`, `reconstruct`, `generate`, `export`."""

from __future__ import annotations

from argparse import Namespace

import keras
import numpy as np

from stacked_autoencoder.autoencoder import Autoencoder
from stacked_autoencoder.cli.checks import is_store
from stacked_autoencoder.cli.common import SHEET, Result, Say, pictures_of, shows_progress, written
from stacked_autoencoder.cli.png import destinations, sheet, write_png
from stacked_autoencoder.data.adapters import as_source
from stacked_autoencoder.heads.base import Head
from stacked_autoencoder.inference.evaluation import table
from stacked_autoencoder.saving.export import default_format
from stacked_autoencoder.saving.manifest import folder_at, read_manifest
from stacked_autoencoder.store.encoding_store import EncodingStore
from stacked_autoencoder.utils.console import Progress, shape_text
from stacked_autoencoder.utils.errors import printable
from stacked_autoencoder.utils.images import as_bytes, as_pixels


def info(arguments: Namespace, say: Say) -> Result:
    if is_store(arguments.model):
        return _info_of_store(EncodingStore(arguments.model), say)
    sae = Autoencoder.load(arguments.model)
    versions = read_manifest(folder_at(arguments.model))["versions"]
    low, high = sae.value_range
    say(f"Images {shape_text(sae.shape)}, floats from {low:g} to {high:g}, sides in multiples of {sae.factor}")
    sae.summary(say)
    levels = []
    for index, level in enumerate(sae.levels):
        values, ratio = sae.stack.values_at(index)
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


def _info_of_store(store: EncodingStore, say: Say) -> Result:
    result = _about(store)
    dtype = store.file_dtype.name + (" compressed" if store.loss_budget is not None else "")
    say(
        f"{len(store):,} encodings {shape_text(store.shape[1:])} of level {store.level}, {dtype}, "
        f"{result['bytes'] / 1e6:.1f} MB, computed by encoder {printable(store.encoder[:12])}…"
    )
    if store.class_names is not None:
        say(f"{len(store.class_names):,} classes: {printable(', '.join(store.class_names))}")
    return {**result, "encoder": store.encoder}


def _about(store: EncodingStore) -> Result:
    return {
        "store": str(store.path),
        "level": store.level,
        "shape": store.shape,
        "dtype": store.file_dtype.name,
        "loss_budget": store.loss_budget,
        "added_loss": store.added_loss,
        "bytes": sum(shard.file.stat().st_size for shard in store.shards),
        "class_names": store.class_names,
    }


def evaluate(arguments: Namespace, say: Say) -> Result:
    sae = Autoencoder.load(arguments.model)
    images = pictures_of(arguments.folder, arguments, sae)
    result = sae.evaluate(images, return_dict=True)
    count, skipped = len(images), len(images.skipped)  # `skipped` is complete after all pictures have been read
    say(f"{count:,} pictures in {arguments.folder}" + (f", {skipped:,} skipped" if skipped else ""))
    say("\n".join(table(result)))
    return {"pictures": count, "skipped": skipped, "levels": [{"level": index, **row} for index, row in result.items()]}


BATCH = 64
SHOWN = 8  # pictures in the overview of reconstructions
COLUMNS = 8  # of the overview of generated pictures


def encode(arguments: Namespace, say: Say) -> Result:
    sae = Autoencoder.load(arguments.model)
    images = pictures_of(arguments.folder, arguments, sae)
    options = {name: getattr(arguments, name) for name in ("level", "dtype", "loss_budget", "shard")}
    try:
        store = sae.encode_to(arguments.store, images, verbose=shows_progress(arguments), **options)
    except KeyboardInterrupt as error:
        error.add_note("Run the same command again to resume.")
        raise
    result = _about(store)
    megabytes = result["bytes"] / 1e6
    shape = shape_text(store.shape[1:])
    say(f"{len(store):,} encodings {shape} of level {store.level}, {megabytes:.1f} MB: {store.path}")
    if store.added_loss is not None:
        say(f"rounding adds {store.added_loss:.2%} to the loss, measured on held-out images")
    return result


def decode(arguments: Namespace, say: Say) -> Result:
    sae, store, out = Autoencoder.load(arguments.model), EncodingStore(arguments.store), arguments.out
    if store.level >= len(sae.levels) or store.encoder != sae.stack.fingerprint(store.level, store.multiple):
        raise ValueError(
            "The encodings were computed by another stack, or by this stack before it was trained further. Run "
            f"`encode` again. Received: a store of level {store.level} in {store.path}"
        )
    files = destinations(store.names or [f"{index:06d}" for index in range(len(store))], out)
    with Progress(len(store), shows_progress(arguments)) as progress:
        for rows in store.index_batches(BATCH):  # of one size each, so that their order differs from the store's
            images = sae.decode(store.batch(rows), store.level)
            for row, image in zip(rows, as_pixels(images, sae.value_range), strict=True):
                write_png(files[row], image)
            progress.add(len(rows))
    return written(out, len(store), say)


def reconstruct(arguments: Namespace, say: Say) -> Result:
    sae, out = Autoencoder.load(arguments.model), arguments.out
    images = pictures_of(arguments.folder, arguments, sae)
    files = dict(zip(images.names, destinations(images.names, out, taken=SHEET), strict=True))
    shown, count, pairs_shown = set(np.linspace(0, len(images) - 1, SHOWN).astype(int).tolist()), 0, []
    with Progress(len(images), shows_progress(arguments)) as progress:
        for block in as_source(images, **sae.stack.source_options, finite="images").blocks(BATCH):
            pairs = []  # `block.names` leaves out unreadable pictures after they have been read
            for batch in block.batches(BATCH):
                pairs += zip(batch, sae.reconstruct(batch, arguments.level), strict=True)
            for name, (_, restored) in zip(block.names, pairs, strict=True):
                write_png(files[name], as_pixels(restored, sae.value_range))
            pairs_shown += [
                [as_bytes(picture, sae.value_range) for picture in pair]
                for index, pair in enumerate(pairs, count)
                if index in shown
            ]
            count += len(pairs)
            progress.add(len(pairs))
    write_png(out / SHEET, sheet(list(zip(*pairs_shown, strict=True))))
    return written(out, count, say, "Originals above reconstructions")


def generate(arguments: Namespace, say: Say) -> Result:
    sae, out = Autoencoder.load(arguments.model), arguments.out
    head, level = keras.models.load_model(arguments.head), sae.stack.index_of(arguments.level)
    if not isinstance(head, Head):
        raise ValueError(f"HEAD must be a saved Flow, VAE, WGAN or BEGAN. Received: a {type(head).__name__}")
    encoding_shape = sae.levels[level].encoding_shape
    if head.encoding_shape != encoding_shape:
        raise ValueError(
            f"The {type(head).__name__} generates encodings of shape {shape_text(head.encoding_shape)}, but encodings "
            f"of level {level} have shape {shape_text(encoding_shape)}. Set --level to the level that the head was "
            "trained on."
        )
    head.check_origin(sae.stack, level)
    options = {"labels": arguments.label, "guidance": arguments.guidance}
    options = {name: value for name, value in options.items() if value is not None}
    if options and not head.takes_labels:
        raise ValueError(f"The {type(head).__name__} was trained without classes. Leave out --label and --guidance.")
    generated = sae.decode(head.generate(arguments.n, arguments.seed, **options), level)
    for index, picture in enumerate(as_pixels(generated, sae.value_range)):
        write_png(out / f"{index:06d}.png", picture)
    pictures = as_bytes(generated, sae.value_range)
    write_png(out / SHEET, sheet([pictures[first : first + COLUMNS] for first in range(0, len(pictures), COLUMNS)]))
    return written(out, len(pictures), say, "Overview")


def export(arguments: Namespace, say: Say) -> Result:
    sae = Autoencoder.load(arguments.model)
    format = arguments.format or default_format()
    files = sae.export(arguments.out, format, arguments.level)
    for file in files:
        say(f"{file}, {format}, {file.stat().st_size / 1e6:.1f} MB")
    return {"format": format, "files": [str(file) for file in files]}
