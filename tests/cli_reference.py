"""Writes the options of every subcommand into docs/reference/cli.md, so that the page matches the parser.

    python -m tests.cli_reference

`test_docs.py` checks that the page is what this writes.
"""

import argparse
import re
from pathlib import Path

from stacked_autoencoder.cli.arguments import NAME, parser

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
PLACE = re.compile(r"(<!-- options: ([\w-]+) -->\n).*?(<!-- end of options -->)", flags=re.DOTALL)


def subcommands() -> dict[str, argparse.ArgumentParser]:
    """Subcommands by name; that of `anomalies fit` is `anomalies-fit`."""
    found = {}
    for name, subparser in _choices(parser()).items():
        nested = _choices(subparser)
        found |= {f"{name}-{action}": each for action, each in nested.items()} if nested else {name: subparser}
    return found


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next((each.choices for each in parser._actions if isinstance(each, argparse._SubParsersAction)), {})


def with_options(page: str) -> str:
    """The text of a page whose places hold the usage and the options of their subcommands."""
    commands = subcommands()
    return PLACE.sub(lambda place: f"{place[1]}{_section(place[2], commands[place[2]])}{place[3]}", page)


def _section(name: str, subparser: argparse.ArgumentParser) -> str:
    actions = [action for action in subparser._actions if not isinstance(action, argparse._HelpAction)]
    positional = [action for action in actions if not action.option_strings]
    options = [action for action in actions if action.option_strings]
    required = [f"{action.option_strings[0]} {_values(action)}" for action in options if action.required]
    words = [NAME, *name.split("-"), *(str(action.metavar) for action in positional), *required, "[OPTIONS]"]
    tables = [_table("Argument", positional), _table("Option", options)]
    return "\n".join(["```text", " ".join(words), "```", "", *filter(None, tables)]) + "\n"


def _table(title: str, actions: list[argparse.Action]) -> str:
    rows = [f"| {_names(action)} | {_escaped(action.help)} |" for action in actions]
    return "\n".join([f"| {title} | Meaning |", "| --- | --- |", *rows, ""]) if rows else ""


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar}`"
    values = _values(action)
    names = ", ".join(f"`{name}{f' {values}' if values else ''}`" for name in action.option_strings)
    return names.replace("|", "\\|")


def _values(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return " ".join(action.metavar) if isinstance(action.metavar, tuple) else str(action.metavar)


def _escaped(text: str | None) -> str:
    text = str(text).replace("|", "\\|").replace("<", "&lt;")
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    PAGE.write_text(with_options(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
