"""Estimated times of training and encoding on other devices, for `docs/explanation/scaling.md`.

Nothing here was measured on these devices. The estimate is the larger of two times: operations divided by `REACHED`
times the published single-precision rate, and bytes divided by the published memory bandwidth.
"""

from benchmarks.harness.operations import FLOAT
from benchmarks.report import results

# Published by the maker: single precision without tensor cores (1e12 operations per second); bandwidth (1e9 bytes).
DEVICES = {
    "NVIDIA T4": (8.1, 320),
    "NVIDIA L4": (30.3, 300),
    "NVIDIA A100, 40 GB": (19.5, 1555),
    "H100 SXM": (67, 3350),
}
REACHED = 0.5  # share of the published rate; a training step on CPUs reaches 0.5 to 0.8 of the matrix product rate
NETWORKS = {"1 Gbit/s": 0.125e9, "10 Gbit/s": 1.25e9, "25 Gbit/s": 3.125e9}  # bytes per second
WORKERS = (2, 8, 32)
CORPUS = 10_000_000  # images


def _typical() -> dict:
    """The measurements of the level in `docs/explanation/scaling.md`: 64x64x3 to 16x16x32, `size=64`."""
    (row,) = [row for row in results.load("scaling")["rows"] if (row["axis"], row["value"]) == ("side", 64)]
    return row


def devices() -> tuple[list[str], list[list[str]]]:
    row, cells = _typical(), []
    here = ["two CPU cores (measured)", f"{row['gigaflops'] / 1000:.2f}", ""]
    cells.append([*here, f"{row['train_us']:.0f} µs", "", f"{row['encode_us']:.0f} µs"])
    for name, (teraflops, gigabytes) in DEVICES.items():
        times = []
        for job in ("train", "encode"):
            computing = row[f"{job}_megaflop"] / (REACHED * teraflops)
            moving = 1000 * row[f"{job}_megabytes"] / gigabytes
            times.append((max(computing, moving), "memory" if moving > computing else "computation"))
        (train, limit), (encode, _) = times
        cells.append([name, f"{teraflops:g}", f"{gigabytes:,}", f"{train:.1f} µs", limit, f"{encode:.1f} µs"])
    header = ["device", "peak rate (TFLOP/s)", "memory bandwidth (GB/s)", "training per image", "limit"]
    return [*header, "encoding per image"], cells


def corpus() -> str:
    """The time for ten million images, at the rate of the largest number of images that was measured."""
    (*_, largest) = [row for row in results.load("scaling")["rows"] if row["axis"] == "images"]
    return (
        f"Encoding ten million 64x64 images takes {largest['encode_us'] * CORPUS / 6e7:.0f} minutes on this machine, "
        f"and one thirty-second of that on 32 such machines.\n"
    )


def workers() -> tuple[list[str], list[list[str]]]:
    """The share of time in which workers compute, if they sum their gradients in a ring."""
    row = _typical()
    step, gradients = row["batch"] * row["train_us"] / 1e6, FLOAT * row["weights"]
    cells = []
    for name, rate in NETWORKS.items():
        shares = []
        for count in WORKERS:
            sending = 2 * (count - 1) / count * gradients / rate
            shares.append(f"{step / (step + sending):.2f}")
        cells.append([name, *shares])
    return ["network", *(f"{count} workers" for count in WORKERS)], cells
