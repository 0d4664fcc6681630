"""The tables of the pages, made of what benchmarks have measured."""

from collections.abc import Callable, Sequence

from benchmarks import extrapolation, results

DESIGNS = {"usual design": "the usual deep convolutional autoencoder"}
NETS = {
    "tied": "dense 100-30, tied",
    "convolutional": "convolutional",
    "dropout": "dense 100-30, denoising by `Dropout(0.5)`",
    "L1": "dense 100-300, sparse by L1",
    "KL": "dense 100-300, sparse by `KLSparsity`",
}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def measured(name: str) -> str:
    """Where and when figures come from, in a line under their table."""
    kept = results.load(name)
    command = " ".join(["python -m", f"benchmarks.{name}", *kept["arguments"]])
    machine, versions = kept["machine"], kept["versions"]
    about = f"{machine['processor']}, {machine['threads']} threads, TensorFlow {versions['tensorflow']}"
    return f"\n`{command}`, {about}, Keras {versions['keras']}.\n"


def grouped(rows: Sequence[dict], group: str, name: str) -> dict[str, dict]:
    """The rows of each group, in the order in which groups come, by what a column says of them."""
    groups: dict[str, dict] = {}
    for row in rows:
        groups.setdefault(row[group], {})[row[name]] = row
    return groups


def if_measured(value: float, form: str) -> str:
    """Nothing of times that weren't taken, which are 0."""
    return form.format(value) if value else ""


def photographs() -> str:
    rows, code = [], ""
    for row in results.load("photographs")["rows"]:
        cells = ["" if row["code"] == code else row["code"], DESIGNS.get(row["design"], row["design"])]
        cells += [f"{row['loss']:.2e}", f"{row['of_pca']:.3g}", f"{row['valid']:.2e}"]
        cells.append("" if row["worse"] is None else f"{row['worse']:.0%}")
        rows.append([*cells, if_measured(row["seconds"], "{:.0f} s"), if_measured(row["step_ms"], "{:.0f} ms")])
        code = row["code"]
    header = ["code", "design", "loss", "of PCA's", "the validation pictures' loss", "worse", "trained for", "a step"]
    return markdown(header, rows) + measured("photographs")


def photographs_short() -> str:
    rows = []
    for code, of in grouped(results.load("photographs")["rows"], "code", "design").items():
        ours, usual = of["ours"], of["usual design"]
        times = f"{usual['step_ms'] / ours['step_ms']:.0f} times ours"
        rows.append([code, f"{ours['of_pca']:.2f}", f"{usual['of_pca']:.0f}", times])
    header = ["64x64x3 to", "loss, of PCA's of as many values", "the usual deep convolutional autoencoder"]
    return markdown([*header, "its step costs"], rows)


def fashion() -> str:
    rows = []
    for row in results.load("fashion")["rows"]:
        times = if_measured(row["seconds"], "{:.0f} s"), if_measured(row["step_ms"], "{:.1f} ms")
        rows.append([row["design"].strip(), f"{row['loss']:.2e}", f"{row['of_pca']:.2f}", *times])
    return markdown(["design", "loss", "of PCA's", "trained for", "a step"], rows) + measured("fashion")


def kinds() -> str:
    rows = []
    for name, of in grouped(results.load("kinds")["rows"], "code", "design").items():
        losses = [f"{of[design]['loss']:.4f}" for design in ("PCA", "published", "ours")]
        rows.append([NETS[name], str(of["ours"]["values"]), *losses, f"{of['ours']['seconds']:.0f} s"])
    return markdown(["net", "values", "PCA", "published", "ours", "trained for"], rows) + measured("kinds")


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
    rows = [
        [row["code"], str(row["batch"]), f"{row['step_ms']:.0f} ms", f"{row['ratio']:.2f}", f"{row['begins']:.1f} s"]
        for row in results.load("fit")["rows"]
    ]
    return markdown(["code", "batch", "bare step", "`train`, of it", "first steps done after"], rows) + measured("fit")


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


def presets() -> str:
    rows = []
    found = results.load("presets")["rows"]
    minutes = sorted({row["minutes"] for row in found})
    for name, of in grouped(found, "preset", "minutes").items():
        one = of[minutes[0]]
        cells = [f"`{name}`", str(one["size"]), str(one["depth"]), f"{one['weights']:,}"]
        cells += [f"{one['train_us']:.0f} µs", f"{one['encode_us']:.0f} µs"]
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


TABLES: dict[str, Callable[[], str]] = {
    "photographs": photographs,
    "photographs_short": photographs_short,
    "fashion": fashion,
    "kinds": kinds,
    "roofline": roofline,
    "fit": fit,
    "levels": levels,
    "greedy": greedy,
    "presets": presets,
    "scaling_side": scaling("side", "side of the image"),
    "scaling_n_out": scaling("n_out", "`n_out`"),
    "scaling_size": scaling("size", "`size`"),
    "scaling_levels": scaling("levels", "levels"),
    "scaling_images": scaling("images", "images"),
    "scaling_threads": scaling("threads", "threads"),
    "gpus": lambda: markdown(*extrapolation.devices()),
    "workers": lambda: markdown(*extrapolation.workers()),
}
