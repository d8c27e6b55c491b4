"""What is promised is tested."""

import re

from conftest import TEMPLATE

TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def test_each_promise_names_tests_that_exist() -> None:
    """A row of a table without a test is no promise."""
    folders = TEMPLATE / "tests", TEMPLATE / "{{cookiecutter.project_slug}}"
    files = (path.read_text() for folder in folders for path in folder.rglob("*.py"))
    names = {name for text in files for name in TEST.findall(text)}
    promised = (TEMPLATE / "docs/guarantees.md").read_text().partition("\n## Not promised")[0]
    rows = re.findall(r"^\| (?!Promise|---).*", promised, re.MULTILINE)
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert rows
    assert all(named)
    assert {name for row in named for name in row} <= names
