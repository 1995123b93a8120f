"""Backfill: a policy whose new caps count what was spent before them."""

from __future__ import annotations

from capguard.ledger.caps import Leg
from capguard.ledger.commands import PolicyInForce, Verify
from capguard.testing.conformance.builders import cap, journal, look, release, reserve, settle
from capguard.testing.conformance.paying import backfill, publish
from capguard.testing.conformance.script import case, wait

OLD, NEW = cap("old", 10), cap("new", 10)
YESTERDAY, TOMORROW = cap("old", at=-86400), cap("old", at=86400)
MANY = 1001
"""More meters than two entries open."""


def rolling(at: float) -> Leg:
    return cap("roll", 10, window="rolling:60s", at=at)


CASES = (
    case(
        "a new cap begins with what was settled before it, and counts on",
        (reserve("r1", 6, OLD, book=True), "settled"),
        (publish("first", fill=backfill({NEW: 6}, last=1)), "policy 1 first"),
        (reserve("r2", 5, OLD, NEW), "denied old:exhausted new:exhausted"),
        (reserve("r2", 4, OLD, NEW), "held"),
        (settle("r2", 3), "settled 3"),
        (journal(), "lines 1:book:r1@0 2:publish:@0 3:backfill:@0 4:reserve:r2@0 5:settle:r2@0"),
        ends={"old": (9, 0, 0), "new": (9, 0, 0)},
    ),
    case(
        "a meter that is there already keeps what it shows",
        (reserve("r1", 6, OLD), "held"),
        (publish("first", fill=backfill({OLD: 5, NEW: 6}, last=1)), "policy 1 first"),
        (release("r1"), "released"),
        ends={"old": (0, 0, 0), "new": (6, 0, 0)},
    ),
    case(
        "every period of a meter is filled by itself",
        (reserve("r1", 1, OLD, book=True), "settled"),
        (publish("first", fill=backfill({YESTERDAY: 3, OLD: 9, TOMORROW: 2}, last=1)), "policy 1 first"),
        ends={YESTERDAY: (3, 0, 0), OLD: (1, 0, 0), TOMORROW: (2, 0, 0)},
    ),
    case(
        "where nothing is to be filled there is no entry of it",
        (reserve("r1", 6, OLD, book=True), "settled"),
        (publish("first", fill=backfill({OLD: 6}, last=1)), "policy 1 first"),
        (publish("second", fill=backfill({}, last=2)), "policy 2 second"),
        (journal(), "lines 1:book:r1@0 2:publish:@0 3:publish:@0"),
        ends={"old": (6, 0, 0)},
    ),
    case(
        "what an entry has overtaken is stale, and publishes nothing",
        (reserve("r1", 6, OLD), "held"),
        (reserve("r2", 1, OLD), "held"),
        (publish("first", fill=backfill({NEW: 6}, last=1)), "stale at 0"),
        (PolicyInForce(), "nothing"),
        (look(NEW), "meters 0/0/0"),
        (publish("first", fill=backfill({NEW: 7}, last=2)), "policy 1 first"),
        ends={"new": (7, 0, 0), "old": (0, 7, 0)},
    ),
    case(
        "an entry from before the span that was read overtakes nothing",
        (reserve("r1", 6, OLD), "held"),
        wait(10),
        (publish("first", fill=backfill({NEW: 6}, last=0, since=10)), "policy 1 first"),
        (publish("second", fill=backfill({}, last=0, since=10)), "stale at 10"),
        ends={"new": (6, 0, 0), "old": (0, 6, 0)},
    ),
    case(
        "a policy that is superseded, or in force already, fills nothing",
        (publish("first"), "policy 1 first"),
        (publish("second", base=0, fill=backfill({NEW: 6}, last=1)), "superseded by 1"),
        (publish("first", fill=backfill({NEW: 6}, last=1)), "policy 1 first, again"),
        ends={"new": (0, 0, 0)},
    ),
    case(
        f"{MANY} meters are filled in entries of 500",
        (
            publish("first", fill=backfill({cap("new", who=f"u{n}"): n for n in range(MANY)}, last=0)),
            "policy 1 first",
        ),
        (journal(), "lines 1:publish:@0 2:backfill:@0 3:backfill:@0 4:backfill:@0"),
        (Verify(), f"verified 4 entries, {MANY} meters, 0 open"),
        ends={cap("new", who="u1"): (1, 0, 0), cap("new", who=f"u{MANY - 1}"): (MANY - 1, 0, 0)},
    ),
    case(
        "a rolling meter is filled bucket by bucket, where it has none yet",
        (reserve("r1", 2, rolling(0), book=True), "settled"),
        wait(1),
        (publish("first", fill=backfill({rolling(0): 9, rolling(1): 3}, last=1)), "policy 1 first"),
        ends={rolling(1): (5, 0, 0)},
    ),
)
