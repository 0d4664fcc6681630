"""Pictures of what was measured; the only place of the benchmarks that draws."""

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator


def curves(rows: list[dict]) -> Figure:
    """Losses or distances over seconds, both on logarithmic scales."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        measure = "loss" if "loss" in row["curve"][0] else "frechet"
        label = row.get("design") or row.get("what") or f"{row['head']} on {row['on']}"
        seconds, values = ([look[key] for look in row["curve"]] for key in ("seconds", measure))
        axes.plot(seconds, values, marker="o" if len(values) < 8 else "", label=label)
    axes.set(xscale="log", yscale="log", xlabel="seconds", ylabel=measure)
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    return figure


def presets(rows: list[dict]) -> Figure:
    """The loss of each preset over what encoding costs, a line for each of the minutes."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(row["preset"] for row in rows))
    costs = [min(row["encode_us"] for row in rows if row["preset"] == name) for name in names]  # of the same network
    for minutes in sorted({row["minutes"] for row in rows}):
        losses = {row["preset"]: row["of_pca"] for row in rows if row["minutes"] == minutes}
        axes.plot(costs, [losses[name] for name in names], marker="o", label=f"trained for {minutes:g} min")
    axes.set(xscale="log", xlabel="encoding, microseconds per image", ylabel="loss, of PCA's")
    axes.set_xticks(costs, [f"{cost:.0f}\n{name}" for cost, name in zip(costs, names, strict=True)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    return figure
