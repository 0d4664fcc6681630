"""The README's commands are the ones that the checks run; its snippets run in `test_docs.py`."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_test_command_is_the_one_of_the_checks():
    assert 'pip install -e ".[test]" && pytest' in README
    checks = (ROOT / ".ci" / "run").read_text()
    assert '-e ".[test]"' in checks
    assert re.search(r"^pytest$", checks, flags=re.MULTILINE)
