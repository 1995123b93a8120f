"""`capguard prices`, `estimate`, `downgrades`, `warm`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capguard.pricing import vocabulary

from .conftest import Run


def test_show(run: Run):
    """The rates, in dollars per million, with tiers and sizes; where they are from."""
    told = json.loads(run("prices", "show", "gpt-5.4", "--json").stdout)
    assert (told["input"], told["output"], told["cache_read"]) == ("2.5", "15", "0.25")
    assert {"service": "priority", "above": 272000, "input": "10", "output": "45", "cache_read": "1",
            "cache_write": "10"} in told["variants"]  # fmt: skip
    assert "LiteLLM" in told["source"]
    shown = run("prices", "show", "gpt-5.4").stdout
    assert all(text in shown for text in ("standard > 272k", "priority", "2.5", "LiteLLM", "vision"))


def test_show_fees(run: Run):
    """Per piece and per request."""
    told = json.loads(run("prices", "show", "whisper-1", "--json").stdout)
    assert told["fees"] == {"seconds": "0.0001"}
    assert "0.0001 USD for each of its seconds" in run("prices", "show", "whisper-1").stdout
    assert "0.005 USD for each of its requests" in run("prices", "show", "perplexity/pplx-7b-online").stdout


def test_show_what_is_unknown(run: Run):
    """Exit 1, and what it might have been."""
    told = run("prices", "show", "gpt-4oo")
    assert told.exit_code == 1
    assert "did you mean" in told.stderr
    assert "gpt-4o" in json.loads(run("prices", "show", "gpt-4oo", "--json").stdout)["close"]


def test_show_by_the_policy_and_a_list(run: Run, tmp_path: Path):
    """The policy's own price goes before that of a list, that before the bundled one."""
    policy, prices = tmp_path / "p.toml", tmp_path / "l.json"
    policy.write_text('[prices.mine]\ninput = 1\noutput = 2\n[deployments]\n"azure/x" = "gpt-4o"\n')
    prices.write_text(json.dumps({"models": {"mine": {"input": 5, "output": 5}, "theirs": {"input": 7, "output": 7}}}))
    asked = {model: run("prices", "show", model, "--policy", policy, "--prices", prices, "--json").stdout
             for model in ("mine", "theirs", "azure/x")}  # fmt: skip
    assert [json.loads(text)["input"] for text in asked.values()] == ["1", "7", "2.5"]


def test_check(run: Run, tmp_path: Path):
    """A list that can be believed, and one that cannot."""
    file = tmp_path / "l.json"
    file.write_text(
        json.dumps({"as_of": "2026-11-01", "source": "ours", "models": {"gpt-4o": {"input": 2, "output": 8}}})
    )
    assert json.loads(run("prices", "check", file, "--json").stdout) == {
        "source": "ours", "as_of": "2026-11-01", "models": 1, "left_out": {}, "doubts": []
    }  # fmt: skip
    file.write_text(json.dumps({"models": {"gpt-4o": {"input": 20, "output": 8}}}))
    told = run("prices", "check", file)
    assert told.exit_code == 1
    assert "gpt-4o: input changed much, from 2.5 to 20 USD per million tokens" in told.stdout
    assert run("prices", "check", tmp_path / "nowhere.json").exit_code == 2


def test_check_of_the_installed_litellm(run: Run):
    """Without an argument; zeros are left out, and said."""
    told = json.loads(run("prices", "check", "--json").stdout)
    assert told["models"] > 2500
    assert told["left_out"]["a price of zero"] > 0


PROMPTS = [
    ("a.txt", "hello " * 100, 101),
    ("a.json", json.dumps([{"role": "user", "content": "hello"}]), 8),
    ("b.json", json.dumps({"messages": [{"role": "user", "content": "hello"}], "tools": []}), 8),
    ("c.json", json.dumps({"input": ["hello", "hello"]}), 2),
]


@pytest.mark.parametrize(("name", "text", "tokens"), PROMPTS)
def test_estimate(run: Run, tmp_path: Path, name: str, text: str, tokens: int):
    """By the bound and by the count."""
    (tmp_path / name).write_text(text)
    told = json.loads(run("estimate", tmp_path / name, "--model", "gpt-4o", "--max-tokens", 100, "--json").stdout)
    assert told["count"]["input_tokens"] == tokens <= told["bound"]["input_tokens"]
    assert told["count"]["held"] == f"{(tokens * 2.5 + 1000) / 1e6:.7f}".rstrip("0")
    shown = run("estimate", tmp_path / name, "--model", "gpt-4o")
    assert "exact" in shown.stdout
    assert "1,024" in shown.stdout


@pytest.mark.parametrize(("name", "text"), [("a.json", "{}"), ("b.json", "{"), ("c.json", "5")])
def test_estimate_of_no_prompt(run: Run, tmp_path: Path, name: str, text: str):
    """One line, exit 2."""
    (tmp_path / name).write_text(text)
    assert run("estimate", tmp_path / name, "--model", "gpt-4o").exit_code == 2
    assert run("estimate", tmp_path / "nowhere.txt", "--model", "gpt-4o").exit_code == 2


def test_estimate_of_an_unknown_model(run: Run, tmp_path: Path):
    """At the policy's ceiling, and said."""
    (tmp_path / "a.txt").write_text("hello")
    told = json.loads(run("estimate", tmp_path / "a.txt", "--model", "who-knows", "--json").stdout)
    assert told["flags"] == ["ceiling"]


def test_downgrades(run: Run):
    """The list, with what is odd about it."""
    told = json.loads(run("downgrades", "--json").stdout)
    assert {"model": "gpt-4o", "sibling": "gpt-4o-mini", "findings": [], "pardon": None} in told
    assert "gpt-4o-mini" in run("downgrades").stdout


def test_downgrades_that_break_the_rule(run: Run, tmp_path: Path):
    """By prices of one's own, the sibling may be the dearer one."""
    file = tmp_path / "l.json"
    file.write_text(json.dumps({"models": {"gpt-4o-mini": {"input": 5, "output": 20}}, "meant": ["gpt-4o-mini"]}))
    told = run("downgrades", "--prices", file)
    assert told.exit_code == 1
    assert "not cheaper" in told.stdout


def test_warm(run: Run, monkeypatch: pytest.MonkeyPatch):
    """Whether each vocabulary is at hand."""
    assert json.loads(run("warm", "--json").stdout) == {"o200k_base": True, "cl100k_base": True}
    monkeypatch.setattr(vocabulary, "_loaded", {})
    monkeypatch.setattr(vocabulary, "_places", lambda file: iter(()))
    told = run("warm")
    assert told.exit_code == 1
    assert "o200k_base is not here: put its file into" in told.stdout
