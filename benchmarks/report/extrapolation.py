"""What a training step and encoding take on other devices, by counting; `docs/explanation/scaling.md`.

Nothing here was measured on these devices. A device needs at least the longer of two times: its operations at
`REACHED` of its published single-precision rate, and its bytes at the published rate of its memory.
"""

from benchmarks.harness.operations import FLOAT
from benchmarks.report import results

# Published by their maker: single precision outside of tensor cores, in 1e12 operations a second; memory, 1e9 bytes.
DEVICES = {
    "NVIDIA T4": (8.1, 320),
    "NVIDIA L4": (30.3, 300),
    "NVIDIA A100, 40 GB": (19.5, 1555),
    "H100 SXM": (67, 3350),
}
REACHED = 0.5  # of the published rate; on CPUs a training step reaches 0.5 to 0.8 of a matrix product's
NETWORKS = {"1 Gbit/s": 0.125e9, "10 Gbit/s": 1.25e9, "25 Gbit/s": 3.125e9}  # bytes a second
WORKERS = (2, 8, 32)
CORPUS = 10_000_000  # images


def _typical() -> dict:
    """The level that `docs/explanation/scaling.md` counts: 64x64x3 to 16x16x32, `size=64`."""
    (row,) = [row for row in results.load("scaling")["rows"] if (row["axis"], row["value"]) == ("side", 64)]
    return row


def devices() -> tuple[list[str], list[list[str]]]:
    row, cells = _typical(), []
    here = ["this machine, measured", f"{row['gigaflops'] / 1000:.2f}", ""]
    cells.append([*here, f"{row['train_us']:.0f} µs", "", f"{row['encode_us']:.0f} µs"])
    for name, (teraflops, gigabytes) in DEVICES.items():
        times = []
        for what in ("train", "encode"):
            computing = row[f"{what}_megaflop"] / (REACHED * teraflops)
            moving = 1000 * row[f"{what}_megabytes"] / gigabytes
            times.append((max(computing, moving), "memory" if moving > computing else "computing"))
        (train, limit), (encode, _) = times
        cells.append([name, f"{teraflops:g}", f"{gigabytes:,}", f"{train:.1f} µs", limit, f"{encode:.1f} µs"])
    header = ["device", "1e12 operations a second", "GB/s", "training, per image", "limited by", "encoding, per image"]
    return header, cells


def corpus() -> str:
    """What ten million images take, at the rate at which the most that were tried were encoded."""
    (*_, most) = [row for row in results.load("scaling")["rows"] if row["axis"] == "images"]
    return (
        f"A corpus of ten million 64x64 images takes this machine {most['encode_us'] * CORPUS / 6e7:.0f} minutes, "
        f"32 such machines a thirty-second of it.\n"
    )


def workers() -> tuple[list[str], list[list[str]]]:
    """Share of n workers' time in which they compute, where each adds up all gradients in a ring."""
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
