"""Tables of quality: losses, accuracies and distances between sets of images."""

import numpy as np

from benchmarks.harness.clocks import reached_after
from benchmarks.report import results
from benchmarks.report.markdown import grouped, grouped_lists, if_measured, markdown, measured
from benchmarks.report.names import DESIGNS, NETWORKS, PEERS, TYPICAL


def photographs() -> str:
    rows = []
    for code, designs in grouped(results.load("photographs")["rows"], "code", "design").items():
        for name in DESIGNS:
            if name in designs:
                row = designs[name]
                cells = ["" if name != "PCA" else code, DESIGNS[name], f"{row['loss']:.2e}", f"{row['of_pca']:.2f}"]
                cells += [f"{row['highest']:.2f}", f"{row['share_worse']:.0%}"]
                cells += [f"{row['ssim']:.3f}", f"{row['sharpness']:.2f}"]
                rows.append([*cells, if_measured(row["seconds"], "{:.0f} s")])
    header = ["encoding", "design", "test loss", "loss / PCA loss", "highest of a picture", "tiles worse than PCA"]
    return markdown([*header, "SSIM", "sharpness", "training time"], rows) + measured("photographs")


def taef2() -> str:
    """Designs of the size of TAEF2's encodings, one per column, with TAEF2 if it was measured; bold marks the best."""
    designs = grouped(results.load("photographs")["rows"], "code", "design")["8x8x32"]
    columns = {"TAEF2": "TAEF2", "ours": "our level", "closed form": "our level, not trained", "PCA": "PCA"}
    columns = {name: title for name, title in columns.items() if name in designs}
    measures = ("test loss", "loss", "{:.2e}", min), ("SSIM", "ssim", "{:.3f}", max)
    rows = []
    for title, key, form, best in (*measures, ("sharpness", "sharpness", "{:.2f}", max)):
        values = [designs[name][key] for name in columns]
        texts = [form.format(value) for value in values]
        texts[values.index(best(values))] = f"**{form.format(best(values))}**"
        rows.append([title, *texts])
    return markdown(["measure", *columns.values()], rows) + measured("photographs")


def photographs_short() -> str:
    rows = []
    for code, designs in grouped(results.load("photographs")["rows"], "code", "design").items():
        ours, start, typical = designs["ours"], designs["closed form"], designs["usual design"]
        cells = [f"{start['of_pca']:.2f}", f"{ours['of_pca']:.2f}", f"{ours['sharpness']:.2f}"]
        rows.append([code, *cells, f"{typical['of_pca']:.0f}"])
    header = ["encoding of 64x64x3", "our loss / PCA loss, not trained", "our loss / PCA loss, trained"]
    header += ["our sharpness (original: 1)", f"loss / PCA loss of a {TYPICAL}"]
    designs = {row["design"]: row for row in results.load("peers")["rows"]}
    ours, torch, pca = (designs[name] for name in ("ours", "PyTorch", "PCA"))
    return (
        f"{markdown(header, rows)}\nThe same network in PyTorch, with random initial weights and Adam, reaches "
        f"{torch['loss'] / pca['loss']:.2f} of the PCA loss at {torch['code']} in {torch['seconds'] / 60:.0f} minutes. "
        f"This library reaches that loss in {reached_after(ours['curve'], torch['loss'], 'loss'):.0f} seconds and "
        f"{ours['loss'] / pca['loss']:.2f} of the PCA loss in {ours['seconds'] / 60:.0f} minutes (validation losses).\n"
    )


def rate_features() -> str:
    """Loss of stacks that are cut to the leading features, one row for each encoding and number of features."""
    rows = []
    features = [row for row in results.load("rate")["rows"] if "n_out" in row]
    for code, lines in grouped_lists(features, "code").items():
        for n_out, designs in grouped(lines, "n_out", "design").items():
            cells = [
                f"{designs[name]['of_pca']:.2f}" if name in designs else "" for name in ("plain", "nested", "alone")
            ]
            rows.append([code, str(n_out), *cells])
    header = ["encoding", "features kept", "default", "`nested=True`", "created with this size"]
    return markdown(header, rows) + measured("rate")


def rate_stores() -> str:
    """Bytes and loss of stores and of image files."""
    rows = []
    for row in results.load("rate")["rows"]:
        if "bytes" in row:
            added = f"{row['added']:.1%}" if "added" in row else ""
            rows.append([row["code"], row["what"], f"{row['bytes']:,.0f}", f"{row['loss']:.2e}", added])
    return markdown(["encoding", "files", "bytes per image", "loss", "added by rounding"], rows) + measured("rate")


def store_heads() -> str:
    """Heads on stores: mean and standard deviation over seeds."""
    rows = []
    for row in results.load("store_heads")["rows"]:
        accuracy, frechet = np.array(row["accuracy"]), np.array(row["frechet"])
        cells = [row["store"], f"{row['bytes']:,.0f}", f"{row['added']:.1%}"]
        cells += [f"{accuracy.mean():.1%} ± {accuracy.std():.1%}", f"{frechet.mean():.1f} ± {frechet.std():.1f}"]
        rows.append(cells)
    header = ["store", "bytes per image", "added loss", "accuracy of a classifier", "Fréchet distance of a flow"]
    return markdown(header, rows) + measured("store_heads")


