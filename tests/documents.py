"""The blocks of README and docs, and a place to run them in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from capguard.default import default_is
from capguard.testing.provider import serve

FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each."""
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
