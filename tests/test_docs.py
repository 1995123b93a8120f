"""Every snippet of README and docs is run: Python against the fake provider, policies loaded, commands executed."""

from __future__ import annotations

import gc
import re
import shlex
import sys
import warnings
from pathlib import Path

import pytest

from capguard.cli import main
from capguard.policy.load import load_policy
from tests.backends.servers import WHEEL, shared
from tests.documents import blocks, workplace

__all__ = ["workplace"]  # a fixture

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = {"python", "toml", "yaml", "json", "console"}
REDIS = "redis://localhost:6379/0"
"""In the pages; the tests have a server of their own."""
SHOWN = {"text", "sql", "lua"}
"""Blocks that show output or data and cannot be run."""
APART = {"litellm.md": "tests/integrations/litellm/test_examples.py"}
"""Pages whose host framework leaves connections open and warnings behind: run where that is dealt with."""


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in APART], ids=lambda page: page.name)
def test_every_snippet_runs(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python blocks of one page share a namespace; a policy is also left as policy.toml for the commands after it."""
    namespace: dict[str, object] = {"__name__": "snippet"}
    try:
        run_blocks(page, workplace, namespace, monkeypatch)
    finally:
        left_open(namespace)


def run_blocks(page: Path, workplace: Path, namespace: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    for language, text in blocks(page):
        if language == "python":
            code = text.replace(REDIS, shared(WHEEL).url) if REDIS in text else text
            exec(compile(code, f"{page.name}", "exec"), namespace)
        elif language in ("toml", "yaml", "json"):
            path = workplace / f"policy.{language}"
            path.write_text(text, encoding="utf-8")
            load_policy(path)
        elif language == "console":
            run_console(text, monkeypatch)


def left_open(namespace: dict[str, object]) -> None:
    """Pages leave clients open, as programs that go on do: they are collected here, before another test is blamed."""
    namespace.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page: Path) -> None:
    """A block in a language that nothing runs would rot."""
    text = page.read_text(encoding="utf-8")
    assert text.count("\n```") % 2 == 0
    assert {language for language, _ in blocks(page)} <= RUN | SHOWN
    assert len(blocks(page)) == (text.count("\n```") + text.startswith("```")) // 2, "a fence without a language"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name files that exist."""
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def run_console(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`$ capguard ...` is run as typed; a line `# exits with 1` before it states another exit code than 0."""
    expected = 0
    for line in text.splitlines():
        if said := re.fullmatch(r"# exits with (\d+)", line):
            expected = int(said[1])
        elif line.startswith("$ capguard "):
            monkeypatch.setattr(sys, "argv", shlex.split(line[2:], comments=True))
            with pytest.raises(SystemExit) as left:
                main()
            assert (left.value.code or 0) == expected, line
            expected = 0
