"""Overrun: what is booked beyond a limit, and only that."""

from __future__ import annotations

from capguard.testing.conformance.builders import cap, reserve, settle
from capguard.testing.conformance.script import case

TEN = cap("ten", 10)

CASES = (
    case(
        "what is booked beyond the limit is overrun, and only what is beyond",
        (reserve("r1", 6, TEN), "held"),
        (settle("r1", 13), "settled 13, overrun 3"),
        ends={"ten": (13, 0, 3)},
    ),
    case(
        "the holds of others count: a settle may not take their room unseen",
        (reserve("r1", 4, TEN), "held"),
        (reserve("r2", 6, TEN), "held"),
        (settle("r1", 7), "settled 7, overrun 3"),
        (settle("r2", 6), "settled 6"),
        ends={"ten": (13, 0, 3)},
    ),
    case(
        "several settles beyond the limit add up and are not counted twice",
        (reserve("r1", 4, TEN), "held"),
        (reserve("r2", 6, TEN), "held"),
        (settle("r1", 7), "settled 7, overrun 3"),
        (settle("r2", 8), "settled 8, overrun 2"),
        (settle("r2", 8), "settled 8, overrun 2, again"),
        ends={"ten": (15, 0, 5)},
    ),
    case(
        "overrun never makes room",
        (reserve("r1", 10, TEN), "held"),
        (settle("r1", 15), "settled 15, overrun 5"),
        (reserve("r2", 1, TEN), "denied ten:exhausted"),
        (reserve("r3", 5, cap("ten", 19)), "denied ten:exhausted"),
        (reserve("r4", 5, cap("ten", 20)), "held"),
        ends={"ten": (15, 5, 5)},
    ),
    case(
        "the limit that counts is that of the reserve",
        (reserve("r1", 10, TEN), "held"),
        (reserve("r2", 2, cap("ten", 20)), "held"),
        (settle("r2", 9), "settled 9"),
        (settle("r1", 12), "settled 12, overrun 2"),
        ends={"ten": (21, 0, 2)},
    ),
    case(
        "each cap has its own overrun; the booking tells the largest per unit, of caps that enforce",
        (reserve("r1", 4, cap("a", 4), cap("b", 6), cap("told", 1, "warn"), cap("roomy")), "held, passing told"),
        (settle("r1", 9), "settled 9, overrun 5"),
        ends={"a": (9, 0, 5), "b": (9, 0, 3), "told": (9, 0, 5), "roomy": (9, 0, 0)},
    ),
)