def nested_flow() -> str:
    """Flows of encodings with many features: mean and standard deviation over seeds."""
    rows = []
    for row in results.load("nested_flow")["rows"]:
        frechet, design = np.array(row["frechet"]), row["design"]
        spread = "" if len(frechet) == 1 else f" ± {frechet.std():.1f}"
        name = f"`{design}`" if "=" in design else design
        rows.append([name, f"{frechet.mean():.1f}{spread}"])
    return markdown(["flow", "Fréchet distance"], rows) + measured("nested_flow")


def anomalies() -> str:
    """Anomaly detection: means over the classes of Fashion-MNIST, and each texture."""
    rows = [row for row in results.load("anomalies")["rows"] if row["data"] != "speed"]
    cells = []
    for data, of_data in grouped_lists(rows, "data").items():
        for name, found in grouped_lists(of_data, "design").items():
            means = [f"{np.mean([row[key] for row in found]):.3f}" for key in ("auroc", "precision")]
            kinds = [f"{found[0][key]:.3f}" if key in found[0] else "" for key in ("scratch", "stain", "missing part")]
            cells.append([data, name, *means, *kinds])
    header = ["data", "design", "AUROC", "average precision", "scratch", "stain", "missing part"]
    return markdown(header, cells) + measured("anomalies")


def peers() -> str:
    """Each design's lowest loss, and how soon it is as low as the same network in PyTorch gets."""
    designs = {row["design"]: row for row in results.load("peers")["rows"]}
    target = designs["PyTorch"]["loss"]
    rows = []
    for name, title in PEERS.items():
        row = designs[name]
        cells = [title, f"{row['loss']:.2e}", f"{row['loss'] / designs['PCA']['loss']:.2f}", f"{row['seconds']:.0f} s"]
        cells.append(f"{row['images_per_second']:,.0f}" if "images_per_second" in row else "")
        seconds = reached_after(row["curve"], target, "loss")
        rows.append([*cells, "not reached" if seconds is None else f"{seconds:.0f} s"])
    header = ["design", "lowest validation loss", "loss / PCA loss", "training time", "images per second"]
    return markdown([*header, f"time to a loss of {target:.2e}"], rows) + measured("peers")


def fashion() -> str:
    rows = []
    for row in results.load("fashion")["rows"]:
        times = if_measured(row["seconds"], "{:.0f} s"), if_measured(row["step_ms"], "{:.1f} ms")
        rows.append([DESIGNS[row["design"].strip()], f"{row['loss']:.2e}", f"{row['of_pca']:.2f}", *times])
    header = ["design", "validation loss", "loss / PCA loss", "training time", "time per step"]
    return markdown(header, rows) + measured("fashion")


def kinds() -> str:
    rows = []
    for name, designs in grouped(results.load("kinds")["rows"], "code", "design").items():
        losses = [f"{designs[design]['loss']:.4f}" for design in ("published", "ours", "PCA")]
        rows.append([NETWORKS[name], str(designs["ours"]["values"]), *losses, f"{designs['ours']['seconds']:.0f} s"])
    header = ["network", "values per image", "published loss", "our loss", "PCA loss", "our training time"]
    return markdown(header, rows) + measured("kinds")


def pretraining() -> str:
    rows = []
    for labels, starts in grouped(results.load("pretraining")["rows"], "labels", "start").items():
        cells = [f"{starts[start][how]:.3f}" for start in ("pretrained", "random") for how in ("frozen", "fine-tuned")]
        rows.append([labels, *cells])
    header = ["labels"]
    for weights in ("pretrained", "random weights"):
        header += [f"{weights}, frozen", f"{weights}, fine-tuned"]
    return markdown(header, rows) + measured("pretraining")


def flow() -> str:
    ours, pixels = _flows()
    code = f"{ours['on']}: "
    references = [row for row in results.load("heads")["rows"] if row["on"].startswith(code)]  # without a head
    rows = []
    for row in [*references, ours, pixels]:
        name = f"flow on {_input_of(row)}" if row["head"] else f"{row['on'].removeprefix(code)}, {ours['on']} encodings"
        forms = {
            "seconds": "{:.0f} s",
            "step_ms": "{:.0f} ms",
            "frechet": "{:.1f}",
            "asked": "{:.0%}",
            "equal": "{:.0f} s",
        }
        rows.append([name, *(form.format(row[key]) if row.get(key) else "" for key, form in forms.items())])
    header = ["source of the images", "training time", "time per step", "Fréchet distance", "images of the given class"]
    return markdown([*header, "time to the distance of the flow on pixels"], rows) + measured("heads")


def flow_short() -> str:
    ours, pixels = _flows()
    return (
        f"A flow trained on {_input_of(ours)} of Fashion-MNIST reaches in {ours['equal']:.0f} seconds the Fréchet "
        f"distance that the same flow on {_input_of(pixels)} reaches in {pixels['seconds']:.0f} seconds "
        "([details](docs/how-to/heads.md)).\n"
    )


def _flows() -> list[dict]:
    """The rows of the flow on encodings and of the flow on pixels."""
    return [row for row in results.load("heads")["rows"] if row["head"] == "Flow"]


def _input_of(row: dict) -> str:
    """The input of a head, with its shape."""
    if row["on"] != "pixels":
        return f"{row['on']} encodings"
    height, width, _ = row["shape"]
    return f"{height}x{width} pixels"
