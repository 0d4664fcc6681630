"""A boundary equilibrium GAN that draws clothes: on encodings, on encodings with errors in images, and on pixels.

    python examples/began_on_encodings.py

After Berthelot et al. 2017 (arXiv:1703.10717): the discriminator is an autoencoder, and the generator learns to make
what it restores as well as real ones. An autoencoder takes 28x28 pixels to 7x7x8 encodings, so that here both are small
networks on these; beside them the same head measures its errors in decoded images (`fit(…, decoder=sae.decoder)`), and
a third one learns pixels, each for as many minutes. A classifier of real images, which never sees a generated one,
judges them.

About a quarter of an hour on two cores. Expect sharp clothes of most kinds, shoes and bags least of all, and a Fréchet
distance of about 72 on encodings after four minutes (one Gaussian is at 85), of 84 with errors in images, and of 113 on
pixels, where a step takes eleven times as long (`python -m benchmarks.heads --only BEGAN --minutes 4`).
Written to ./began:

    samples.png    real images, a Gaussian of encodings, and what the three heads draw
"""

import keras
from on_encodings import Comparison, parser

from stacked_autoencoder import heads


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    arguments = parser(__doc__, "began", minutes=4).parse_args(argv)
    comparison = Comparison(arguments)
    comparison.add_gaussian()
    for name, on, options in (
        ("BEGAN on encodings", "encodings", {}),
        ("…, errors in images", "encodings", {"decoder": comparison.sae.decoder}),
        ("BEGAN on pixels", "pixels", {}),
    ):
        keras.utils.set_random_seed(0)
        values = comparison.values[on]
        comparison.train(name, heads.BEGAN(values.shape[1:]), values, **options)
    comparison.save()
    return comparison.rows


if __name__ == "__main__":
    main()
