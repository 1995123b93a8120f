"""Time: commands are for a span, periods are those of the reserve, and time in the books never runs backward."""

from __future__ import annotations

from capguard.testing.conformance.builders import cap, check, extend, journal, release, reserve, settle
from capguard.testing.conformance.script import case, wait

TEN = cap("ten", 10)
MIDNIGHT = 12 * 3600
TOMORROW = cap("ten", 10, at=MIDNIGHT)

CASES = (
    case(
        "a command is stale before its time and from its end on, and holds nothing",
        (reserve("r1", 1, TEN, valid=(10, 20)), "stale at 0"),
        wait(9.999),
        (reserve("r1", 1, TEN, valid=(10, 20)), "stale at 9.999"),
        wait(0.001),
        (reserve("r1", 1, TEN, valid=(10, 20)), "held"),
        wait(9.999),
        (reserve("r2", 1, TEN, valid=(10, 20)), "held"),
        wait(0.001),
        (reserve("r3", 1, TEN, valid=(10, 20)), "stale at 20"),
        (reserve("r3", 1, TEN, valid=(20, 30), arguments="others"), "held"),
        ends={"ten": (0, 3, 0)},
    ),
    case(
        "a new period starts at 0, and the old one keeps what was spent in it",
        (reserve("r1", 10, TEN, ttl=MIDNIGHT), "held"),
        wait(MIDNIGHT),
        (reserve("r2", 10, TOMORROW), "held"),
        (settle("r1", 9), "settled 9"),
        (release("r2"), "released"),
        ends={"ten": (9, 0, 0), TOMORROW: (0, 0, 0)},
    ),
    case(
        "caps over different windows are held together",
        (reserve("r1", 5, TEN, cap("ever", 6, window="lifetime")), "held"),
        (settle("r1", 5), "settled 5"),
        wait(MIDNIGHT),
        (reserve("r2", 2, TOMORROW, cap("ever", 6, window="lifetime", at=MIDNIGHT)), "denied ever:exhausted"),
        (reserve("r3", 1, TOMORROW, cap("ever", 6, window="lifetime", at=MIDNIGHT)), "held"),
        ends={"ten": (5, 0, 0), TOMORROW: (0, 1, 0), cap("ever", window="lifetime"): (5, 1, 0)},
    ),
    case(
        "a clock that steps back does not turn back the books",
        (reserve("r1", 1, TEN), "held"),
        wait(50),
        (settle("r1", 1), "settled 1"),
        wait(-40),
        (reserve("r2", 1, TEN, valid=(0, 50)), "stale at 50"),
        (reserve("r2", 1, TEN, valid=(50, 60)), "held"),
        wait(45),
        (release("r2"), "released"),
        (journal(), "lines 1:reserve:r1@0 2:settle:r1@50 3:reserve:r2@50 4:release:r2@55"),
        ends={"ten": (1, 0, 0)},
    ),
    case(
        "a hold made while the clock is back lives by the books' time",
        wait(50),
        (reserve("r1", 1, TEN), "held"),
        wait(-50),
        (reserve("r2", 9, TEN, on_expiry="release"), "held"),
        (extend("r2", ttl=60), "extended to 9 until 110"),
        wait(119.999),
        (check(1, TEN), "denied ten:in_flight"),
        wait(0.001),
        (check(1, TEN), "held"),
        ends={"ten": (1, 0, 0)},
    ),
)
