"""Heads that are trained on stores of float16, int8 and compressed encodings, with several seeds.

    python -m benchmarks.quality.store_heads                    # about ten minutes

The encodings are those of Fashion-MNIST, 7x7x8. A classifier is trained on each store, and its accuracy is measured on
exact encodings of the test images. A flow is trained on each store, and the Fréchet distance of the images that it
generates is measured as in `benchmarks.quality.heads`. Only the seeds differ between the trainings on one store, so
their spread shows which differences between stores are noise.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness import table
from benchmarks.harness.seeds import of_seeds
from benchmarks.quality.rate import STORES
from examples import clothes
from examples.judge import Judge, train_autoencoder, train_judge
from stacked_autoencoder import Autoencoder, EncodingStore, heads

SIDE, N_OUT = 7, 8
EPOCHS = 2  # of the autoencoder
BATCH = 128


def compare_store_heads(count: int, epochs: int, seeds: int, samples: int) -> list[dict]:
    data = clothes.load(count=count)
    sae, _ = train_autoencoder(data.images, data.valid_images, EPOCHS, SIDE, N_OUT)
    judge = Judge(train_judge(data.images, data.labels), data.test_images, data.test_labels)
    exact = sae.encode(data.test_images)

    def accuracy(store: EncodingStore) -> float:
        net = heads.classifier(store.shape[1:], n_classes=10)
        net.fit(store[:].astype(np.float32), store.labels, batch_size=BATCH, epochs=epochs, verbose=0)
        return float(net.evaluate(exact, data.test_labels, batch_size=BATCH, verbose=0, return_dict=True)["accuracy"])

    def frechet(store: EncodingStore) -> float:
        flow = heads.Flow(store.shape[1:])
        flow.fit(store[:], batch_size=BATCH, epochs=epochs, verbose=0)
        return float(judge.row(sae.decode(flow.generate(samples, seed=0)))["frechet"])

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, options in STORES.items():
            store = sae.encode_to(Path(folder) / kind, (data.images, data.labels), verbose=0, **options)
            size = sum(shard.bytes_on_disk for shard in store.shards) / len(store)
            row = {"store": kind, "bytes": size, "added": added_loss(sae, store, data.images)}
            row["accuracy"] = of_seeds(partial(accuracy, store), seeds)
            row["frechet"] = of_seeds(partial(frechet, store), seeds)
            rows.append(row)
            show(row)
    return rows


def added_loss(sae: Autoencoder, store: EncodingStore, images: np.ndarray) -> float:
    """Share by which the loss of reconstructions is larger with the encodings of the store."""
    losses = [np.square(values - images).mean() for values in (sae.decode(store[:]), sae.reconstruct(images))]
    return float(losses[0] / losses[1] - 1)


def show(row: dict) -> None:
    accuracies, distances = (f"{np.mean(row[name]):.4f} ± {np.std(row[name]):.4f}" for name in ("accuracy", "frechet"))
    print(f"{row['store']:18}{row['bytes']:6.0f} bytes  {row['added']:7.2%}  ", end="")
    print(f"accuracy {accuracies}  Fréchet {distances}", flush=True)


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of each head")
    parser.add_argument("--seeds", type=int, default=4, help="number of trainings of each head on each store")
    parser.add_argument("--samples", type=int, default=2000, help="number of generated images")
    arguments = parser.parse_args(argv)
    rows = compare_store_heads(arguments.count, arguments.epochs, arguments.seeds, arguments.samples)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
