"""A script is the same after it was linked: only what costs time at its beginning is gone."""

from __future__ import annotations

import pytest

from capguard.backends.redis.linking import linked

ONE = "local function one() return 1 end\n"
THREE = "local function three() -- seldom\n  return one()\nend\n"

CASES = {
    "a constant is written in where its name stands": (
        "local ONE, TWO = 1, 2\nreturn ONE + TWO",
        "return 1 + 2",
    ),
    "a text with the same word in it stays": (
        "local LIMIT = 3\nreturn redis.call('LIMIT', LIMIT)",
        "return redis.call('LIMIT', 3)",
    ),
    "so does a field of that name": ("local LIMIT = 3\nreturn leg.LIMIT", "return leg.LIMIT"),
    "comments and margins go": ("-- why\n  return 1 -- because\n", "return 1"),
    "a function that nothing comes to goes": (
        "local function one()\n  return 1\nend\nlocal function two()\n  return 2\nend\nreturn two()",
        "local function two()\nreturn 2\nend\nreturn two()",
    ),
    "one that another one comes to stays": (
        "local function one() return 1 end\nlocal function two()\n  if true then return one() end\nend\nreturn two()",
        "local function one() return 1 end\nlocal function two()\nif true then return one() end\nend\nreturn two()",
    ),
    "what only a seldom function comes to is made inside of it": (
        ONE + "local function two() return 2 end\n" + THREE + "return two() or three()",
        "local function two() return 2 end\nlocal function three()\n"
        + ONE
        + "return one()\nend\nreturn two() or three()",
    ),
    "a seldom one may hold another, with what that one holds": (
        ONE + THREE + "local function four() -- seldom\n  return three()\nend\nreturn four()",
        "local function four()\nlocal function three()\n"
        + ONE
        + "return one()\nend\nreturn three()\nend\nreturn four()",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_linked(case: str) -> None:
    source, short = CASES[case]
    assert linked(source) == short
