"""Meters that are closed: runs that nobody used for their idle time, and periods that are long over."""

from __future__ import annotations

from capguard.ledger.caps import Leg
from capguard.ledger.commands import Verify
from capguard.testing.conformance.builders import cap, extend, journal, look, release, reserve, settle
from capguard.testing.conformance.script import case, wait

RUN = cap("run", 10, window="lifetime", idle=600)
"""10 for a run, which is over when it was idle for 600 s."""

HOUR = 3600


def daily(day: int) -> Leg:
    return cap("ten", 10, at=day * 24 * HOUR)


CASES = (
    case(
        "a run that was idle for its time begins afresh",
        (reserve("r1", 8, RUN), "held"),
        (settle("r1", 8), "settled 8"),
        wait(599.999),
        (reserve("r2", 3, RUN), "denied run:exhausted"),
        (look(RUN), "meters 8/0/0"),
        wait(0.001),
        (look(RUN), "meters 0/0/0"),
        (reserve("r3", 10, RUN), "held"),
        (Verify(), "verified 3 entries, 2 meters, 1 open"),
        ends={RUN: (0, 10, 0)},
    ),
    case(
        "a refusal is no use of a run, a settle is one",
        (reserve("r1", 8, RUN), "held"),
        wait(50),
        (settle("r1", 8), "settled 8"),
        wait(500),
        (reserve("r2", 3, RUN), "denied run:exhausted"),
        wait(99),
        (look(RUN), "meters 8/0/0"),
        wait(1),
        (look(RUN), "meters 0/0/0"),
        ends={RUN: (0, 0, 0)},
    ),
    case(
        "a call that is open keeps its run on, to the end of its grace",
        (reserve("r1", 8, RUN, ttl=1000), "held"),
        wait(1009),
        (reserve("r2", 3, RUN), "denied run:in_flight"),
        (settle("r1", 9), "settled 9"),
        wait(599),
        (reserve("r3", 1, RUN), "held"),
        (release("r3"), "released"),
        ends={RUN: (9, 0, 0)},
    ),
    case(
        "an extension keeps the run on too",
        (reserve("r1", 8, RUN), "held"),
        (extend("r1", ttl=2000), "extended to 8 until 2000"),
        wait(2009),
        (reserve("r2", 3, RUN), "denied run:in_flight"),
        ends={RUN: (0, 8, 0)},
    ),
    case(
        "what is settled late goes to the run of its reserve, and does not bring it back",
        (reserve("r1", 8, RUN, expected=5), "held"),
        wait(601),
        (look(RUN), "meters 0/0/0"),
        (settle("r1", 9), "settled 9, late"),
        (look(RUN), "meters 0/0/0"),
        (reserve("r2", 10, RUN), "held"),
        (Verify(), "verified 4 entries, 2 meters, 1 open"),
        ends={RUN: (0, 10, 0)},
    ),
    case(
        "a call booked in one step begins a run and keeps it on",
        (reserve("r1", 8, RUN, book=True), "settled"),
        wait(400),
        (reserve("r2", 1, RUN, book=True), "settled"),
        wait(400),
        (reserve("r3", 2, RUN), "denied run:exhausted"),
        ends={RUN: (9, 0, 0)},
    ),
    case(
        "a period is kept for 48 hours after its end, for what is settled late",
        (reserve("r1", 5, daily(0), expected=3, retention=100 * HOUR), "held"),
        wait(59 * HOUR),
        (settle("r1", 12), "settled 12, overrun 2, late"),
        (Verify(), "verified 3 entries, 1 meters, 0 open"),
        ends={daily(0): (12, 0, 2)},
    ),
    case(
        "a period that is closed is never made again: what is settled later than that counts on no meter",
        (reserve("r1", 5, daily(0), expected=3, retention=100 * HOUR), "held"),
        wait(HOUR),
        (look(daily(0)), "meters 3/0/0"),
        wait(59 * HOUR),
        (settle("r1", 12), "settled 12, late"),
        (Verify(), "verified 3 entries, 0 meters, 0 open"),
        (journal(after=2), f"lines 3:settle:r1@{60 * HOUR}"),
        ends={daily(0): (0, 0, 0), daily(3): (0, 0, 0)},
    ),
    case(
        "buckets that have left a rolling window are dropped at once",
        (reserve("r1", 5, cap("roll", 10, window="rolling:60s", at=0), ttl=600), "held"),
        wait(61),
        (reserve("r2", 5, cap("roll", 10, window="rolling:60s", at=61)), "held"),
        (Verify(), "verified 2 entries, 1 meters, 2 open"),
        (settle("r1", 7), "settled 7"),
        (Verify(), "verified 3 entries, 1 meters, 1 open"),
        ends={cap("roll", 10, window="rolling:60s", at=61): (0, 5, 0)},
    ),
    case(
        "a run is kept on by the call that is open longest, though others end sooner",
        (reserve("r1", 4, RUN, ttl=2000), "held"),
        (reserve("r2", 1, RUN), "held"),
        (settle("r2", 1), "settled 1"),
        wait(1500),
        (look(RUN), "meters 1/4/0"),
        (settle("r1", 4), "settled 4"),
        ends={RUN: (5, 0, 0)},
    ),
)
