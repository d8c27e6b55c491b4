"""Procrastinate still has what the machinery leans on without a promise."""

import ast
from collections.abc import Iterator
from pathlib import Path

import procrastinate
import pytest

from ..upstream import LEANED_ON

PACKAGE = Path(procrastinate.__file__).parent


def names(tree: ast.AST) -> Iterator[str]:
    """Yield what a module defines, sets as an attribute, or writes as a text."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.Constant(value=str(text)):
                yield text


@pytest.mark.parametrize(
    ("file", "name"),
    [(file, name) for file in LEANED_ON for name in LEANED_ON[file]],
)
def test_procrastinate_still_has(file: str, name: str) -> None:
    """If not, see how it is done now, and mend `jobs/upstream.py`."""
    text = (PACKAGE / file).read_text(encoding="utf-8")
    found = names(ast.parse(text)) if file.endswith(".py") else text.split()
    assert name in {word.partition("(")[0].rstrip(",;") for word in found}
