"""Expiry: what nobody ends stops counting after time to live and grace, at the next decision, with no daemon."""

from __future__ import annotations

from capguard.ledger.commands import Fetch, Verify
from capguard.testing.conformance.builders import cap, check, extend, journal, look, release, reserve, settle
from capguard.testing.conformance.script import case, wait

TEN = cap("ten", 10)
MANY = 250
"""More than one step ends at most."""

CASES = (
    case(
        "a hold counts to the end of its grace, and not longer",
        (reserve("r1", 10, TEN, on_expiry="release"), "held"),
        wait(69.999),
        (reserve("r2", 1, TEN), "denied ten:in_flight"),
        wait(0.001),
        (reserve("r2", 10, TEN), "held"),
        ends={"ten": (0, 10, 0)},
    ),
    case(
        "on_expiry = charge_expected books what was expected, not what was held",
        (reserve("r1", 10, TEN, expected=4), "held"),
        wait(70),
        (reserve("r2", 7, TEN), "denied ten:exhausted"),
        (reserve("r3", 6, TEN), "held"),
        (Fetch("r1"), "found expired 4"),
        ends={"ten": (4, 6, 0)},
    ),
    case(
        "on_expiry = release books nothing",
        (reserve("r1", 10, TEN, expected=4, on_expiry="release"), "held"),
        wait(70),
        (check(10, TEN), "held"),
        (Fetch("r1"), "found expired"),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "a settle within the grace is not late",
        (reserve("r1", 10, TEN), "held"),
        wait(69.999),
        (settle("r1", 8), "settled 8"),
        ends={"ten": (8, 0, 0)},
    ),
    *(
        case(
            f"a late settle replaces the expected 4 by {cost}, once",
            (reserve("r1", 10, TEN, expected=4), "held"),
            wait(70),
            (settle("r1", cost), f"settled {cost}, late"),
            (settle("r1", cost), f"settled {cost}, again"),
            (settle("r1", 1), f"settled {cost}, conflict, again"),
            (journal(), "lines 1:reserve:r1@0 2:expire:r1@70 expired 3:settle:r1@70"),
            ends={"ten": (cost, 0, 0)},
        )
        for cost in (0, 3, 4, 9)
    ),
    case(
        "a late settle after a release by expiry books in full",
        (reserve("r1", 10, TEN, expected=4, on_expiry="release"), "held"),
        wait(70),
        (settle("r1", 9), "settled 9, late"),
        ends={"ten": (9, 0, 0)},
    ),
    case(
        "only what is beyond the limit when the late settle comes is overrun",
        (reserve("r1", 10, TEN, expected=4), "held"),
        wait(70),
        (reserve("r2", 5, TEN), "held"),
        (settle("r1", 8), "settled 8, overrun 3, late"),
        ends={"ten": (8, 5, 3)},
    ),
    case(
        "an extended hold expires later",
        (reserve("r1", 10, TEN, on_expiry="release"), "held"),
        (extend("r1", ttl=120), "extended to 10 until 120"),
        wait(129.999),
        (reserve("r2", 1, TEN), "denied ten:in_flight"),
        wait(0.001),
        (reserve("r2", 10, TEN), "held"),
        ends={"ten": (0, 10, 0)},
    ),
    case(
        "a raised hold expires whole, and books what was expected",
        (reserve("r1", 4, TEN, expected=3), "held"),
        (extend("r1", amount=9), "extended to 9 until 60"),
        wait(70),
        (reserve("r2", 7, TEN), "held"),
        ends={"ten": (3, 7, 0)},
    ),
    case(
        "every kind of command but a plain reading ends what is overdue",
        (reserve("r1", 5, TEN, expected=1), "held"),
        wait(70),
        (settle("other", 1), "unknown"),
        (reserve("r2", 5, TEN, expected=1), "held"),
        wait(70),
        (extend("other", ttl=1), "unknown"),
        (reserve("r3", 5, TEN, expected=1), "held"),
        wait(70),
        (check(0, TEN), "held"),
        (reserve("r4", 5, TEN, expected=1), "held"),
        wait(70),
        (look(TEN), "meters 4/0/0"),
        (reserve("r5", 5, TEN, expected=1), "held"),
        wait(70),
        (release("other"), "nothing to release"),
        (Verify(), "verified 10 entries, 1 meters, 0 open"),
        ends={"ten": (5, 0, 0)},
    ),
    case(
        f"{MANY} overdue holds do not refuse the call that they left room for",
        [(reserve(f"r{n}", 1, cap("many", MANY), on_expiry="release"), "held") for n in range(MANY)],
        (reserve("early", 1, cap("many", MANY)), "denied many:in_flight"),
        wait(70),
        (reserve("late", MANY, cap("many", MANY)), "held"),
        ends={"many": (0, MANY, 0)},
    ),
)
