"""Where images come from: memory, a stream, a folder. Each gives batches of one size, checked, scaled and padded.

An error in the middle of a stream is kept and raised again in our own words, not TensorFlow's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from stacked_autoencoder.checks import check_image_shape, check_size, check_values

Shape = tuple[int | None, ...]
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
CHECKED_AT_ONCE = 1 << 24  # values; bounds the memory of a check


class Source(ABC):
    """Images of one or several sizes, read as often as one likes.

    Attributes:
        shape: of one image, `(H, W, C)`, `None` where sizes may differ.
        value_range: `(low, high)` that the values lie in: [-1, 1] for `uint8`; [0, 1] or [-1, 1] for floats, by what
            has been read; the observed extremes where the range isn't checked.
    """

    def __init__(self, shape: Shape, factor: int, check_range: bool) -> None:
        self.shape = tuple(shape)
        self.factor = factor
        self.check_range = check_range
        self.failure: Exception | None = None
        self.counted: dict[int, int | None] = {}
        self.low, self.high = np.inf, -np.inf

    @abstractmethod
    def raw_batches(self, batch_size: int, shuffle: bool) -> tf.data.Dataset:
        """Checked batches as they come, each of one size; where sizes differ, not in the images' order."""

    @abstractmethod
    def raw_singles(self) -> tf.data.Dataset:
        """Checked batches of one image or more, in order."""

    @abstractmethod
    def count_batches(self, batch_size: int) -> int | None:
        """What `n_batches` says, counted afresh."""

    def n_batches(self, batch_size: int) -> int | None:
        """Batches in one pass; `None` for a stream without end."""
        if batch_size not in self.counted:  # counting can mean reading everything once
            self.counted[batch_size] = self.count_batches(batch_size)
        return self.counted[batch_size]

    def dataset(self, batch_size: int, *, shuffle: bool = False) -> tf.data.Dataset:
        """Batches of float32 `(N, H, W, C)`, sides padded to multiples of the factor."""
        batches = self.raw_batches(batch_size, shuffle)
        batches = batches.map(lambda images: pad_by_reflection(_scaled(images), self.factor))
        count = self.n_batches(batch_size)
        if count is not None:  # a generator's length is unknown to Keras, which would warn and show no progress
            batches = batches.apply(tf.data.experimental.assert_cardinality(count))
        return batches.prefetch(2)

    def batches(self, batch_size: int, *, shuffle: bool = False, most: int | None = None) -> Iterator[np.ndarray]:
        """The same as numpy arrays, at most `most` of them."""
        dataset = self.dataset(batch_size, shuffle=shuffle)
        with self.own_errors():
            yield from (dataset if most is None else dataset.take(most)).as_numpy_iterator()

    def in_order(self, batch_size: int) -> Iterator[np.ndarray]:
        """All images in their order, unpadded: as many neighbours of one size as fit into a batch."""
        if None not in self.shape[:2]:
            with self.own_errors():
                yield from self.raw_batches(batch_size, False).map(_scaled).prefetch(2).as_numpy_iterator()
            return
        waiting: list[np.ndarray] = []
        with self.own_errors():
            for images in self.raw_singles().map(_scaled).prefetch(batch_size).as_numpy_iterator():
                full = sum(map(len, waiting)) + len(images) > batch_size
                if waiting and (full or waiting[0].shape[1:] != images.shape[1:]):
                    yield np.concatenate(waiting)
                    waiting = []
                waiting.append(images)
        if waiting:
            yield np.concatenate(waiting)

    @property
    def value_range(self) -> tuple[float, float]:
        if not self.check_range:
            return float(self.low), float(self.high)
        return (0.0, 1.0) if self.low >= 0 else (-1.0, 1.0)

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raises what went wrong inside `tf.data` as the error it was."""
        try:
            yield
        except tf.errors.OpError:
            if self.failure is None:
                raise
            failure, self.failure = self.failure, None
            raise failure from None

    def check_shape(self, shape: Shape, index: int | None = None) -> None:
        """Refuses images that the model isn't made for, or that are smaller than one factor."""
        check_image_shape(shape, self.shape, index=index)
        check_size(shape, self.factor)

    def check(self, images: np.ndarray, first_index: int) -> np.ndarray:
        """Refuses values that can't be pixels, and remembers the extremes of the others."""
        if images.dtype == np.uint8:
            self.low, self.high = -1.0, 1.0
            return images
        low, high = check_values(images, first_index, self.check_range)
        self.low, self.high = min(self.low, low), max(self.high, high)
        return images

    def remember(self, failure: Exception) -> Exception:
        self.failure = failure
        return failure


