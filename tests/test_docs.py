"""Every snippet of README and docs is run: Python against the fake provider, policies loaded, commands executed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from capguard.default import default_is
from capguard.policy.load import load_policy
from capguard.testing.provider import serve
from tests.backends.servers import WHEEL, shared

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = {"python", "toml", "yaml", "json", "console"}
REDIS = "redis://localhost:6379/0"
"""In the pages; the tests have a server of their own."""
SHOWN = {"text", "sql", "lua"}
"""Blocks that show output or data and cannot be run."""
APART = {"litellm.md": "litellm"}
"""Pages whose host framework leaves connections open and warnings behind: each runs in a process of its own."""


def blocks(page: Path) -> list[tuple[str, str]]:
    return FENCE.findall(page.read_text(encoding="utf-8"))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, and a provider where the SDKs look for theirs."""
    monkeypatch.chdir(tmp_path)
    with serve() as provider, default_is(None):
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-fake")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.anthropic_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-fake")
        yield tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_snippet_runs(page: Path, workplace: Path) -> None:
    """Python blocks of one page share a namespace; a policy is also left as policy.toml for the commands after it."""
    if page.name in APART:
        run_apart(page, workplace)
        return
    namespace: dict[str, object] = {"__name__": "snippet"}
    for language, text in blocks(page):
        if language == "python":
            code = text.replace(REDIS, shared(WHEEL).url) if REDIS in text else text
            exec(compile(code, f"{page.name}", "exec"), namespace)
        elif language in ("toml", "yaml", "json"):
            path = workplace / f"policy.{language}"
            path.write_text(text, encoding="utf-8")
            load_policy(path)
        elif language == "console":
            run_console(text)


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


def run_apart(page: Path, workplace: Path) -> None:
    """The Python blocks of a page as one script."""
    pytest.importorskip(APART[page.name])
    script = workplace / "page.py"
    script.write_text("\n".join(text for language, text in blocks(page) if language == "python"), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def run_console(text: str) -> None:
    """`$ capguard ...` is run as typed; a line `# exits with 1` before it states another exit code than 0."""
    expected = 0
    for line in text.splitlines():
        if said := re.fullmatch(r"# exits with (\d+)", line):
            expected = int(said[1])
        elif line.startswith("$ capguard "):
            command = [sys.executable, "-m", "capguard.cli", *shlex.split(line[2:], comments=True)[1:]]
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=100, check=False)
            assert done.returncode == expected, f"{line}\n{done.stdout}\n{done.stderr}"
            expected = 0
