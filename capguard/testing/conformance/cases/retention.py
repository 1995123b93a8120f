"""Retention: an id is remembered for so long after its call ended, and may then be used again."""

from __future__ import annotations

from capguard.ledger.commands import Fetch
from capguard.testing.conformance.builders import RETENTION, cap, extend, release, reserve, settle
from capguard.testing.conformance.script import case, wait

TEN = cap("ten", 10)
HOUR = 3600 - 0.001

CASES = (
    case(
        "a settled id is remembered to the end of its retention, and not longer",
        (reserve("r1", 6, TEN), "held"),
        (settle("r1", 5), "settled 5"),
        wait(HOUR),
        (settle("r1", 5), "settled 5, again"),
        wait(0.001),
        (Fetch("r1"), "unknown"),
        (extend("r1", ttl=1), "unknown"),
        (settle("r1", 5), "unknown"),
        (reserve("r1", 2, TEN, arguments="others"), "held"),
        ends={"ten": (5, 2, 0)},
    ),
    case(
        "retention counts from the end, not from the reserve",
        (reserve("r1", 6, TEN, ttl=2 * RETENTION), "held"),
        wait(RETENTION + 60),
        (release("r1"), "released"),
        wait(HOUR),
        (reserve("r1", 6, TEN), "released, again"),
        wait(0.001),
        (reserve("r1", 6, TEN), "held"),
        ends={"ten": (0, 6, 0)},
    ),
    case(
        "an expired id is remembered from its expiry on",
        (reserve("r1", 6, TEN, expected=3), "held"),
        wait(70),
        (extend("r1", ttl=90), "ended expired"),
        wait(HOUR),
        (extend("r1", ttl=90), "ended expired"),
        wait(0.001),
        (extend("r1", ttl=90), "unknown"),
        ends={"ten": (3, 0, 0)},
    ),
    case(
        "a late settle starts the retention anew",
        (reserve("r1", 6, TEN, expected=3), "held"),
        wait(70),
        (reserve("r2", 0), "held"),
        wait(HOUR - 60),
        (settle("r1", 4), "settled 4, late"),
        wait(HOUR),
        (settle("r1", 4), "settled 4, again"),
        ends={"ten": (4, 0, 0)},
    ),
    case(
        "a tombstone is forgotten too",
        (release("r1", retention=100), "nothing to release"),
        wait(99.999),
        (reserve("r1", 6, TEN), "mismatch tombstone"),
        wait(0.001),
        (reserve("r1", 6, TEN), "held"),
        ends={"ten": (0, 6, 0)},
    ),
    case(
        "a booking is remembered for its retention",
        (reserve("r1", 4, TEN, book=True), "settled"),
        wait(HOUR),
        (reserve("r1", 4, TEN, book=True), "settled, again"),
        wait(0.001),
        (reserve("r1", 4, TEN, book=True), "settled"),
        ends={"ten": (8, 0, 0)},
    ),
    case(
        "a hold is never forgotten, however short the retention",
        (reserve("r1", 6, TEN, retention=1), "held"),
        wait(69),
        (Fetch("r1"), "found held"),
        (settle("r1", 5), "settled 5"),
        ends={"ten": (5, 0, 0)},
    ),
    case(
        "an id that was forgotten may leave a tombstone again",
        (reserve("r1", 6, TEN, book=True), "settled"),
        (release("r1", retention=100), "nothing to release"),
        wait(HOUR + 0.001),
        (release("r1", retention=100), "nothing to release"),
        (reserve("r1", 4, TEN), "mismatch tombstone"),
        wait(100),
        (release("r1", retention=100), "nothing to release"),
        (reserve("r1", 4, TEN), "mismatch tombstone"),
        ends={"ten": (6, 0, 0)},
    ),
)
