"""Scripts as `python script.py` runs them, in this process: what they import is imported once for all of them."""

from __future__ import annotations

import gc
import os
import runpy
import sys
from pathlib import Path

import pytest

from capguard.default import default_is


def run_script(
    script: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> str:
    """Run it in `workplace` without anybody's key; what it printed. What it leaves open is collected here."""
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "argv", [str(script)])
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
    capfd.readouterr()
    with default_is(None):
        runpy.run_path(str(script), run_name="__main__")
    gc.collect()
    said = capfd.readouterr()
    assert "Traceback" not in said.err, said.err
    return said.out


def assert_in_order(lines: list[str], printed: str) -> None:
    """Each of `lines` is there, after the one before it."""
    at = 0
    for line in lines:
        at = printed.find(line, at)
        assert at >= 0, f"{line!r} is missing or out of order in:\n{printed}"
