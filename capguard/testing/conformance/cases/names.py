"""Names of people and calls are data: whatever they contain, they collide with nothing and break nothing."""

from __future__ import annotations

from capguard.ledger.caps import Leg
from capguard.ledger.commands import Fetch
from capguard.testing.conformance.builders import cap, journal, reserve, settle
from capguard.testing.conformance.script import case

HOSTILE = (
    "a",
    "A",
    " a",
    "a ",
    "a:b",
    "a{b}",
    "{a}",
    "{}",
    "}{",
    "*",
    "?",
    "[a]",
    "%",
    "_",
    "'",
    '"',
    "`",
    "\\",
    "'; DROP TABLE entry; --",
    "null",
    "nil",
    "0",
    "-1",
    "1e9",
    "é",
    "e\u0301",
    "STRASSE",
    "straße",
    "😀",
    "\u202egnp",
    "x" * 256,
    "x" * 255 + "y",
)
PAIRS = (("a", "b:c"), ("a:b", "c"), ("a", '","b'), ('a","', "b"), ("a|b", ""), ("a", "|b"), ("", "ab"), ("ab", ""))


def _mine(who: str | tuple[str, ...], number: int) -> Leg:
    return cap("ten", number, who=who)


CASES = (
    case(
        "every name has a meter of its own, full only by its own calls",
        [(reserve(f"r{n}", n, _mine(name, n), user=name), "held") for n, name in enumerate(HOSTILE, 1)],
        [
            (reserve(f"s{n}", 1, _mine(name, n), user=name), "denied ten:in_flight")
            for n, name in enumerate(HOSTILE[1:], 2)
        ],
        ends={_mine(name, n): (0, n, 0) for n, name in enumerate(HOSTILE, 1)},
    ),
    case(
        "names of several fields do not collide however they look when joined",
        [(reserve(f"r{n}", n, _mine(pair, n)), "held") for n, pair in enumerate(PAIRS, 1)],
        ends={_mine(pair, n): (0, n, 0) for n, pair in enumerate(PAIRS, 1)},
    ),
    case(
        "ids and arguments may be anything",
        [(reserve(name, n, cap("ten"), arguments=name), "held") for n, name in enumerate(HOSTILE[:10], 1)],
        [(reserve(name, n, cap("ten"), arguments=name), "held, again") for n, name in enumerate(HOSTILE[:10], 1)],
        [(settle(name, 1), "settled 1") for name in HOSTILE[:5]],
        [(Fetch(name), "found held") for name in HOSTILE[5:10]],
        [(settle(name, 1), "unknown") for name in HOSTILE[10:]],
        ends={"ten": (5, 6 + 7 + 8 + 9 + 10, 0)},
    ),
    case(
        "ids of caps may be anything",
        [(reserve(f"r{n}", n, cap(name, n)), "held") for n, name in enumerate(HOSTILE, 1)],
        ends={name: (0, n, 0) for n, name in enumerate(HOSTILE, 1)},
    ),
    case(
        "the journal of a user is that of exactly this user",
        [(reserve(f"r{n}", 1, user=name), "held") for n, name in enumerate(HOSTILE, 1)],
        [(journal(user=name), f"lines {n}:reserve:r{n}@0") for n, name in enumerate(HOSTILE, 1)],
    ),
)
