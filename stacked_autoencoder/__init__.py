"""Stacked autoencoders for Keras: compress your images once, then train downstream models on the compact encodings.

Public names are imported on first use, so that `import stacked_autoencoder` alone doesn't import TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stacked_autoencoder.utils.allocator import keep_freed_memory
from stacked_autoencoder.version import __version__ as __version__

if TYPE_CHECKING:
    from stacked_autoencoder import callbacks, datasets, heads, metrics, plots
    from stacked_autoencoder.autoencoder import Autoencoder
    from stacked_autoencoder.data.image_folder import ImageFolder
    from stacked_autoencoder.layers.noise import Mask, SaltAndPepper
    from stacked_autoencoder.layers.penalties import KLSparsity
    from stacked_autoencoder.levels.base import Level
    from stacked_autoencoder.levels.conv import ConvLevel
    from stacked_autoencoder.levels.dense import DenseLevel
    from stacked_autoencoder.levels.sequence import SequenceLevel
    from stacked_autoencoder.store.encoding_store import EncodingStore
    from stacked_autoencoder.utils.errors import LoadError

keep_freed_memory()

__all__ = [
    "Autoencoder",
    "ConvLevel",
    "DenseLevel",
    "EncodingStore",
    "ImageFolder",
    "KLSparsity",
    "Level",
    "LoadError",
    "Mask",
    "SaltAndPepper",
    "SequenceLevel",
    "callbacks",
    "datasets",
    "heads",
    "metrics",
    "plots",
]

_MODULES = {
    "Autoencoder": "stacked_autoencoder.autoencoder",
    "ConvLevel": "stacked_autoencoder.levels.conv",
    "DenseLevel": "stacked_autoencoder.levels.dense",
    "EncodingStore": "stacked_autoencoder.store.encoding_store",
    "ImageFolder": "stacked_autoencoder.data.image_folder",
    "KLSparsity": "stacked_autoencoder.layers.penalties",
    "Level": "stacked_autoencoder.levels.base",
    "LoadError": "stacked_autoencoder.utils.errors",
    "Mask": "stacked_autoencoder.layers.noise",
    "SaltAndPepper": "stacked_autoencoder.layers.noise",
    "SequenceLevel": "stacked_autoencoder.levels.sequence",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}. Public names: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
