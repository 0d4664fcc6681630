"""Nothing is kept of a training that is over: no image, no traced step."""

import gc
import weakref
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.python.eager import context  # noqa: TID251  what TensorFlow keeps has no public name
from tensorflow.python.framework.func_graph import FuncGraph  # noqa: TID251

from stacked_autoencoder import Autoencoder, ConvLevel, ImageFolder, heads
from stacked_autoencoder.utils.generators import generated, released
from tests.conftest import blobs, run_elsewhere
from tests.data.test_adapters import Batches

ROOT = Path(__file__).parent.parent.parent


def graphs():
    gc.collect()
    # `type`, as `isinstance` asks a weak proxy for its class, which fails when its object is gone
    held = {id(thing) for thing in gc.get_objects() if issubclass(type(thing), FuncGraph)}
    return held | set(context.context().list_function_names())


def three(function):
    return tf.data.Dataset.from_generator(function, output_signature=tf.TensorSpec((), tf.int64))


def test_a_function_goes_with_its_dataset():
    functions = []
    dataset = released(lambda: iter(range(3)), lambda function: functions.append(function) or three(function))
    batches = dataset.batch(2).as_numpy_iterator()
    del dataset
    gc.collect()
    assert [batch.tolist() for batch in batches] == [[0, 1], [2]]
    del batches
    gc.collect()
    with pytest.raises(RuntimeError, match="The dataset that this function belongs to no longer exists"):
        functions[0]()


def left_by_reading() -> int:
    """How many objects twenty datasets leave. What TensorFlow's own leave is about thirty each."""

    def read():
        list(generated(lambda: iter(range(3)), tf.TensorSpec((), tf.int64)).batch(2).prefetch(1))

    def objects():
        gc.collect()
        return len(gc.get_objects())

    read()
    before = objects()
    for _ in range(20):
        read()
    return objects() - before


def left_by(fit) -> int:
    """How many traced steps the second of two trainings leaves."""
    fit()
    before = graphs()
    fit()
    return len(graphs() - before)


def left_by_training(optimizer=None) -> int:
    def train():
        levels = [ConvLevel(size=4, n_out=4, n_scalings=1) for _ in range(2)]
        options = {} if optimizer is None else {"optimizer": optimizer}
        Autoencoder(shape=(16, 16, 3), levels=levels).train(blobs(96), epochs=1, verbose=0, **options)

    return left_by(train)


def left_by_head(name) -> int:
    encodings = blobs(64, 4, 2)
    return left_by(lambda: getattr(heads, name)((4, 4, 2), width=8).fit(encodings, epochs=1, batch_size=16, verbose=0))


def alone(function, *arguments):
    """What a function returns in a process of its own: what other tests leave goes away at times of its own."""
    call = f"{function.__name__}{arguments!r}"
    return int(run_elsewhere(f"from tests.utils import test_generators; print(test_generators.{call})", ROOT))


@pytest.mark.slow
def test_datasets_leave_nothing_behind():
    assert alone(left_by_reading) < 2 * 20  # each takes a thread, which leaves an empty list


@pytest.mark.slow
def test_no_traced_step_stays_after_training():
    assert alone(left_by_training) == 0


@pytest.mark.slow
def test_no_traced_step_stays_after_training_with_an_optimizer_of_keras():
    assert alone(left_by_training, "adam") == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Flow", "VAE", "WGAN", "BEGAN"])
def test_no_traced_step_stays_after_fitting_a_head(name):
    assert alone(left_by_head, name) == 0


def a_folder(tmp_path):
    for index, image in enumerate(blobs(8)):
        tf.io.write_file(str(tmp_path / f"{index}.png"), tf.io.encode_png(tf.cast(image * 127 + 128, tf.uint8)))
    return ImageFolder(tmp_path, side=16)


KINDS = {
    "array": lambda _: blobs(8),
    "folder": a_folder,
    "PyDataset": lambda _: Batches(blobs(8), size=4),
    "dataset": lambda _: tf.data.Dataset.from_tensor_slices(blobs(8)).batch(4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_let_go_after_training(kind, tmp_path):
    images = KINDS[kind](tmp_path)
    held = weakref.ref(images)
    Autoencoder(size=4, n_out=4, n_scalings=1, n_levels=2).train(images, epochs=1, batch_size=4, verbose=0)
    assert held() is not None
    del images
    gc.collect()
    assert held() is None
