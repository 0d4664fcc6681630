"""Loss against the size of encodings: nested levels with fewer features, and stores with fewer bytes.

    python -m benchmarks.quality.rate                              # 5 minutes of training for each stack: an hour
    python -m benchmarks.quality.rate --codes 8x8x32 --minutes 1

Photographs as in `benchmarks.quality.photographs`; losses are those of the test photographs. "plain" and "nested" are
the same stack without and with `nested=True`, trained for the same time and cut to the leading features; "alone" is a
stack that was created with half the features and trained for the same time. Each loss is divided by that of PCA, which
keeps the same number of values per image.

The stores contain the encodings of the plain stacks. Their bytes per image are those of the files of the shards. JPEG
and WebP have the highest quality whose files are at most that large (JPEG up to 95). The tables in the header of a JPEG
file are not counted. Both are better codecs than encodings of a fixed number of values, which are made for further
models.
"""

import io
import tempfile
import time
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.harness import data, table
from benchmarks.harness.designs import N_OUT, PHOTOGRAPHS, new_stack, train_stack
from stacked_autoencoder import Autoencoder
from stacked_autoencoder.metrics import Mean
from stacked_autoencoder.utils.images import scaled

STACKS: dict[str, dict[str, Any]] = PHOTOGRAPHS | {"vector of 128": {"n_scalings": 3, "n_levels": 2, "latent_dim": 128}}
SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)  # of the features
STORES: dict[str, dict[str, Any]] = {
    "float16": {},
    "int8": {"dtype": "int8"},
    "loss_budget=0.01": {"loss_budget": 0.01},
}
CODECS = {"JPEG": ("jpeg", range(1, 96)), "WebP": ("webp", range(101))}


def trained(code: str, minutes: float, images: np.ndarray, valid: np.ndarray, **more: Any) -> tuple[Autoencoder, float]:
    sae = new_stack(shape=(64, 64, 3), **STACKS[code] | more)
    return sae, train_stack(sae, images, valid, 60 * minutes)


def features_of(code: str) -> int:
    return STACKS[code].get("latent_dim", N_OUT)


def compare_features(
    code: str, stacks: dict[str, tuple[Autoencoder, float]], alone: tuple[Autoencoder, float], test: np.ndarray
) -> list[dict]:
    """One row for each design and number of features."""
    n_out, rows = [round(share * features_of(code)) for share in SHARES], []
    budgets = {name: (sae.evaluate(test, n_out=n_out), seconds) for name, (sae, seconds) in stacks.items()}
    half = features_of(code) // 2
    budgets["alone"] = alone[0].evaluate(test, n_out=[half]), alone[1]
    for name, (budget, seconds) in budgets.items():
        for n, row in budget.items():
            of_pca = row["full_loss"] / row["pca_loss"]
            rows.append({"code": code, "design": name, "n_out": n, "values": row["values"], "loss": row["full_loss"]})
            rows[-1] |= {"of_pca": of_pca, "seconds": seconds}
    return rows


def compare_stores(code: str, sae: Autoencoder, test: np.ndarray) -> list[dict]:
    """One row for each kind of store, and for image files of about as many bytes."""
    rows, exact = [], loss_of(test, sae.reconstruct(test))
    with tempfile.TemporaryDirectory() as folder:
        sae.encode_to(Path(folder) / "first", test, verbose=0)  # the first call prepares the encoder
        for kind, options in STORES.items():
            began = time.perf_counter()
            store = sae.encode_to(Path(folder) / kind, test, verbose=0, **options)
            written = len(store) / (time.perf_counter() - began)
            began = time.perf_counter()
            count = sum(len(batch) for batch in store.dataset(32, shuffle=True))
            read = count / (time.perf_counter() - began)
            size = sum(shard.bytes_on_disk for shard in store.shards) / len(store)
            loss = loss_of(test, sae.decode(store[:]))
            row = {"code": code, "what": f"store, {kind}", "bytes": size, "loss": loss, "added": loss / exact - 1}
            rows.append(row | {"written": written, "read": read})
            for name in CODECS:
                size, loss = image_files(name, test, size)
                rows.append({"code": code, "what": f"{name} of at most this size", "bytes": size, "loss": loss})
    return rows


def image_files(name: str, images: np.ndarray, size: float) -> tuple[float, float]:
    """Bytes per image and loss of image files of the highest quality whose mean size is at most `size`.

    The mean size is that of 64 of the images or more. If all qualities are larger, the lowest one is used.
    """
    form, qualities = CODECS[name]
    some = images[:: max(1, len(images) // 64)]
    larger = bisect_right(qualities, size, key=lambda quality: coded(form, quality, some)[0])  # than `size`
    return coded(form, qualities[max(larger - 1, 0)], images)


def coded(form: str, quality: int, images: np.ndarray) -> tuple[float, float]:
    loss, sizes = Mean(), []
    header = len(encoded(form, quality, np.full_like(images[0], 128))) if form == "jpeg" else 0
    for image in images:
        content = encoded(form, quality, image)
        sizes.append(len(content) - header)
        result = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        loss.add(np.square(scaled(result[None]).numpy() - scaled(image[None]).numpy()).sum(), image.size)
    return float(np.mean(sizes)), loss.value


def encoded(form: str, quality: int, image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, form, quality=quality)
    return content.getvalue()


def loss_of(images: np.ndarray, results: np.ndarray) -> float:
    return float(np.mean(np.square(scaled(images).numpy() - results), dtype=np.float64))


def compare_rates(codes: Sequence[str], minutes: float, count: int, test_folder: Path) -> list[dict]:
    test = np.concatenate(data.test_pictures(test_folder))
    valid, images = data.validation_tiles(), data.training_crops(count)
    rows = []
    for code in codes:
        stacks = {}
        for name, nested in (("plain", False), ("nested", True)):
            stacks[name] = trained(code, minutes, images, valid, nested=nested)
        size = "latent_dim" if "latent_dim" in STACKS[code] else "n_out"
        alone = trained(code, minutes, images, valid, **{size: features_of(code) // 2})
        found = [*compare_features(code, stacks, alone, test), *compare_stores(code, stacks["plain"][0], test)]
        show(found)
        rows += found
    return rows


def show(rows: Sequence[dict]) -> None:
    for row in rows:
        if "n_out" in row:
            print(f"{row['code']:15}{row['design']:8}{row['n_out']:5} features  {row['of_pca']:.3f} of the PCA loss")
        else:
            print(f"{row['code']:15}{row['what']:26}{row['bytes']:8,.0f} bytes  {row['loss']:.2e}", end="")
            if "added" in row:
                print(
                    f"  added {row['added']:.2%}, per second {row['written']:,.0f} written, {row['read']:,.0f} read",
                    end="",
                )
            print()


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--codes", nargs="+", choices=list(STACKS), default=list(STACKS))
    parser.add_argument("--minutes", type=float, default=5.0, help="training time of each stack")
    data.add_count(parser)
    data.add_test_photographs(parser)
    arguments = parser.parse_args(argv)
    rows = compare_rates(arguments.codes, arguments.minutes, arguments.count, arguments.test_photographs)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
