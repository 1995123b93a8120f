"""throttle: refuses as block does, and says when there will be room, as far as it is known."""

from __future__ import annotations

from capguard.ledger.caps import Leg
from capguard.ledger.commands import Refusals, Scale
from capguard.testing.conformance.builders import cap, check, reserve, settle
from capguard.testing.conformance.script import case, wait


def slow(at: float, limit: int = 10) -> Leg:
    """10 in a minute: buckets of 1 s, each gone 61 s after it began."""
    return cap("slow", limit, "throttle", window="rolling:60s", at=at)


def slower(at: float) -> Leg:
    """10 in two minutes: buckets of 2 s, each gone 122 s after it began."""
    return cap("slower", 10, "throttle", window="rolling:120s", at=at)


FOUR_THEN_SIX = (
    (reserve("first", 4, slow(0), book=True), "settled"),
    wait(10),
    (reserve("second", 6, slow(10), book=True), "settled"),
    wait(10.5),
)

CASES = (
    case(
        "room comes when enough of what is settled has left, and not before",
        *FOUR_THEN_SIX,
        (reserve("r1", 4, slow(20)), "denied slow:exhausted@61"),
        (reserve("r1", 5, slow(20)), "denied slow:exhausted@71"),
        (reserve("r1", 10, slow(20)), "denied slow:exhausted@71"),
        wait(40.499),
        (reserve("r1", 4, slow(60)), "denied slow:exhausted@61"),
        wait(0.001),
        (reserve("r1", 4, slow(61)), "held"),
        ends={slow(61): (6, 4, 0)},
    ),
    case(
        "what others hold may come back at any time",
        (reserve("r1", 4, slow(0)), "held"),
        (reserve("r2", 7, slow(0)), "denied slow:in_flight"),
        (settle("r1", 3), "settled 3"),
        (reserve("r2", 7, slow(0)), "held"),
        ends={slow(0): (3, 7, 0)},
    ),
    case(
        "holds are no part of the room that is known to come",
        (reserve("held", 2, slow(0)), "held"),
        wait(1),
        (reserve("spent", 8, slow(1), book=True), "settled"),
        (reserve("r1", 2, slow(1)), "denied slow:in_flight"),
        (reserve("r1", 4, slow(1)), "denied slow:exhausted@62"),
        ends={slow(1): (8, 2, 0)},
    ),
    case(
        "a window that is not rolling has room at its end",
        (reserve("spent", 8, cap("day", 10, "throttle"), book=True), "settled"),
        (reserve("r1", 3, cap("day", 10, "throttle")), f"denied day:exhausted@{12 * 3600}"),
        ends={cap("day"): (8, 0, 0)},
    ),
    case(
        "what can never fit is too big, however long it waits",
        (reserve("r1", 11, slow(0), waits=True), "denied slow:too_big"),
        (Refusals(), "refusals slow*1@0"),
        ends={slow(0): (0, 0, 0)},
    ),
    case(
        "each throttle cap tells its own time",
        (reserve("r1", 4, slow(0), slower(0), book=True), "settled"),
        (reserve("r2", 7, slower(0), cap("roomy"), slow(0)), "denied slower:exhausted@122 slow:exhausted@61"),
        ends={slow(0): (4, 0, 0), slower(0): (4, 0, 0), "roomy": (0, 0, 0)},
    ),
    case(
        "decided last: beside a cap that blocks nobody waits",
        (reserve("r1", 4, slow(0), cap("hard", 4), book=True), "settled"),
        (reserve("r2", 7, slow(0), cap("hard", 4), waits=True), "denied slow:exhausted hard:too_big"),
        (Refusals(), "refusals slow*1@0 hard*1@0"),
        ends={slow(0): (4, 0, 0), "hard": (4, 0, 0)},
    ),
    case(
        "caps that only tell do not keep a call from waiting",
        (reserve("r1", 4, slow(0), book=True), "settled"),
        (reserve("r2", 7, cap("told", 1, "warn"), slow(0), waits=True), "denied slow:exhausted@61"),
        (Refusals(), "refusals"),
        ends={slow(0): (4, 0, 0), "told": (0, 0, 0)},
    ),
    case(
        "who waits is not counted as refused until it is refused for good",
        (reserve("r1", 10, slow(0), book=True), "settled"),
        (reserve("r2", 1, slow(0), waits=True), "denied slow:exhausted@61"),
        (reserve("r2", 1, slow(0), waits=True), "denied slow:exhausted@61"),
        (Refusals(), "refusals"),
        (reserve("r2", 1, slow(0)), "denied slow:exhausted@61"),
        (Refusals(), "refusals slow*1@0"),
        ends={slow(0): (10, 0, 0)},
    ),
    case(
        "check tells the time as a reserve does",
        (reserve("r1", 10, slow(0), book=True), "settled"),
        (check(1, slow(0)), "denied slow:exhausted@61"),
        (Refusals(), "refusals"),
        ends={slow(0): (10, 0, 0)},
    ),
    case(
        "a clamped call waits for the room that it needs then",
        (reserve("r1", 4, slow(0), cap("tight", 8, "clamp"), book=True), "settled"),
        wait(1),
        (reserve("r2", 4, slow(1), book=True), "settled"),
        (
            reserve("r3", Scale(20, {"usd": 0}, {"usd": 1000}), slow(1), cap("tight", 8, "clamp", at=1)),
            "denied slow:exhausted@61",
        ),
        ends={slow(1): (8, 0, 0), "tight": (4, 0, 0)},
    ),
    case(
        "what fills an empty window waits for it, and is not counted as refused",
        (reserve("r1", 1, slow(0), book=True), "settled"),
        (reserve("r2", 10, slow(0), waits=True), "denied slow:exhausted@61"),
        (Refusals(), "refusals"),
        ends={slow(0): (1, 0, 0)},
    ),
)
