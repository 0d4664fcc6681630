"""Named widths and depths of convolutional levels. Imports nothing slow, because `--help` of the command uses it."""

from __future__ import annotations

from typing import Any

# `python -m benchmarks --only presets` measures the cost and the loss of each preset.
PRESETS: dict[str, dict[str, int | None]] = {
    "fast": {"size": 32, "depth": 1},
    "balanced": {"size": 64, "depth": None},
    "best": {"size": 96, "depth": 4},
}


def preset_named(name: Any) -> dict[str, int | None]:
    """Returns `size` and `depth` of a preset, as arguments of a `ConvLevel`.

    Raises:
        ValueError: there is no preset of that name.
    """
    if not isinstance(name, str) or name not in PRESETS:
        from stacked_autoencoder.utils.checks import did_you_mean

        known = ", ".join(map(repr, PRESETS))
        raise ValueError(f"`preset` must be one of {known}: {did_you_mean(name, PRESETS)}Received: preset={name!r}")
    return PRESETS[name]
