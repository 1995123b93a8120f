"""The examples run as they stand, and print what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from capguard.policy.load import load_policy
from tests.scripts import assert_in_order, run_script

EXAMPLES = Path(__file__).parents[1] / "examples"

PRINTS = {
    "first_call.py": [
        "answer 1: ann has spent $0.003 of $0.01",
        "answer 3: ann has spent $0.009 of $0.01",
        "refused: cap 'monthly' refuses this call: exhausted",
        "3 calls reached the provider; 0 differences",
    ],
    "decorator.py": [
        "coroutine: gpt-4o\n",
        "generator: 1",
        "function: gpt-4o: 100 words",
        "function: gpt-4o-mini: 100 words",
        "refused: cap 'hourly' refuses this call: exhausted",
    ],
    "langchain_chain.py": [
        "handler: a hold before",
        "handler: monthly exhausted",
        "model: a hold before",
        "embeddings: 2",
        "ann: gpt-4o downgrade:cheaper",
        "bob: gpt-4o-mini downgrade:cheaper",
        "0 differences",
    ],
    "langchain_agent.py": [
        "error: 'CapExceeded by agent_run', 8 x gpt-4o, 0 x gpt-4o-mini",
        "end: 'That is as far as your budget goes.', 8 x gpt-4o, 0 x gpt-4o-mini",
        "downgrade: 'a hold before each call and the rea', 8 x gpt-4o, 5 x gpt-4o-mini",
        "0 differences",
    ],
    "langgraph_session_budget.py": [
        "monday: 3 turns, then session is exhausted",
        "tuesday: 3 turns, then session is exhausted",
        "6 calls reached the provider; 0 differences",
    ],
    "streaming.py": [
        "whole, with usage: $0.0025 as reported",
        "whole, without usage: $",
        "counted\n",
        "dropped half way: $",
        "counted, uncertain",
        "Anthropic: $0.00345 as reported",
        "held at the end: $0\n",
    ],
    "openai_client.py": [
        "answer 1: gpt-4o\n",
        "answer 2: gpt-4o-mini\n",
        "streamed: gpt-4o-mini\n",
        "at once: 4 answered, 16 refused: monthly, in_flight",
        "ann has spent $0.00336; 0 differences",
    ],
    "anthropic_client.py": [
        "ann: 250 tokens",
        "ann: 250 words streamed",
        "ann is refused by monthly: exhausted",
        "bob: cut, True: counted, cut, uncertain",
    ],
    "starlette_app.py": [
        "bob /chat: 200 {'words': 250, 'cost': '0.003'}",
        "bob /render: 200",
        "bob /chat: 429 What is left of the cap 'daily' is not enough",
        "ada /chat: 200",
    ],
    "fastapi_app.py": [
        "t-bob: 200 27",
        "t-bob: 429 What is left of the cap 'monthly' is not enough",
        "t-ada: 200 27",
        "t-eve: 401 unknown token",
        "50% used",
    ],
    "plans.py": [
        "bob on free: 4 x gpt-4o, 26 x refused by monthly (exhausted)",
        "ann on free: 9 x gpt-4o, 21 x refused by monthly (exhausted)",
        "eve on pro: 4 x gpt-4o, 26 x gpt-4o-mini",
        "  company: $",
    ],
}

NEEDS = {
    "langchain_chain.py": ("langchain_openai",),
    "langchain_agent.py": ("langchain.agents", "langchain_openai"),
    "langgraph_session_budget.py": ("langgraph.graph", "langchain_openai"),
}


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} >= set(PRINTS)


APART = {"first_call.py", "plans.py"}
"""One that shows a fresh interpreter to be enough, and one that starts processes of its own."""


@pytest.mark.parametrize("name", [name for name in PRINTS if name not in APART])
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """From any directory, with no key and no setting, and leaving nothing behind."""
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module)
    assert_in_order(PRINTS[name], run_script(EXAMPLES / name, tmp_path, monkeypatch, capfd))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(APART))
def test_example_in_a_process_of_its_own(name: str, tmp_path: Path):
    """The same."""
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    environment["PYTHONPATH"] = str(EXAMPLES.parent)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert_in_order(PRINTS[name], done.stdout)
    assert list(tmp_path.iterdir()) == []


def test_the_policy_is_right():
    """It loads, and says what the example counts on."""
    policy = load_policy(EXAMPLES / "policy.toml")
    assert (set(policy.plans), policy.default_plan) == ({"free", "pro"}, "free")
