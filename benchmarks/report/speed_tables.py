"""Tables of how fast, and of what is needed for it."""

from collections.abc import Callable

from benchmarks.report import results
from benchmarks.report.markdown import grouped, markdown, measured


def roofline() -> str:
    rows = []
    for code, of in grouped(results.load("roofline")["rows"], "code", "what").items():
        cells = [code]
        for what in ("training step", "encoding"):
            cells += [f"{of[what]['us_per_image']:.0f} µs", f"{of[what]['share']:.2f}"]
            cells += [f"{of[what]['twin']:.2f}" if "twin" in of[what] else ""]
        cells += [f"{of['training step'][kind]:.0%}" for kind in ("elementwise", "layout", "optimizer")]
        rows.append(cells)
    header = ["code", "a training step, per image", "share", "PyTorch", "encoding, per image", "share", "PyTorch"]
    header += ["a step's time in activations and sums", "in changes of layout", "in the optimizer"]
    return markdown(header, rows) + measured("roofline")


def fit() -> str:
    rows, found = [], results.load("fit")["rows"]
    for row in found:
        cells = [row["code"], str(row["batch"]), f"{row['step_ms']:.0f} ms", f"{row['ratio']:.2f}"]
        rows.append([*cells, f"{row['epoch']:.2f}", f"{row['begins']:.1f} s"])
    steps = found[0]["steps"]
    header = ["code", "batch", "bare step", "`train`, of it", f"an epoch of {steps} steps, of {steps} bare ones"]
    return markdown([*header, "first steps done after"], rows) + measured("fit")


def levels() -> str:
    found = results.load("levels")["rows"]
    steps = [row for row in found if row["part"] == "steps"]
    told = [[f"level {index}", f"{row['ms']:.1f} ms", f"{row['times']:.1f}"] for index, row in enumerate(steps)]
    text = markdown(["a step of", "takes", "times cheaper than level 0's"], told)
    load = {row["what"]: row["seconds"] for row in found if row["part"] == "load"}
    text += f"\nLoading a stack takes {load['first']:.2f} s after TensorFlow's import, then {load['again']:.2f} s.\n"
    return text + measured("levels")


def greedy() -> str:
    rows = []
    for row in (each for each in results.load("greedy")["rows"] if "epochs" in each):
        epochs, joint = ", ".join(map(str, row["epochs"])), row["joint"]
        cells = [epochs, f"{row['seconds']:.0f} s", f"{row['loss']:.2e}", f"{joint:.0f} s" if joint else "not reached"]
        rows.append([*cells, f"{row['of']:.2f}" if joint else ""])
    header = ["epochs of the levels", "greedy training", "loss", "joint training to that loss", "greedy's share"]
    return markdown(header, rows) + measured("greedy")


def classifiers() -> str:
    found = results.load("classifiers")["rows"]
    told = []
    for row in found:
        times = found[0]["epoch"] / row["epoch"]
        cells = [row["on"], f"{row['epoch']:.2f} s", f"{times:.0f}", str(row["epochs"])]
        told.append([*cells, f"{row['seconds']:.0f} s", f"{row['accuracy']:.2f}"])
    header = ["the classifier is of", "an epoch", "times as quick", "epochs", "took", "of the test crops right"]
    before = f"{found[1]['before']:.0f}"
    return (
        f"{markdown(header, told)}\nTraining the autoencoder and encoding took {before} s of these.\n"
        f"{measured('classifiers')}"
    )


def classifiers_short() -> str:
    """The best on encodings, beside that on pixels."""
    pixels, *on_encodings = results.load("classifiers")["rows"]
    best = max(on_encodings, key=lambda row: row["accuracy"])
    return (
        f"A classifier of crops of {pixels['on']} gets {best['accuracy']:.0%} of new ones right after "
        f"{best['seconds']:.0f} seconds on {best['on']} encodings, training the autoencoder included; on pixels "
        f"{pixels['accuracy']:.0%} after {pixels['seconds']:.0f} ([heads](docs/how-to/heads.md)).\n"
    )


def began_step() -> str:
    rows = [[row["on"], f"{row['seconds']:.3f} s", f"{row['times']:.0f}"] for row in results.load("began_step")["rows"]]
    return markdown(["a BEGAN's training step on", "takes", "times as long"], rows) + measured("began_step")


def presets() -> str:
    rows = []
    found = results.load("presets")["rows"]
    minutes = sorted({row["minutes"] for row in found})
    for name, of in grouped(found, "preset", "minutes").items():
        one = of[minutes[0]]
        cells = [f"`{name}`", str(one["size"]), str(one["depth"]), f"{one['weights']:,}"]
        cells += [f"{min(each[time] for each in of.values()):.0f} µs" for time in ("train_us", "encode_us")]
        rows.append([*cells, *(f"{of[each]['of_pca']:.3f}" for each in minutes)])
    header = ["preset", "`size`", "`depth`", "weights", "a training step, per image", "encoding, per image"]
    header += [f"loss after {each:g} min, of PCA's" for each in minutes]
    return markdown(header, rows) + measured("presets")


def scaling(axis: str, what: str) -> Callable[[], str]:
    def table() -> str:
        rows = []
        for row in results.load("scaling")["rows"]:
            if row["axis"] == axis:
                cells = [f"{row['value']:,}"]
                for kind in ("train", "encode"):
                    cells.append(f"{row[f'{kind}_us']:.0f} µs" if f"{kind}_us" in row else "")
                    cells.append(f"{row[f'{kind}_megaflop']:.1f}" if f"{kind}_megaflop" in row else "")
                    cells.append(f"{row[f'{kind}_share']:.2f}" if f"{kind}_share" in row else "")
                rows.append(cells)
        header = [what]
        for kind in ("training", "encoding"):
            header += [f"{kind}, per image", "million operations", "share"]
        kept = [index for index in range(len(header)) if any(row[index] for row in rows)]
        return markdown([header[index] for index in kept], [[row[index] for index in kept] for row in rows])

    return table


def singles(name: str) -> Callable[[], str]:
    """A table of a benchmark whose figures stand each for itself; those in brackets only explain others."""

    def table() -> str:
        rows = [
            [row["what"], f"{row['figure']:.2f}" if row["figure"] < 20 else f"{row['figure']:,.0f}"]
            for row in results.load(name)["rows"]
            if not row["what"].startswith("(")
        ]
        return markdown(["", ""], rows) + measured(name)

    return table
