"""Flows of encodings with many features, with and without `nested=True`, with several seeds.

    python -m benchmarks.quality.nested_flow                    # about ten minutes

The encodings are those of Fashion-MNIST, 7x7x16, of a level with `nested=True`. Both flows are trained for the same
number of steps. The Fréchet distance of the images that they generate is measured as in `benchmarks.quality.heads`. For
comparison, it is also measured for a Gaussian distribution with the mean and covariance of the encodings.
"""

from functools import partial

import keras
import numpy as np

from benchmarks.harness import table
from benchmarks.harness.seeds import of_seeds
from examples import clothes
from examples.judge import Judge, gaussian, train_judge
from stacked_autoencoder import Autoencoder, ConvLevel, heads

N_OUT = 16
EPOCHS = 2  # of the autoencoder
BATCH = 128


def compare_flows(count: int, epochs: int, seeds: int, samples: int) -> list[dict]:
    data = clothes.load(count=count)
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=data.images.shape[1:], levels=[ConvLevel(N_OUT, 2, size=32, nested=True)])
    sae.train(data.images, EPOCHS, validation_data=data.valid_images, batch_size=BATCH, verbose=0)
    judge = Judge(train_judge(data.images, data.labels), data.test_images, data.test_labels)
    encodings = sae.encode(data.images)

    def frechet(generated: np.ndarray) -> float:
        return float(judge.row(sae.decode(generated))["frechet"])

    def frechet_of_flow(nested: bool) -> float:
        flow = heads.Flow(encodings.shape[1:], nested=nested)
        flow.fit(encodings, batch_size=BATCH, epochs=epochs, verbose=0)
        return frechet(flow.generate(samples, seed=0))

    rows = [{"design": "Gaussian", "frechet": [frechet(gaussian(encodings, samples))]}]
    for design, nested in (("default", False), ("nested=True", True)):
        rows.append({"design": design, "frechet": of_seeds(partial(frechet_of_flow, nested), seeds)})
    for row in rows:
        mean, deviation = np.mean(row["frechet"]), np.std(row["frechet"])
        print(f"{row['design']:12}Fréchet distance {mean:.2f} ± {deviation:.2f}", flush=True)
    return rows


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of each flow")
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings of each flow")
    parser.add_argument("--samples", type=int, default=2000, help="number of generated images")
    arguments = parser.parse_args(argv)
    rows = compare_flows(arguments.count, arguments.epochs, arguments.seeds, arguments.samples)
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
