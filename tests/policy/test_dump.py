"""A policy that was dumped, as JSON or as TOML, loads as the same policy: what was published can always be read."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from capguard.cli.tomltext import toml_text
from capguard.policy.load import document_hash, dump_policy, load_policy, policy_hash

EXAMPLE = Path(__file__).parent / "example.toml"

CASES: dict[str, Any] = {
    "empty": {},
    "the example": EXAMPLE,
    "output that costs nothing": {"prices": {"embed": {"input": 1, "output": 0}}},
    "input that costs nothing": {"prices": {"m": {"input": 0, "output": 1, "request": 0}}},
    "per request": {"prices": {"m": {"request": 1}}},
    "free": {"prices": {"m": {"free": True}}},
    "a unit that counts nothing": {"units": {"credits": {"*": {"input": 0}}}},
    "an empty plan": {"plans": {"free": {}}, "default_plan": "free"},
    "names that need quotes": {
        "plans": {'a "b" \\ .c': {"caps": [{"id": "ü.1", "limit": "0.000000001", "per": []}]}},
        "users": {"x y": {"plan": 'a "b" \\ .c', "caps": [{"id": "ü.1", "limit": 3}]}},
        "downgrade": {"gpt-4.1": "gpt-4.1-mini"},
    },
    "a change of one field": {
        "plans": {"p": {"caps": [{"id": "a", "limit": 1}]}},
        "users": {"u": {"plan": "p", "caps": [{"id": "a", "action": "warn"}]}},
    },
    "a match": {"caps": [{"id": "a", "limit": 1, "match": {"model": ["x", "y*"], "tag:env": "prod"}, "public": True}]},
}


@pytest.mark.parametrize("source", CASES.values(), ids=CASES)
def test_json(source: Any) -> None:
    policy = load_policy(source)
    again = load_policy(dump_policy(policy))
    assert again == policy
    assert policy_hash(again) == policy_hash(policy) == document_hash(dump_policy(policy))


@pytest.mark.parametrize("source", CASES.values(), ids=CASES)
def test_toml(source: Any) -> None:
    policy = load_policy(source)
    assert load_policy(tomllib.loads(toml_text(policy), parse_float=Decimal)) == policy
