"""Tables of time and memory."""

from collections.abc import Callable

from benchmarks.report import results
from benchmarks.report.markdown import grouped, markdown, measured
from benchmarks.report.names import BEGANS


def roofline() -> str:
    speeds, kinds = [], []
    for code, jobs in grouped(results.load("roofline")["rows"], "code", "what").items():
        cells = [code]
        for job in ("training step", "encoding"):
            row = jobs[job]
            cells += [f"{row['us_per_image']:.0f} µs", f"{row['share']:.2f}"]
            cells += [f"{row['twin']:.2f}" if "twin" in row else ""]
        speeds.append(cells)
        step = jobs["training step"]
        kinds.append([code, *(f"{step[kind]:.0%}" for kind in ("products", "elementwise", "layout", "optimizer"))])
    header = ["encoding shape"]
    for job in ("training", "encoding"):
        header += [f"{job} time per image", f"{job} share of machine rate", f"{job} time in PyTorch / our time"]
    kinds_header = ["encoding shape", "convolutions and matrix products", "activations and sums", "layout changes"]
    return (
        f"{markdown(header, speeds)}\nTime of one training step by kind of operation:\n\n"
        f"{markdown([*kinds_header, 'optimizer'], kinds)}{measured('roofline')}"
    )


def fit() -> str:
    results_of_fit = results.load("fit")["rows"]
    rows = []
    for row in results_of_fit:
        cells = [row["code"], str(row["batch"]), f"{row['step_ms']:.0f} ms", f"{row['ratio']:.2f}"]
        rows.append([*cells, f"{row['epoch']:.2f}", f"{row['begins']:.1f} s"])
    steps = results_of_fit[0]["steps"]
    header = ["encoding", "batch size", "bare step", "step in `train` / bare step"]
    header += [f"epoch of {steps} steps / {steps} bare steps", "time to the first steps"]
    return markdown(header, rows) + measured("fit")


def levels() -> str:
    all_rows = results.load("levels")["rows"]
    steps = [row for row in all_rows if row["part"] == "steps"]
    rows = [[str(index), f"{row['ms']:.1f} ms", f"{row['times']:.1f}"] for index, row in enumerate(steps)]
    text = markdown(["level index", "time per training step", "time of level 0 / time of this level"], rows)
    load = {row["what"]: row["seconds"] for row in all_rows if row["part"] == "load"}
    text += (
        f"\nOnce TensorFlow is imported, loading a stack of three levels takes {load['first']:.2f} s the first time "
        f"and {load['again']:.2f} s the second time.\n"
    )
    return text + measured("levels")


def greedy() -> str:
    rows = []
    for row in (each for each in results.load("greedy")["rows"] if "epochs" in each):
        epochs, joint = ", ".join(map(str, row["epochs"])), row["joint"]
        cells = [epochs, f"{row['loss']:.2e}", f"{row['seconds']:.0f} s", f"{joint:.0f} s" if joint else "not reached"]
        rows.append([*cells, f"{row['of']:.2f}" if joint else ""])
    header = ["epochs of levels 0, 1, 2", "loss after greedy training", "greedy training time"]
    header += ["joint training time to that loss", "greedy time / joint time"]
    return markdown(header, rows) + measured("greedy")


def classifiers() -> str:
    results_of_classifiers = results.load("classifiers")["rows"]
    pixels, on_encodings, *_ = results_of_classifiers
    rows = []
    for row in results_of_classifiers:
        cells = [row["on"], f"{row['epoch']:.2f} s", f"{pixels['epoch'] / row['epoch']:.0f}", str(row["epochs"])]
        rows.append([*cells, f"{row['seconds']:.0f} s", f"{row['accuracy']:.2f}"])
    header = ["classifier input", "time per epoch", "speed-up over pixels", "epochs", "total time", "test accuracy"]
    return (
        f"{markdown(header, rows)}\nThe total times on encodings include {on_encodings['before']:.0f} s for training "
        f"the autoencoder and encoding the images.\n{measured('classifiers')}"
    )


def classifiers_short() -> str:
    """The best classifier on encodings beside the one on pixels."""
    pixels, *on_encodings = results.load("classifiers")["rows"]
    best = max(on_encodings, key=lambda row: row["accuracy"])
    return (
        f"A classifier on {best['on']} encodings labels {best['accuracy']:.0%} of new {pixels['on']} crops correctly "
        f"after {best['seconds']:.0f} seconds of training, including the training of the autoencoder. On pixels it "
        f"labels {pixels['accuracy']:.0%} correctly after {pixels['seconds']:.0f} seconds "
        "([details](docs/how-to/heads.md)).\n"
    )


def began_step() -> str:
    rows = [
        [BEGANS[row["on"]], f"{row['seconds']:.3f} s", f"{row['times']:.0f}"]
        for row in results.load("began_step")["rows"]
    ]
    return markdown(["input and model", "time per training step", "time / time on encodings"], rows) + measured(
        "began_step"
    )


def presets() -> str:
    all_rows = results.load("presets")["rows"]
    minutes = sorted({row["minutes"] for row in all_rows})
    rows = []
    for name, trainings in grouped(all_rows, "preset", "minutes").items():
        row = trainings[minutes[0]]
        cells = [f"`{name}`", str(row["size"]), str(row["depth"]), f"{row['weights']:,}"]
        cells += [f"{min(each[time] for each in trainings.values()):.0f} µs" for time in ("train_us", "encode_us")]
        rows.append([*cells, *(f"{trainings[each]['of_pca']:.3f}" for each in minutes)])
    header = ["preset", "`size`", "`depth`", "weights", "training step per image", "encoding per image"]
    header += [f"loss / PCA loss after {each:g} min" for each in minutes]
    return markdown(header, rows) + measured("presets")


def scaling(axis: str, title: str) -> Callable[[], str]:
    """A table of costs along one axis; columns without a value are left out."""

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
        header = [title]
        for kind in ("training", "encoding"):
            header += [f"{kind} time per image", f"{kind} operations (million)", f"{kind} share of machine rate"]
        filled = [index for index in range(len(header)) if any(row[index] for row in rows)]
        return markdown([header[index] for index in filled], [[row[index] for index in filled] for row in rows])

    return table


def singles(name: str) -> Callable[[], str]:
    """A table with one measurement per row; rows in brackets are left out."""

    def table() -> str:
        rows = [
            [row["what"], f"{row['figure']:.2f}" if row["figure"] < 20 else f"{row['figure']:,.0f}"]
            for row in results.load(name)["rows"]
            if not row["what"].startswith("(")
        ]
        return markdown(["measurement", "value"], rows) + measured(name)

    return table
