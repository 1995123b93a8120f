"""The examples around LiteLLM run as they stand, and print what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", PRINTS)
def test_example(name: str, tmp_path: Path):
    """From any directory, with no key and no setting, and leaving nothing behind."""
    if name.startswith("litellm_proxy"):
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
    at = 0
    for line in PRINTS[name]:
        at = done.stdout.find(line, at)
        assert at >= 0, f"{line!r} is missing or out of order in:\n{done.stdout}"
    assert list(tmp_path.iterdir()) == []


def _before() -> list[str]:
    """What stands first on the path of this process: another version of LiteLLM, where the tests are run with one."""
    return [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and each != str(ROOT)]
