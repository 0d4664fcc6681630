"""All tables and sentences that the report writes, by the names that pages use."""

from collections.abc import Callable

from benchmarks.report import extrapolation
from benchmarks.report import quality_tables as quality
from benchmarks.report import speed_tables as speed
from benchmarks.report.markdown import markdown, measured

TABLES: dict[str, Callable[[], str]] = {
    "photographs": quality.photographs,
    "taef2": quality.taef2,
    "photographs_short": quality.photographs_short,
    "rate_features": quality.rate_features,
    "rate_stores": quality.rate_stores,
    "store_heads": quality.store_heads,
    "nested_flow": quality.nested_flow,
    "anomalies": quality.anomalies,
    "fashion": quality.fashion,
    "kinds": quality.kinds,
    "roofline": speed.roofline,
    "fit": speed.fit,
    "levels": speed.levels,
    "greedy": speed.greedy,
    "peers": quality.peers,
    "pretraining": quality.pretraining,
    "encoding": speed.singles("encoding"),
    "memory": speed.singles("memory"),
    "allocator": speed.singles("allocator"),
    "flow": quality.flow,
    "flow_short": quality.flow_short,
    "classifiers": speed.classifiers,
    "classifiers_short": speed.classifiers_short,
    "began_step": speed.began_step,
    "presets": speed.presets,
    "scaling_measured": lambda: measured("scaling").lstrip(),
    "scaling_side": speed.scaling("side", "image side (pixels)"),
    "scaling_n_out": speed.scaling("n_out", "`n_out`"),
    "scaling_size": speed.scaling("size", "`size`"),
    "scaling_levels": speed.scaling("levels", "levels"),
    "scaling_images": speed.scaling("images", "images"),
    "scaling_threads": speed.scaling("threads", "threads"),
    "gpus": lambda: markdown(*extrapolation.devices()),
    "corpus": extrapolation.corpus,
    "workers": lambda: markdown(*extrapolation.workers()),
}
