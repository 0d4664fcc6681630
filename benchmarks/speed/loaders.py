"""Speed of `encode_to` on data sets of other libraries, against a folder of the same pictures and the library alone.

    python -m benchmarks.speed.loaders                           # ten minutes
    python -m benchmarks.speed.loaders --only HDF5 PyTorch --images 2000

Images are 64x64x3 crops: JPEGs in a folder, in a tar file and in a table, pixels in HDF5 and Zarr. PyTorch and Grain
read the JPEGs of the folder with Pillow. The value of a library is its images per second, divided by those of the
folder or of a loop over the library's objects, whichever is slower. All jobs take turns in one run, and the best round
counts.
"""

import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks.harness import data, table
from benchmarks.harness.clocks import best_times
from benchmarks.harness.designs import CODES, as_if_trained, level_for
from benchmarks.speed.encoding import storing
from stacked_autoencoder import Autoencoder, ImageFolder

BATCH = 64  # of loaders with batches, and of chunks in files


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = table.parser(__doc__)
    parser.add_argument("--code", choices=list(CODES), default="16x16x32")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(LIBRARIES), default=list(LIBRARIES), metavar="LIBRARY")
    arguments = parser.parse_args(argv)
    crops = data.training_crops(arguments.images)
    sae = Autoencoder(shape=crops.shape[1:], levels=[level_for(arguments.code)])
    sae.train(crops[:1024], epochs=0, verbose=0)
    as_if_trained(sae)
    folder = Path(tempfile.mkdtemp())
    ratios = {}
    try:
        files = written(crops, folder / "pictures")
        for name in arguments.only:
            images, loop = LIBRARIES[name](crops, files, folder)
            jobs = {
                f"{name}: to disk": storing(sae, images, folder),
                f"{name}: alone": loop,
                "folder: to disk": storing(sae, ImageFolder(folder / "pictures"), folder),
            }
            ours, alone, from_folder = best_times(jobs, arguments.rounds).values()
            ratios[f"`encode_to` from {name}: speed / speed of the slower of the library alone and a folder"] = (
                max(alone, from_folder) / ours
            )
    finally:
        shutil.rmtree(folder)
    return table.figures(ratios, arguments.json)


def written(crops: np.ndarray, folder: Path) -> list[str]:
    """Writes the crops as JPEGs; returns their paths."""
    folder.mkdir()
    files = [str(folder / f"{index:06d}.jpg") for index in range(len(crops))]
    for file, crop in zip(files, crops, strict=True):
        tf.io.write_file(file, tf.io.encode_jpeg(crop, quality=90))
    return files


def looped(images: Any) -> Callable[[], None]:
    """Returns a function that loops over an object of a library."""

    def loop() -> None:
        for _ in images:
            pass

    return loop


def read(file: str) -> np.ndarray:
    return np.array(Image.open(file).convert("RGB"))  # a copy: PyTorch warns of arrays that can't be written to


# === For each library: the input of `encode_to`, and a loop over it without this package ===

Library = Callable[[np.ndarray, list[str], Path], tuple[Any, Callable[[], None]]]


def hdf5(crops: np.ndarray, files: list[str], folder: Path) -> tuple[Any, Callable[[], None]]:
    import h5py

    file = h5py.File(folder / "crops.h5", "w")
    images = file.create_dataset("crops", data=crops, chunks=(BATCH, *crops.shape[1:]), compression="gzip")
    return images, by_slices(images)


def zarr(crops: np.ndarray, files: list[str], folder: Path) -> tuple[Any, Callable[[], None]]:
    import zarr

    images = zarr.create_array(folder / "crops.zarr", data=crops, chunks=(BATCH, *crops.shape[1:]))
    return images, by_slices(images)


def by_slices(images: Any) -> Callable[[], None]:
    def loop() -> None:
        for start in range(0, images.shape[0], BATCH):
            images[start : start + BATCH]

    return loop


def hugging_face(crops: np.ndarray, files: list[str], folder: Path) -> tuple[Any, Callable[[], None]]:
    import datasets

    images = datasets.Dataset.from_dict({"image": files}).cast_column("image", datasets.Image())
    return images, looped(images)


def pytorch(crops: np.ndarray, files: list[str], folder: Path) -> tuple[Any, Callable[[], None]]:
    from torch.utils.data import DataLoader, Dataset

    class Photos(Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> np.ndarray:
            return read(files[index])

    images = DataLoader(Photos(), batch_size=BATCH)
    return images, looped(images)


def grain(crops: np.ndarray, files: list[str], folder: Path) -> tuple[Any, Callable[[], None]]:
    import grain

    images = grain.MapDataset.source(files).map(read).to_iter_dataset().batch(BATCH)
    return images, looped(images)


def web_dataset(crops: np.ndarray, files: list[str], folder: Path) -> tuple[Any, Callable[[], None]]:
    from webdataset import WebDataset

    with tarfile.open(folder / "crops.tar", "w") as archive:
        for file in files:
            archive.add(file, Path(file).name)
    images = WebDataset(str(folder / "crops.tar"), shardshuffle=False).decode("rgb8").to_tuple("jpg")
    return images, looped(images)


LIBRARIES: dict[str, Library] = {
    "HDF5": hdf5,
    "Zarr": zarr,
    "HuggingFace": hugging_face,
    "PyTorch": pytorch,
    "Grain": grain,
    "WebDataset": web_dataset,
}


if __name__ == "__main__":
    main()
