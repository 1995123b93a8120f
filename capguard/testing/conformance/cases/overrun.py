"""Overrun: what is booked beyond a limit, and only that."""

from __future__ import annotations

from capguard.ledger.commands import Settle
from capguard.testing.conformance.builders import cap, journal, reserve, settle
from capguard.testing.conformance.script import case, wait

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
    case(
        "an entry says why a limit was overrun, and nothing where none was",
        (reserve("r1", 6, TEN), "held"),
        (settle("r1", 11), "settled 11, overrun 1"),
        (reserve("r2", 0, TEN), "held"),
        wait(70),
        (settle("r2", 2), "settled 2, overrun 2, late"),
        (reserve("r3", 0, TEN), "held"),
        (Settle("r3", {"usd": 1}, {"cause": "outage"}), "settled 1, overrun 1"),
        (reserve("r4", 0, TEN), "held"),
        (Settle("r4", {"usd": 1}, {}), "settled 1, overrun 1"),
        (reserve("r5", 0, TEN, expected=1), "held"),
        wait(70),
        (reserve("r6", 0, TEN), "held"),
        (settle("r6", 0), "settled 0"),
        (
            journal(),
            (
                "lines 1:reserve:r1@0 2:settle:r1@0 above_estimate 3:reserve:r2@0 4:expire:r2@70 expired"
                " 5:settle:r2@70 late 6:reserve:r3@70 7:settle:r3@70 outage 8:reserve:r4@70"
                " 9:settle:r4@70 above_estimate 10:reserve:r5@70 11:expire:r5@140 expired 12:reserve:r6@140"
                " 13:settle:r6@140"
            ),
        ),
        ends={"ten": (16, 0, 6)},
    ),
)