class ArraySource(Source):
    """Images in memory: one array, or a list of arrays whose sizes may differ."""

    def __init__(
        self, images: np.ndarray | list[np.ndarray], shape: Shape, factor: int = 1, check_range: bool = True
    ) -> None:
        super().__init__(shape, factor, check_range)
        self.images = images
        if isinstance(images, np.ndarray):
            if images.ndim != 4:
                check_image_shape(images.shape, shape, batched=True)
            if len(images) == 0:
                raise ValueError(f"`images` is empty; at least one image is needed. Received: shape={images.shape}")
            self.check_shape(images.shape[1:])
            rows = max(1, CHECKED_AT_ONCE // max(1, images[0].size))
            for start in range(0, len(images), rows):
                self.check(images[start : start + rows], start)
            sizes = {images.shape[1:3]}
        else:
            for index, image in enumerate(images):
                self.check_shape(image.shape, index)
                if image.dtype != images[0].dtype:
                    raise ValueError(
                        "The images of a list must share one dtype, or their values can't be compared: convert them "
                        f"all to uint8 or all to float32. Received: {images[0].dtype} first, {image.dtype} as image "
                        f"{index}"
                    )
                self.check(image[None], index)
            sizes = {image.shape[:2] for image in images}
        self.shape = (*(sizes.pop() if len(sizes) == 1 else (None, None)), shape[-1])

    def __len__(self) -> int:
        return len(self.images)

    def raw_batches(self, batch_size: int, shuffle: bool) -> tf.data.Dataset:
        # Drawn here, not in the generator: `keras.utils.set_random_seed` then fixes the order of every epoch.
        rng = np.random.default_rng(np.random.randint(2**31)) if shuffle else None
        dtype = self.images.dtype if isinstance(self.images, np.ndarray) else self.images[0].dtype
        signature = tf.TensorSpec((None, *self.shape), dtype)
        return tf.data.Dataset.from_generator(lambda: self._generate(batch_size, rng), output_signature=signature)

    def count_batches(self, batch_size: int) -> int:
        return len(self._plan(batch_size, None))

    def _generate(self, batch_size: int, rng: np.random.Generator | None) -> Iterator[np.ndarray]:
        for indices in self._plan(batch_size, rng):
            if isinstance(self.images, np.ndarray):
                in_order = rng is None
                yield self.images[indices[0] : indices[-1] + 1] if in_order else self.images[indices]
            else:
                yield np.stack([self.images[index] for index in indices])

    def _plan(self, batch_size: int, rng: np.random.Generator | None) -> list[np.ndarray]:
        """Index batches of one size each: in order, or shuffled within and across sizes."""
        order = np.arange(len(self)) if rng is None else rng.permutation(len(self))
        if isinstance(self.images, np.ndarray):
            return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index in order:
            by_size.setdefault(self.images[index].shape, []).append(index)
        plan = [
            np.array(indices[start : start + batch_size])
            for indices in by_size.values()
            for start in range(0, len(indices), batch_size)
        ]
        return plan if rng is None else [plan[index] for index in rng.permutation(len(plan))]

    def raw_singles(self) -> tf.data.Dataset:
        signature = tf.TensorSpec((1, *self.shape), self.images[0].dtype)
        return tf.data.Dataset.from_generator(
            lambda: (image[None] for image in self.images), output_signature=signature
        )


class StreamSource(Source):
    """A `tf.data.Dataset` of images, or of tuples that begin with images; batched or not."""

    def __init__(self, dataset: tf.data.Dataset, shape: Shape, factor: int, check_range: bool) -> None:
        super().__init__(shape, factor, check_range)
        spec = dataset.element_spec
        if isinstance(spec, (tuple, list)):
            dataset, spec = dataset.map(lambda images, *_: images), spec[0]
        if not isinstance(spec, tf.TensorSpec) or spec.shape.rank not in (3, 4):
            raise ValueError(
                "A dataset must yield images (H, W, C), batches of them (N, H, W, C), or tuples that begin with one of "
                f"these. Received: element_spec={spec}"
            )
        self.batched = spec.shape.rank == 4
        size = spec.shape[-3:].as_list()
        self.check_shape([side or wanted for side, wanted in zip(size, shape, strict=True)])
        self.shape = (*size[:2], shape[-1])
        self.source = dataset

    def raw_batches(self, batch_size: int, shuffle: bool) -> tf.data.Dataset:
        return self._checked(self._batched(batch_size))

    def raw_singles(self) -> tf.data.Dataset:
        return self._checked(self.source if self.batched else self.source.batch(1))

    def _batched(self, batch_size: int) -> tf.data.Dataset:
        return self.source if self.batched else batch_by_size(self.source, batch_size, self.shape)

    def _checked(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        seen = 0

        def check(images: np.ndarray) -> np.ndarray:
            nonlocal seen
            try:
                self.check_shape(images.shape[1:], seen)
                images = self.check(images, seen)
            except ValueError as error:
                raise self.remember(error) from None
            seen += len(images)
            return images

        def checked(images: tf.Tensor) -> tf.Tensor:
            result = tf.numpy_function(check, [images], images.dtype)
            result.set_shape((None, *self.shape))
            return result

        return dataset.map(checked)

    def count_batches(self, batch_size: int) -> int | None:
        if self.source.cardinality() == tf.data.INFINITE_CARDINALITY:
            return None
        dataset = self._batched(batch_size)
        known = int(dataset.cardinality())
        count = known if known >= 0 else sum(1 for _ in dataset)
        if count == 0:
            raise ValueError("`images` is empty; at least one image is needed. Received: a dataset without elements")
        return count


class FolderSource(Source):
    """The pictures below a folder, sorted by path; grey or colour as the model has one channel or three."""

    def __init__(self, folder: Path, shape: Shape, factor: int) -> None:
        super().__init__(shape, factor, check_range=True)
        if not folder.is_dir():
            raise FileNotFoundError(f"`images` names a folder that isn't there. Received: {str(folder)!r}")
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
        if not self.paths:
            raise ValueError(f"No pictures ({', '.join(PICTURES)}) are below the folder. Received: {str(folder)!r}")
        if shape[-1] not in (1, 3):
            raise ValueError(
                f"Pictures in a folder are grey (1 channel) or colour (3); the model wants {shape[-1]}. Give the "
                "Autoencoder a shape that ends in 1 or 3."
            )
        self.check(np.zeros((1, 1, 1, 1), np.uint8), 0)

    def raw_batches(self, batch_size: int, shuffle: bool) -> tf.data.Dataset:
        return batch_by_size(self._decoded(shuffle), batch_size, self.shape)

    def raw_singles(self) -> tf.data.Dataset:
        return self._decoded(shuffle=False).batch(1)

    def _decoded(self, shuffle: bool) -> tf.data.Dataset:
        paths = tf.data.Dataset.from_tensor_slices([str(path) for path in self.paths])
        if shuffle:
            paths = paths.shuffle(len(self.paths), seed=np.random.randint(2**31))

        def read(path: tf.Tensor) -> tf.Tensor:
            return tf.io.decode_image(tf.io.read_file(path), channels=self.shape[-1], expand_animations=False)

        def decode(path: tf.Tensor) -> tf.Tensor:
            try:
                image = read(path)
                self.check_shape(image.shape)
            except (tf.errors.OpError, ValueError) as error:
                reason = str(getattr(error, "message", error))
                raise self.remember(ValueError(f"{path.numpy().decode()}: {reason}")) from None
            return image

        def decoded(path: tf.Tensor) -> tf.Tensor:
            image = tf.py_function(decode, [path], tf.uint8)
            image.set_shape(self.shape)
            return image

        return paths.map(decoded, num_parallel_calls=tf.data.AUTOTUNE)

    def count_batches(self, batch_size: int) -> int:
        if None not in self.shape[:2]:
            return -(-len(self.paths) // batch_size)
        return sum(1 for _ in self.raw_batches(batch_size, shuffle=False))


def batch_by_size(dataset: tf.data.Dataset, batch_size: int, shape: Shape) -> tf.data.Dataset:
    """Batches single images; where sizes may differ, each batch holds one size."""
    if None not in shape:
        return dataset.batch(batch_size)
    return dataset.group_by_window(
        key_func=lambda image: tf.cast(tf.shape(image)[0], tf.int64) * 2**31 + tf.cast(tf.shape(image)[1], tf.int64),
        reduce_func=lambda _, window: window.batch(batch_size),
        window_size=batch_size,
    )


def _scaled(images: tf.Tensor) -> tf.Tensor:
    """float32, `uint8` as [-1, 1]."""
    scaled = tf.cast(images, tf.float32)
    return scaled / 127.5 - 1.0 if images.dtype == tf.uint8 else scaled


def pad_by_reflection(images: tf.Tensor, multiple: int) -> tf.Tensor:
    """Makes height and width of `(N, H, W, C)` multiples of `multiple`, below and on the right."""
    if multiple == 1:
        return images
    size = tf.shape(images)[1:3]
    more = -size % multiple
    padded = tf.pad(images, [[0, 0], [0, more[0]], [0, more[1]], [0, 0]], mode="REFLECT")
    static = [None if side is None else side + -side % multiple for side in images.shape[1:3]]
    padded.set_shape((images.shape[0], *static, images.shape[3]))
    return padded
