"""What the benchmarks print and write, and the arguments that say so."""

import argparse
import json
from pathlib import Path


def parser(description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, help="also write the table here")
    return made


def write(rows: list[dict], file: Path | None) -> list[dict]:
    """Writes a table, if there is a file for it; returns it."""
    if file:
        file.write_text(json.dumps(rows, indent=1))
    return rows


def figures(values: dict[str, float], file: Path | None) -> dict[str, float]:
    """Prints single figures by what they are, and writes a row for each; returns them."""
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
    valid: float | None = None,
    worse: float | None = None,
) -> dict:
    result = {"data": source, "code": code, "values": values, "design": design, "loss": loss, "of_pca": loss / pca}
    valid = loss if valid is None else valid
    return result | {"valid": valid, "worse": worse, "seconds": seconds, "step_ms": 1000 * step}


def show(rows: list[dict]) -> None:
    print(
        "\ndata          code      values  design                       loss  of PCA     valid  worse  seconds  step ms"
    )
    for line in rows:
        worse = " " * 7 if line["worse"] is None else f"{line['worse']:7.1%}"
        times = "".join(f"{line[name]:9.1f}" if line[name] else " " * 9 for name in ("seconds", "step_ms"))
        print(
            f"{line['data']:13} {line['code']:9} {line['values']:6}  {line['design']:23} {line['loss']:9.2e}"
            f" {line['of_pca']:7.3f} {line['valid']:9.2e}{worse}{times}"
        )
