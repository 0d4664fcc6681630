"""A generative adversarial network that draws clothes: between the frozen ends of an autoencoder, and on pixels.

    python examples/wgan_on_encodings.py

After Frégier and Gouray 2019, "Mind2Mind" (arXiv:1906.11613): an autoencoder takes 28x28 pixels to 7x7x8 encodings,
`heads.WGAN` (Gulrajani et al. 2017) learns to draw these, with a critic that never sees a pixel, and the decoder makes
pictures. Beside it the same head learns pixels, for as many minutes. A classifier of real images, which never sees a
generated one, judges both.

About 11 minutes on two cores. On encodings, expect a Fréchet distance of about 44 after two minutes; a Gaussian of full
covariance is at 85, and the same head on pixels at 89 (`python -m benchmarks.heads --only WGAN --minutes 2`).
Written to ./wgan:

    samples.png    real images, a Gaussian of encodings, and what both draw
"""

import keras
from on_encodings import Comparison, parser

from stacked_autoencoder import heads


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    arguments = parser(__doc__, "wgan", minutes=4).parse_args(argv)
    comparison = Comparison(arguments)
    comparison.add_gaussian()
    for on, values in comparison.values.items():
        keras.utils.set_random_seed(0)
        comparison.train(f"WGAN on {on}", heads.WGAN(values.shape[1:]), values)
    comparison.save()
    return comparison.rows


if __name__ == "__main__":
    main()
