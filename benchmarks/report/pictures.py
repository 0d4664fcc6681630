"""Figures of benchmark results."""

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.report.names import PEERS


def curves(rows: list[dict]) -> Figure:
    """Losses or Fréchet distances over training time, both on logarithmic scales."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        measure = "loss" if "loss" in row["curve"][0] else "frechet"
        label = PEERS.get(row.get("design")) or row.get("what") or f"{row['head']} on {row['on']}"
        seconds, values = ([point[key] for point in row["curve"]] for key in ("seconds", measure))
        axes.plot(seconds, values, marker="o" if len(values) < 8 else "", label=label)
    ylabel = "validation loss" if measure == "loss" else "Fréchet distance"
    axes.set(xscale="log", yscale="log", xlabel="training time (seconds)", ylabel=ylabel)
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    return figure


def presets(rows: list[dict]) -> Figure:
    """The loss of each preset over its encoding time, one line per training time."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(row["preset"] for row in rows))
    costs = [min(row["encode_us"] for row in rows if row["preset"] == name) for name in names]
    for minutes in sorted({row["minutes"] for row in rows}):
        losses = {row["preset"]: row["of_pca"] for row in rows if row["minutes"] == minutes}
        axes.plot(costs, [losses[name] for name in names], marker="o", label=f"trained for {minutes:g} min")
    axes.set(xscale="log", xlabel="encoding time per image (µs)", ylabel="loss / PCA loss")
    axes.set_xticks(costs, [f"{cost:.0f}\n{name}" for cost, name in zip(costs, names, strict=True)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    return figure
