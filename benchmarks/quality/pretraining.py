"""Accuracy of a classifier on Fashion-MNIST with and without greedy pretraining without labels.

    python -m benchmarks.quality.pretraining                   # about 15 minutes

Three denoising levels (`Mask(0.25)`) are trained greedily on images without labels. A softmax layer is trained on their
encodings ("frozen"), and then the whole network ("fine-tuned"). The same network with random weights is trained in the
same way. Both use all 55,000 labels, and 100 labels per class. 5,000 other images select the epoch. The accuracies are
measured on the 10,000 test images.
"""

import time

import keras
import numpy as np
from keras import layers

from benchmarks.harness import table
from examples import clothes
from stacked_autoencoder import Autoencoder, ConvLevel, Mask, heads

WIDTH = 32
PRETRAINING = 2  # epochs of each level
EPOCHS = {"all": 8, "1,000": 60}
BATCH = {"all": 128, "1,000": 32}
DROPOUT = 0.5


def denoising_stack() -> Autoencoder:
    """A stack from 28x28 to 14x14x16 to 7x7x32 to 128 values."""
    keras.utils.set_random_seed(0)
    options = {"size": WIDTH, "corruption": Mask(0.25)}
    levels = [
        ConvLevel(16, 1, **options),
        ConvLevel(32, 1, **options),
        ConvLevel(n_scalings=0, latent_dim=128, **options),
    ]
    return Autoencoder(shape=(28, 28, 1), levels=levels)


def accuracies(sae: Autoencoder, data: clothes.Data, labels: str, epochs: int | None) -> tuple[float, float]:
    """Test accuracies with the frozen encoder, and after fine-tuning the whole network.

    Args:
        labels: `"all"` or `"1,000"`.
        epochs: replaces the default number of epochs.
    """
    images, classes = data.images, data.labels
    if labels != "all":
        some = np.concatenate([np.flatnonzero(classes == index)[:100] for index in range(10)])
        images, classes = images[some], classes[some]
    epochs, batch_size = epochs or EPOCHS[labels], BATCH[labels]
    keras.utils.set_random_seed(1)
    head = heads.classifier(sae.encoding_shape, 10, hidden=())
    head.fit(sae.encode(images), classes, epochs=epochs, batch_size=batch_size, verbose=0)
    frozen = head.evaluate(sae.encode(data.test_images), data.test_labels, verbose=0)[1]
    whole = keras.Sequential([keras.Input((28, 28, 1)), sae.encoder, layers.Dropout(DROPOUT), head])
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, max(1, epochs * len(images) // batch_size))
    whole.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    best = keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=epochs, restore_best_weights=True)
    valid = data.valid_images, data.valid_labels
    whole.fit(images, classes, epochs=epochs, batch_size=batch_size, validation_data=valid, callbacks=[best], verbose=2)
    return frozen, whole.evaluate(data.test_images, data.test_labels, verbose=0)[1]


def main(argv: list[str] | None = None) -> list[dict]:
    parser = table.parser(__doc__)
    parser.add_argument("--count", type=int, help="maximum number of training images, for a quick try")
    parser.add_argument("--epochs", type=int, help="epochs of every training, for a quick try")
    arguments = parser.parse_args(argv)
    data = clothes.load(count=arguments.count)
    pretrained = denoising_stack()
    began = time.perf_counter()
    pretrained.train(
        data.images,
        epochs=arguments.epochs or PRETRAINING,
        validation_data=data.valid_images,
        batch_size=128,
        verbose=2,
    )
    seconds = time.perf_counter() - began
    weights = pretrained.encoder.get_weights()
    rows = []
    for labels in EPOCHS:
        for start in ("pretrained", "random"):
            sae = pretrained
            if start == "pretrained":
                sae.encoder.set_weights(weights)
            else:
                sae = denoising_stack()
            frozen, tuned = accuracies(sae, data, labels, arguments.epochs)
            rows.append({"labels": labels, "start": start, "frozen": frozen, "fine-tuned": tuned})
    print(f"\npretraining took {seconds:.0f} seconds\nlabels  weights     frozen  fine-tuned")
    for row in rows:
        print(f"{row['labels']:>6}  {row['start']:10}  {row['frozen']:6.4f}  {row['fine-tuned']:10.4f}")
    return table.write(rows, arguments.json)


if __name__ == "__main__":
    main()
