"""Rolling windows: 60 buckets and the oldest, which counts whole."""

from __future__ import annotations

from capguard.ledger.caps import Leg
from capguard.testing.conformance.builders import cap, extend, journal, look, reserve, settle
from capguard.testing.conformance.script import case, wait


def minute(at: float) -> Leg:
    """10 in a minute: buckets of 1 s."""
    return cap("roll", 10, window="rolling:60s", at=at)


def two_minutes(at: float) -> Leg:
    """10 in two minutes: buckets of 2 s."""
    return cap("roll", 10, window="rolling:120s", at=at)


CASES = (
    case(
        "buckets leave one by one",
        (reserve("r1", 4, minute(0)), "held"),
        (settle("r1", 4), "settled 4"),
        wait(1),
        (reserve("r2", 6, minute(1)), "held"),
        (settle("r2", 6), "settled 6"),
        wait(59),
        (reserve("r3", 1, minute(60)), "denied roll:exhausted"),
        wait(1),
        (reserve("r4", 5, minute(61)), "denied roll:exhausted"),
        (reserve("r5", 4, minute(61)), "held"),
        wait(1),
        (reserve("r6", 6, minute(62)), "held"),
        ends={minute(62): (0, 10, 0)},
    ),
    case(
        "the oldest partial bucket counts whole",
        wait(1),
        (reserve("r1", 10, two_minutes(1)), "held"),
        (settle("r1", 10), "settled 10"),
        wait(120.5),
        (reserve("r2", 1, two_minutes(121.5)), "denied roll:exhausted"),
        wait(0.5),
        (reserve("r2", 10, two_minutes(122)), "held"),
        ends={two_minutes(122): (0, 10, 0)},
    ),
    case(
        "a hold sits in the bucket of its reserve and leaves with it",
        (reserve("r1", 10, minute(0), ttl=600), "held"),
        wait(60),
        (reserve("r2", 1, minute(60)), "denied roll:in_flight"),
        wait(1),
        (reserve("r3", 10, minute(61)), "held"),
        ends={minute(61): (0, 10, 0), minute(0): (0, 0, 0)},
    ),
    case(
        "a settle goes to the bucket of its reserve",
        (reserve("r1", 2, minute(0), ttl=600), "held"),
        wait(30),
        (settle("r1", 3), "settled 3"),
        (look(minute(30)), "meters 3/0/0"),
        wait(31),
        (look(minute(61)), "meters 0/0/0"),
        (reserve("r2", 10, minute(61)), "held"),
        ends={minute(0): (0, 0, 0), minute(61): (0, 10, 0)},
    ),
    case(
        "a settle is judged on the window that is on",
        (reserve("r1", 2, minute(0)), "held"),
        wait(1),
        (reserve("r2", 8, minute(1)), "held"),
        (settle("r1", 5), "settled 5, overrun 3"),
        ends={minute(1): (5, 8, 3)},
    ),
    case(
        "a settle into a bucket that has left exceeds nothing",
        (reserve("r1", 10, minute(0), ttl=600), "held"),
        wait(61),
        (reserve("r2", 10, minute(61)), "held"),
        (settle("r1", 12), "settled 12"),
        ends={minute(0): (0, 0, 0), minute(61): (0, 10, 0)},
    ),
    case(
        "a bucket that leaves in this instant is no part of the window that is on",
        (reserve("r1", 8, minute(0), book=True), "settled"),
        wait(1),
        (reserve("r2", 2, minute(1)), "held"),
        wait(60),
        (reserve("r3", 7, minute(61)), "held"),
        (settle("r2", 4), "settled 4, overrun 1"),
        ends={minute(61): (4, 7, 1)},
    ),
    case(
        "a bucket that leaves in the next instant is part of the window that is on",
        (reserve("r1", 8, minute(0), book=True), "settled"),
        wait(1),
        (reserve("r2", 2, minute(1)), "held"),
        wait(59.999),
        (settle("r2", 4), "settled 4, overrun 2"),
        ends={minute(1): (12, 0, 2)},
    ),
    case(
        "a raise is judged on the window that is on",
        (reserve("r1", 2, minute(0)), "held"),
        wait(1),
        (reserve("r2", 7, minute(1)), "held"),
        (extend("r1", amount=4), "denied roll:in_flight"),
        (extend("r1", amount=3), "extended to 3 until 60"),
        ends={minute(1): (0, 10, 0)},
    ),
    case(
        "a raise in a bucket that has left takes no room",
        (reserve("r1", 2, minute(0), ttl=600), "held"),
        wait(60),
        (reserve("r2", 8, minute(60)), "held"),
        (extend("r1", amount=3), "denied roll:in_flight"),
        wait(1),
        (extend("r1", amount=10), "extended to 10 until 600"),
        (journal(after=2), "lines"),
        ends={minute(61): (0, 8, 0)},
    ),
    case(
        "what is booked beyond the limit is overrun of the bucket",
        (reserve("r1", 4, minute(0)), "held"),
        wait(1),
        (reserve("r2", 6, minute(1)), "held"),
        (settle("r2", 8), "settled 8, overrun 2"),
        (look(minute(1)), "meters 8/4/2"),
        wait(61),
        (look(minute(62)), "meters 0/0/0"),
        ends={minute(0): (0, 0, 0)},
    ),
)
