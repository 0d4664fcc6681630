"""Tables that the benchmarks print and write, and their common arguments."""

import argparse
import json
from pathlib import Path


def parser(description: str) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--json", type=Path, help="also write the table to this file")
    return result


def write(rows: list[dict], file: Path | None) -> list[dict]:
    """Writes the rows to `file`, unless it is `None`; returns them."""
    if file:
        file.write_text(json.dumps(rows, indent=1))
    return rows


def figures(values: dict[str, float], file: Path | None) -> dict[str, float]:
    """Prints named values, and writes one row for each; returns them."""
    for what, figure in values.items():
        print(f"{figure:8.2f}  {what}")
    write([{"what": what, "figure": figure} for what, figure in values.items()], file)
    return values


def row(
    source: str,
    code: str,
    values: int,
    design: str,
    loss: float,
    pca: float,
    seconds: float = 0.0,
    step: float = 0.0,
) -> dict:
    result = {"data": source, "code": code, "values": values, "design": design, "loss": loss, "of_pca": loss / pca}
    return result | {"seconds": seconds, "step_ms": 1000 * step}


def times(line: dict) -> list[str]:
    """Seconds of training and milliseconds of a step as text, empty if they were not measured."""
    return [f"{line[name]:.1f}" if line[name] else "" for name in ("seconds", "step_ms")]


def show(rows: list[dict]) -> None:
    """Prints losses, also divided by the PCA loss."""
    print(
        f"\n{'data':13} {'encoding':13} {'values':>6}  {'design':23} {'loss':>9} {'loss / PCA loss':>16}"
        f" {'time (s)':>9} {'step (ms)':>10}"
    )
    for line in rows:
        seconds, step = times(line)
        print(
            f"{line['data']:13} {line['code']:13} {line['values']:6}  {line['design']:23} {line['loss']:9.2e}"
            f" {line['of_pca']:16.3f} {seconds:>9} {step:>10}".rstrip()
        )
