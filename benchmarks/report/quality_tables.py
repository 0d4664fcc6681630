"""Tables of how good: losses, accuracies and distances."""

from benchmarks.report import results
from benchmarks.report.markdown import grouped, if_measured, markdown, measured

USUAL = "the usual deep convolutional autoencoder"
DESIGNS = {"usual design": USUAL}
PEERS = {
    "PCA": "PCA, of scikit-learn",
    "ours": "ours",
    "PyTorch": "our network in PyTorch, random start, Adam",
    "usual": USUAL,
    "Keras blog": "the Keras blog's, as many filters",
    "dense": "one dense layer each way",
}
NETS = {
    "tied": "dense 100-30, tied",
    "convolutional": "convolutional",
    "dropout": "dense 100-30, denoising by `Dropout(0.5)`",
    "L1": "dense 100-300, sparse by L1",
    "KL": "dense 100-300, sparse by `KLSparsity`",
}


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
    header = ["64x64x3 to", "loss, of PCA's of as many values", USUAL, "its step costs"]
    return markdown(header, rows)


def peers() -> str:
    rows = []
    for row in results.load("peers")["rows"]:
        cells = [PEERS[row["design"]], f"{row['loss']:.2e}", f"{row['seconds']:.0f} s"]
        cells.append(f"{row['images_per_second']:,.0f}" if "images_per_second" in row else "")
        reached = row["equal"] and [f"{row['equal']:.1f} s", f"{row['sooner']:.3g} times"]
        rows.append([*cells, *(reached or ["never", ""])])
    header = ["design", "its lowest loss", "after", "images a second", "at the usual design's lowest after", "sooner"]
    return markdown(header, rows) + measured("peers")


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


def pretraining() -> str:
    rows = []
    for labels, of in grouped(results.load("pretraining")["rows"], "labels", "start").items():
        cells = [f"{of[start][how]:.3f}" for start in ("pretrained", "random") for how in ("frozen", "fine-tuned")]
        rows.append([labels, *cells])
    header = ["labels", "pretrained, encoder frozen", "fine-tuned", "random weights, encoder frozen", "fine-tuned"]
    return markdown(header, rows) + measured("pretraining")


def flow() -> str:
    rows, found = [], results.load("heads")["rows"]
    ours, pixels = _flows()
    compared = [row for row in found if row["on"].startswith(f"{ours['on']}:")]  # of the same encodings, without a head
    for row in [*compared, ours, pixels]:
        what = f"flow on {_seen(row)}" if row["head"] else row["on"]
        forms = {
            "seconds": "{:.0f} s",
            "step_ms": "{:.0f} ms",
            "frechet": "{:.1f}",
            "asked": "{:.0%}",
            "equal": "{:.0f} s",
        }
        rows.append([what, *(form.format(row[key]) if row.get(key) else "" for key, form in forms.items())])
    header = ["", "trained for", "a step", "Fréchet distance", "of the asked class", "as near as on pixels after"]
    return markdown(header, rows) + measured("heads")


def flow_short() -> str:
    ours, pixels = _flows()
    return (
        f"A flow of clothes on {_seen(ours)} is as near to real ones after {ours['equal']:.0f} seconds as the same "
        f"flow on {_seen(pixels)} after {pixels['seconds']:.0f} ([heads](docs/how-to/heads.md)).\n"
    )


def _flows() -> list[dict]:
    """The rows of the flow on encodings and of that on pixels."""
    return [row for row in results.load("heads")["rows"] if row["head"] == "Flow"]


def _seen(row: dict) -> str:
    """What a head sees, in words."""
    if row["on"] != "pixels":
        return f"{row['on']} encodings"
    height, width, _ = row["shape"]
    return f"{height}x{width} pixels"
