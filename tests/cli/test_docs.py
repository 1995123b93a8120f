"""docs/cli.md names every command, every option and every exit code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from capguard.cli.app import app

DOC = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if inner := getattr(command, "commands", None):
        for word, each in inner.items():
            yield from leaves(each, f"{name} {word}")
    else:
        yield name, command


COMMANDS = dict(leaves(typer.main.get_command(app), "capguard"))


@pytest.mark.parametrize("name", COMMANDS)
def test_documented(name: str) -> None:
    """A command has a section of its own, with all its options."""
    head, found, rest = DOC.partition(f"## `{name}")
    assert found, head[:40]
    section = rest.partition("\n## ")[0]
    options = [option for each in COMMANDS[name].params for option in each.opts if option.startswith("--")]
    assert [option for option in options if option not in (*section.split("`"), *section.split())] == []


@pytest.mark.parametrize("code", range(4))
def test_exit_codes(code: int) -> None:
    assert f"| {code} |" in DOC
