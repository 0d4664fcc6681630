"""Markdown tables, and the line that names the command and the machine behind a table."""

from collections.abc import Sequence

from benchmarks.report import results


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def measured(name: str) -> str:
    """The line below a table: command, machine and versions."""
    result = results.load(name)
    command = " ".join(["python -m", results.module_of(name), *result["arguments"]])
    machine, versions = result["machine"], result["versions"]
    return (
        f"\nMeasured with `{command}` on an {machine['processor']}, {machine['threads']} threads, "
        f"{machine['gigaflops']} GFLOP/s in NumPy, TensorFlow {versions['tensorflow']}, Keras {versions['keras']}.\n"
    )


def grouped(rows: Sequence[dict], group: str, name: str) -> dict[str, dict]:
    """Rows by their value in column `group`, then by their value in column `name`; groups keep their order."""
    groups: dict[str, dict] = {}
    for row in rows:
        groups.setdefault(row[group], {})[row[name]] = row
    return groups


def grouped_lists(rows: Sequence[dict], name: str) -> dict[str, list[dict]]:
    """Lists of rows by their value in column `name`."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row[name], []).append(row)
    return groups


def if_measured(value: float, form: str) -> str:
    """The formatted value, or an empty cell for a time of 0, which was not measured."""
    return form.format(value) if value else ""
