"""Reading: meters, reservations, the journal in pages, and the books rebuilt from it."""

from __future__ import annotations

from capguard.ledger.commands import Fetch, Verify
from capguard.testing.conformance.builders import cap, extend, journal, look, release, reserve, settle
from capguard.testing.conformance.script import case, wait

TEN = cap("ten", 10)

CASES = (
    case(
        "an empty ledger has nothing",
        (look(), "meters"),
        (look(TEN, cap("other")), "meters 0/0/0 0/0/0"),
        (Fetch("r1"), "unknown"),
        (journal(), "lines"),
        (Verify(), "verified 0 entries, 0 meters, 0 open"),
    ),
    case(
        "a look gives the meters in the order asked",
        (reserve("r1", 5, TEN, cap("other")), "held"),
        (settle("r1", 4), "settled 4"),
        (reserve("r2", 3, TEN), "held"),
        (look(cap("other"), cap("none"), TEN), "meters 4/0/0 0/0/0 4/3/0"),
        ends={"ten": (4, 3, 0), "other": (4, 0, 0)},
    ),
    case(
        "a fetch gives the reservation in every state",
        (reserve("r1", 5, TEN, expected=2), "held"),
        (Fetch("r1"), "found held"),
        (reserve("r2", 5, TEN), "held"),
        (release("r2"), "released"),
        (Fetch("r2"), "found released"),
        wait(70),
        (reserve("r3", 0), "held"),
        (Fetch("r1"), "found expired 2"),
        (settle("r1", 12), "settled 12, overrun 2, late"),
        (Fetch("r1"), "found settled 12, overrun 2"),
        ends={"ten": (12, 0, 2)},
    ),
    case(
        "the journal has a line for everything that moved, and none for what did not",
        (reserve("r1", 5, TEN), "held"),
        (reserve("r1", 5, TEN), "held, again"),
        (reserve("r2", 6, TEN), "denied ten:in_flight"),
        (reserve("r2", 6, TEN, valid=(1, 2)), "stale at 0"),
        (extend("r1", ttl=90), "extended to 5 until 90"),
        wait(1),
        (extend("r1", amount=6), "extended to 6 until 90"),
        (settle("r1", 6), "settled 6"),
        (settle("r1", 6), "settled 6, again"),
        (release("r1"), "nothing to release"),
        (reserve("r3", 1, TEN, book=True), "settled"),
        (journal(), "lines 1:reserve:r1@0 2:extend:r1@1 3:settle:r1@1 4:book:r3@1"),
        (Verify(), "verified 4 entries, 1 meters, 0 open"),
        ends={"ten": (7, 0, 0)},
    ),
    case(
        "the journal comes in pages, by user and by time",
        (reserve("r1", 1, user="u1"), "held"),
        wait(1),
        (reserve("r2", 1, user="u2"), "held"),
        wait(1),
        (reserve("r3", 1, user="u1"), "held"),
        (settle("r2", 1), "settled 1"),
        (journal(limit=2), "lines 1:reserve:r1@0 2:reserve:r2@1"),
        (journal(after=2, limit=2), "lines 3:reserve:r3@2 4:settle:r2@2"),
        (journal(after=4, limit=2), "lines"),
        (journal(user="u1"), "lines 1:reserve:r1@0 3:reserve:r3@2"),
        (journal(user="u2"), "lines 2:reserve:r2@1 4:settle:r2@2"),
        (journal(user="u2", after=2), "lines 4:settle:r2@2"),
        (journal(user="u3"), "lines"),
        (journal(since=1), "lines 2:reserve:r2@1 3:reserve:r3@2 4:settle:r2@2"),
        (journal(until=1), "lines 1:reserve:r1@0"),
        (journal(since=1, until=2), "lines 2:reserve:r2@1"),
        (journal(since=1, until=2, user="u1"), "lines"),
    ),
    case(
        "verify counts entries, meters and open reservations",
        (reserve("r1", 5, TEN, cap("other")), "held"),
        (reserve("r2", 5, TEN), "held"),
        (settle("r1", 4), "settled 4"),
        (release("tomb"), "nothing to release"),
        (Verify(), "verified 3 entries, 2 meters, 1 open"),
        ends={"ten": (4, 5, 0), "other": (4, 0, 0)},
    ),
)
