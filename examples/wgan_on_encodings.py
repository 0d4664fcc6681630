"""WGAN, a generative adversarial network, that generates clothes: on encodings and on pixels.

The method is from Frégier and Gouray 2019, "Mind2Mind" (arXiv:1906.11613). A stacked autoencoder first encodes 28x28
pixels as 7x7x8 encodings. `heads.WGAN` (Gulrajani et al. 2017) then learns to generate encodings; its critic never
receives pixels. The decoder turns the generated encodings into images. The same head is trained on pixels for the same
time. A classifier of real images, which has never seen a generated one, scores both.

    python examples/wgan_on_encodings.py

Expected time: about 11 minutes on two cores.
Expected score after two minutes of each head: a Fréchet distance of about 44 on encodings and 89 on pixels. One
Gaussian of all encodings reaches 85. Command of the measurement:
`python -m benchmarks.quality.heads --only WGAN --minutes 2`.

File written to ./wgan:

    samples.png    real images, samples of a Gaussian of encodings, and samples of both heads
"""

import keras
from on_encodings import Comparison, parser

from stacked_autoencoder import heads


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    arguments = parser(__doc__, "wgan", minutes=4).parse_args(argv)

    # === Train the autoencoder and the judge ===
    comparison = Comparison(arguments)
    comparison.add_gaussian()

    # === Train the same head on encodings and on pixels ===
    for trained_on, values in comparison.values.items():
        keras.utils.set_random_seed(0)
        comparison.train(f"WGAN on {trained_on}", heads.WGAN(values.shape[1:]), values)
    comparison.save()
    return comparison.rows


if __name__ == "__main__":
    main()
