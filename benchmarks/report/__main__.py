"""Writes the figures in README.md and docs/ from what benchmarks have measured, so that none is typed in.

    python -m benchmarks.report            # after `python -m benchmarks`, or after some of it
    python -m benchmarks.report --check    # only says which page isn't what it would write

Pages have places for tables, from `<!-- figures: NAME -->` to `<!-- end of figures -->`; NAME is one of
`figures.TABLES`. What a table is made of is in `benchmarks/results/`, with machine, versions and arguments.
"""

import argparse
import re
import sys
from pathlib import Path

from benchmarks.report import pictures, results
from benchmarks.report.tables import TABLES

ROOT = Path(__file__).parent.parent.parent
PAGES = (
    "README.md",
    "docs/how-to/heads.md",
    "docs/explanation/benchmarks.md",
    "docs/explanation/scaling.md",
    "docs/how-to/choose-sizes.md",
)
PLACE = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", flags=re.DOTALL)
PICTURES = {"presets": pictures.presets, "peers": pictures.curves}  # benchmark → what draws its rows


def written(text: str) -> str:
    """A page with its figures as they were last measured."""
    return PLACE.sub(lambda place: f"{place[1]}{TABLES[place[2]]()}{place[3]}", text)


def main(argv: list[str] | None = None) -> list[str]:
    """Returns the pages whose figures weren't what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args(argv).check
    old = []
    for name in PAGES:
        page = ROOT / name
        text = page.read_text(encoding="utf-8")
        if (new := written(text)) != text:
            old.append(name)
            if not check:
                page.write_text(new, encoding="utf-8")
    if not check:
        for name, drawn in PICTURES.items():
            drawn(results.load(name)["rows"]).savefig(ROOT / "docs" / "figures" / f"{name}.png", dpi=120)
    print(f"{'not as measured' if check else 'written'}: {', '.join(old) or 'none'}")
    return old


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(1 if main(arguments) and "--check" in arguments else 0)
