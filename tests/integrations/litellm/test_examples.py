"""The examples around LiteLLM run as they stand, and print what they promise."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import blocks, workplace
from tests.scripts import assert_in_order, run_script

__all__ = ["workplace"]  # a fixture

ROOT = Path(__file__).parents[3]

PRINTS = {
    "litellm_sdk.py": [
        "answer 3: gpt-4o, ann",
        "gpt-4o-mini, ann",
        "refused by monthly: exhausted",
        "a stream: bob has spent $0.0015",
        "4 of 50 passed, 4 reached the provider",
        "0 differences",
    ],
    "litellm_router.py": [
        "ann on free asked cheap: gpt-4o-mini answered",
        "ann on free asked big: refused by monthly (too_big)",
        "eve on pro asked broken: gpt-4o-mini answered",
        "eve on pro asked big: gpt-4o-mini answered",
        "3 calls were answered, 1 failed",
    ],
    "litellm_proxy/run.py": [
        "ann on free: openai/gpt-4o answered, $0.001975 left",
        "ann on free: 429 budget_cap_exceeded: budget cap 'monthly' refuses this call: exhausted",
        "ann on free: 429 rate_limit_error",
        "eve on pro: openai/gpt-4o-mini answered",
        "5 calls reached the provider, $0 is still held",
    ],
}


def test_the_page(workplace: Path):
    """The Python blocks of docs/litellm.md, as one script."""
    script = workplace / "page.py"
    page = ROOT / "docs" / "litellm.md"
    script.write_text("\n".join(text for language, text in blocks(page) if language == "python"), encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("name", [name for name in PRINTS if "/" not in name])
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """From any directory, with no key and no setting, and leaving nothing behind."""
    assert_in_order(PRINTS[name], run_script(ROOT / "examples" / name, tmp_path, monkeypatch, capfd))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(400)
def test_the_example_of_the_proxy(tmp_path: Path):
    """The same, in a process that starts the proxy."""
    name = "litellm_proxy/run.py"
    pytest.importorskip("mcp", reason="the proxy needs litellm[proxy]")
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    environment["PYTHONPATH"] = os.pathsep.join([*_before(), str(ROOT)])
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
        timeout=350,
    )
    assert done.returncode == 0, done.stderr
    assert_in_order(PRINTS[name], done.stdout)
    assert list(tmp_path.iterdir()) == []


def _before() -> list[str]:
    """What stands first on the path of this process: another version of LiteLLM, where the tests are run with one."""
    return [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and each != str(ROOT)]
