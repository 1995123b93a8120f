"""Release: nothing was billed."""

from __future__ import annotations

from capguard.testing.conformance.builders import cap, extend, release, reserve, settle
from capguard.testing.conformance.script import case, wait

TEN = cap("ten", 10)

CASES = (
    case(
        "a release drops the hold on every cap",
        (reserve("r1", 6, TEN, cap("other")), "held"),
        (release("r1"), "released"),
        (reserve("r2", 10, TEN), "held"),
        ends={"ten": (0, 10, 0), "other": (0, 0, 0)},
    ),
    case(
        "a release that is sent twice drops once",
        (reserve("r1", 6, TEN), "held"),
        (reserve("r2", 4, TEN), "held"),
        (release("r1"), "released"),
        (release("r1"), "nothing to release"),
        ends={"ten": (0, 4, 0)},
    ),
    case(
        "a release after the settle does nothing",
        (reserve("r1", 6, TEN), "held"),
        (settle("r1", 5), "settled 5"),
        (release("r1"), "nothing to release"),
        ends={"ten": (5, 0, 0)},
    ),
    case(
        "a release after the expiry takes back what was booked, once",
        (reserve("r1", 6, TEN, expected=4), "held"),
        wait(70),
        (release("r1"), "released"),
        (release("r1"), "nothing to release"),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "a settle after all that still books in full",
        (reserve("r1", 6, TEN, expected=4), "held"),
        wait(70),
        (release("r1"), "released"),
        (settle("r1", 5), "settled 5, late"),
        (release("r1"), "nothing to release"),
        ends={"ten": (5, 0, 0)},
    ),
    case(
        "a release drops what an extension had raised",
        (reserve("r1", 2, TEN), "held"),
        (extend("r1", amount=9), "extended to 9 until 60"),
        (release("r1"), "released"),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "a release in the grace is a release",
        (reserve("r1", 6, TEN), "held"),
        wait(69.999),
        (release("r1"), "released"),
        (reserve("r1", 6, TEN), "released, again"),
        ends={"ten": (0, 0, 0)},
    ),
)
