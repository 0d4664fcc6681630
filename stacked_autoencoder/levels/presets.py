"""Widths and depths of convolutional levels by name. It imports nothing heavy: the command's `--help` names them."""

from __future__ import annotations

from typing import Any

# `python -m benchmarks.presets` measures what each costs and loses.
PRESETS: dict[str, dict[str, int | None]] = {
    "fast": {"size": 32, "depth": 1},
    "balanced": {"size": 64, "depth": None},
    "best": {"size": 96, "depth": 4},
}


def preset_named(name: Any) -> dict[str, int | None]:
    """`size` and `depth` of a preset, as arguments of a `ConvLevel`.

    Raises:
        ValueError: there is none of that name.
    """
    if not isinstance(name, str) or name not in PRESETS:
        from stacked_autoencoder.utils.checks import did_you_mean

        known = ", ".join(map(repr, PRESETS))
        raise ValueError(f"`preset` must be one of {known}: {did_you_mean(name, PRESETS)}Received: preset={name!r}")
    return PRESETS[name]
