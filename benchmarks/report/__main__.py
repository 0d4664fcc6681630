"""Writes benchmark results into README.md and docs/, so that nobody copies numbers by hand.

    python -m benchmarks.report            # after `python -m benchmarks`
    python -m benchmarks.report --check    # change nothing, list the pages that are out of date

A page marks where a table belongs with `<!-- figures: NAME -->` and `<!-- end of figures -->`. NAME is a key of
`benchmarks.report.tables.TABLES`. The results are in `benchmarks/results/`, with machine, versions and arguments.
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
    "docs/explanation/greedy-training.md",
    "docs/explanation/scaling.md",
    "docs/how-to/choose-sizes.md",
)
SECTION = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", flags=re.DOTALL)
PICTURES = {"presets": pictures.presets, "peers": pictures.curves}  # benchmark → function that draws its rows


def updated(text: str) -> str:
    """Returns a page with the latest results in all its marked sections."""
    return SECTION.sub(lambda section: f"{section[1]}{TABLES[section[2]]()}{section[3]}", text)


def main(argv: list[str] | None = None) -> list[str]:
    """Updates the pages; returns those that were out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, list the pages that are out of date")
    check = parser.parse_args(argv).check
    outdated = []
    for name in PAGES:
        page = ROOT / name
        text = page.read_text(encoding="utf-8")
        if (new := updated(text)) != text:
            outdated.append(name)
            if not check:
                page.write_text(new, encoding="utf-8")
    if not check:
        for name, draw in PICTURES.items():
            draw(results.load(name)["rows"]).savefig(ROOT / "docs" / "figures" / f"{name}.png", dpi=120)
    print(f"{'out of date' if check else 'updated'}: {', '.join(outdated) or 'none'}")
    return outdated


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(1 if main(arguments) and "--check" in arguments else 0)
