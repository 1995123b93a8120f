"""Ids: a reserve takes effect exactly once, and an id belongs to one call."""

from __future__ import annotations

from capguard.ledger.commands import Fetch
from capguard.testing.conformance.builders import cap, extend, release, reserve, settle
from capguard.testing.conformance.script import case, wait

TEN = cap("ten", 10)

CASES = (
    case(
        "a reserve that is sent twice is held once",
        (reserve("r1", 6, TEN), "held"),
        (reserve("r1", 6, TEN), "held, again"),
        ends={"ten": (0, 6, 0)},
    ),
    case(
        "a replay is answered though the meter is full, the price has changed and its time is over",
        (reserve("r1", 10, TEN, valid=(0, 5)), "held"),
        wait(30),
        (reserve("r1", 7, TEN, cap("other"), valid=(0, 5)), "held, again"),
        ends={"ten": (0, 10, 0), "other": (0, 0, 0)},
    ),
    case(
        "a replay after the end tells the end, and moves nothing",
        (reserve("r1", 6, TEN), "held"),
        (settle("r1", 5), "settled 5"),
        (reserve("r1", 6, TEN), "settled, again"),
        (reserve("r2", 5, TEN, on_expiry="release"), "held"),
        wait(70),
        (reserve("r2", 5, TEN), "expired, again"),
        ends={"ten": (5, 0, 0)},
    ),
    case(
        "an id that comes back with other arguments is a mismatch, and changes nothing",
        (reserve("r1", 6, TEN), "held"),
        (reserve("r1", 6, TEN, arguments="others"), "mismatch held"),
        (settle("r1", 5), "settled 5"),
        (reserve("r1", 6, TEN, arguments="others"), "mismatch settled"),
        ends={"ten": (5, 0, 0)},
    ),
    case(
        "a refused call leaves its id free",
        (reserve("r1", 10, TEN), "held"),
        (reserve("r2", 1, TEN), "denied ten:in_flight"),
        (release("r1"), "released"),
        (reserve("r2", 1, TEN, arguments="others"), "held"),
        ends={"ten": (0, 1, 0)},
    ),
    case(
        "a release that overtakes its reserve leaves a tombstone, which refuses the late reserve",
        (release("r1"), "nothing to release"),
        (release("r1"), "nothing to release"),
        (reserve("r1", 6, TEN), "mismatch tombstone"),
        (settle("r1", 6), "unknown"),
        (extend("r1", ttl=90), "unknown"),
        (Fetch("r1"), "unknown"),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "ids that were never used are unknown",
        (settle("r1", 6), "unknown"),
        (extend("r1", ttl=90), "unknown"),
        (Fetch("r1"), "unknown"),
    ),
)
