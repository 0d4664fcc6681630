"""Tables in Markdown, and where their figures come from."""

from collections.abc import Sequence

from benchmarks.report import results


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def measured(name: str) -> str:
    """Where figures come from, in a line under their table."""
    kept = results.load(name)
    command = " ".join(["python -m", results.module_of(name), *kept["arguments"]])
    machine, versions = kept["machine"], kept["versions"]
    about = f"{machine['processor']}, {machine['threads']} threads"
    if "gigaflops" in machine:
        about += f" ({machine['gigaflops']}e9 operations a second in numpy's matrix product)"
    about += f", TensorFlow {versions['tensorflow']}"
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
