"""No SQL is built from names: what people, prompts and keys are called is bound as a value."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import capguard.backends.sqlite

FILES = sorted(Path(capguard.backends.sqlite.__file__).parent.glob("*.py"))
RUNS = {"execute", "executemany", "executescript", "_run"}
SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|REPLACE|CREATE|DROP|WHERE|VALUES|ORDER BY)\b")
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")


def built_from_names(source: str) -> Iterator[str]:
    """Every piece of SQL in `source` that is not made of constants alone. A PRAGMA takes no values: it may be built."""
    for node in ast.walk(ast.parse(source)):
        for piece in _pieces(node):
            if not _is_constant(piece):
                yield ast.unparse(node)


def _pieces(node: ast.AST) -> Iterator[ast.expr]:
    """What is run as SQL, and what reads like SQL, where it is put together."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in RUNS and node.args and isinstance(node.args[0], (ast.JoinedStr, ast.BinOp, ast.Call)):
            yield node.args[0]
        if node.func.attr in ("format", "join", "replace") and SQL.search(ast.unparse(node)):
            yield node
    if isinstance(node, (ast.JoinedStr, ast.BinOp)) and SQL.search(_text(node)):
        yield node


def _text(node: ast.expr) -> str:
    return " ".join(str(each.value) for each in ast.walk(node) if isinstance(each, ast.Constant))


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add) and _is_constant(node.left) and _is_constant(node.right)
    if isinstance(node, ast.IfExp):
        return _is_constant(node.body) and _is_constant(node.orelse)
    if isinstance(node, ast.JoinedStr):
        return _text(node).startswith("PRAGMA ")
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and bool(CONSTANT.fullmatch(node.id)))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_sql_is_built_from_names(file: Path) -> None:
    assert list(built_from_names(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "bad",
    [
        'run(f"SELECT * FROM meter WHERE key = {user}")',
        'c.execute(f"{statement}")',
        'c.execute("SELECT * FROM meter WHERE key = " + user)',
        'c.execute("DELETE FROM meter WHERE key = %s" % user)',
        'c.execute("UPDATE meter SET cap = {}".format(user))',
        'query = "SELECT 1 " + user',
        'query = ", ".join(["SELECT 1", user])',
    ],
)
def test_the_test_sees_it(bad: str) -> None:
    assert list(built_from_names(bad))


@pytest.mark.parametrize(
    "good", ['c.execute("SELECT ?", (user,))', "c.execute(_A + _B)", 'c.execute(f"PRAGMA user_version = {V}")']
)
def test_the_test_lets_constants_pass(good: str) -> None:
    assert not list(built_from_names(good))
