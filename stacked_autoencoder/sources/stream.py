"""Images from a `tf.data.Dataset`."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from stacked_autoencoder.sources.base import Shape, Source, batch_by_size


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
