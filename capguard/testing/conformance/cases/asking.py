"""check: the decision of a reserve without its effect; and book: a reserve that is settled in the same step."""

from __future__ import annotations

from capguard.ledger.commands import Check
from capguard.testing.conformance.builders import cap, check, model, release, reserve, reserve_one_of, settle
from capguard.testing.conformance.script import case, wait

TEN = cap("ten", 10)
BIG = model("big", 9, cap("cheaper", 5, "downgrade", step=1))
SMALL = model("small", 2, cap("cheaper", 5, "downgrade"))

CASES = (
    case(
        "check holds nothing and remembers nothing",
        (check(10, TEN), "held"),
        (check(10, TEN), "held"),
        (reserve("asked", 10, TEN, arguments="others"), "held"),
        ends={"ten": (0, 10, 0)},
    ),
    case(
        "check refuses what a reserve would refuse",
        (reserve("r1", 10, TEN), "held"),
        (check(1, TEN), "denied ten:in_flight"),
        (check(11, TEN), "denied ten:too_big"),
        ends={"ten": (0, 10, 0)},
    ),
    case(
        "check steers as a reserve would",
        (Check(reserve_one_of("r1", BIG, SMALL)), "held small, passing cheaper"),
        (Check(reserve_one_of("r1", SMALL, BIG)), "held"),
        ends={"cheaper": (0, 0, 0)},
    ),
    case(
        "check is stale outside the time for which it was built",
        (check(1, TEN, valid=(10, 20)), "stale at 0"),
        wait(20),
        (check(1, TEN, valid=(10, 20)), "stale at 20"),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "check sees the room of what has expired",
        (reserve("r1", 10, TEN, on_expiry="release"), "held"),
        wait(70),
        (check(10, TEN), "held"),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "book settles at once",
        (reserve("r1", 4, TEN, book=True), "settled"),
        (reserve("r2", 7, TEN, book=True), "denied ten:exhausted"),
        (reserve("r3", 6, TEN, book=True), "settled"),
        ends={"ten": (10, 0, 0)},
    ),
    case(
        "a booking counts once, however often it is sent",
        (reserve("r1", 4, TEN, book=True), "settled"),
        (reserve("r1", 4, TEN, book=True), "settled, again"),
        (reserve("r1", 4, TEN, book=True, arguments="others"), "mismatch settled"),
        ends={"ten": (4, 0, 0)},
    ),
    case(
        "a booking is final: it is not settled otherwise, released or expired",
        (reserve("r1", 4, TEN, book=True), "settled"),
        (settle("r1", 4), "settled 4, again"),
        (settle("r1", 5), "settled 4, conflict, again"),
        (release("r1"), "nothing to release"),
        wait(600),
        (settle("r1", 4), "settled 4, again"),
        ends={"ten": (4, 0, 0)},
    ),
    case(
        "check is asked anew whatever its id did before",
        (reserve("r1", 10, TEN), "held"),
        (Check(reserve("r1", 10, TEN)), "denied ten:in_flight"),
        (settle("r1", 1), "settled 1"),
        (Check(reserve("r1", 9, TEN, arguments="others")), "held"),
        ends={"ten": (1, 0, 0)},
    ),
)
