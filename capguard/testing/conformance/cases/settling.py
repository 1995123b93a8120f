"""Settle: the hold is replaced by what the call cost, exactly once."""

from __future__ import annotations

from capguard.testing.conformance.builders import cap, release, reserve, settle
from capguard.testing.conformance.script import case, wait

TEN = cap("ten", 10)

CASES = (
    *(
        case(
            f"a hold of 6 settles at {cost}",
            (reserve("r1", 6, TEN), "held"),
            (settle("r1", cost), f"settled {cost}"),
            ends={"ten": (cost, 0, 0)},
        )
        for cost in (0, 5, 6, 7, 10)
    ),
    case(
        "what a settle gives back is room at once",
        (reserve("r1", 10, TEN), "held"),
        (settle("r1", 1), "settled 1"),
        (reserve("r2", 9, TEN), "held"),
        ends={"ten": (1, 9, 0)},
    ),
    case(
        "a settle that is sent twice counts once",
        (reserve("r1", 6, TEN), "held"),
        (settle("r1", 5), "settled 5"),
        (settle("r1", 5), "settled 5, again"),
        ends={"ten": (5, 0, 0)},
    ),
    case(
        "a settle that differs answers with the first, flagged, and moves nothing",
        (reserve("r1", 6, TEN), "held"),
        (settle("r1", 5), "settled 5"),
        (settle("r1", 4), "settled 5, conflict, again"),
        (settle("r1", {"usd": 5, "tokens": 1}), "settled 5, conflict, again"),
        ends={"ten": (5, 0, 0)},
    ),
    case(
        "units without a cap are booked on the entry only",
        (reserve("r1", 6, TEN), "held"),
        (settle("r1", {"usd": 5, "tokens": 77}), "settled 5 tokens=77"),
        (settle("r1", {"usd": 5, "tokens": 77}), "settled 5 tokens=77, again"),
        ends={"ten": (5, 0, 0)},
    ),
    case(
        "a settle of nothing drops the hold",
        (reserve("r1", 6, TEN), "held"),
        (settle("r1", {}), "settled "),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "a settle after the release books in full, once",
        (reserve("r1", 6, TEN), "held"),
        (release("r1"), "released"),
        (settle("r1", 5), "settled 5, late"),
        (settle("r1", 5), "settled 5, again"),
        ends={"ten": (5, 0, 0)},
    ),
    case(
        "a settle after the release goes beyond the limit where others took the room",
        (reserve("r1", 6, TEN), "held"),
        (release("r1"), "released"),
        (reserve("r2", 10, TEN), "held"),
        (settle("r1", 5), "settled 5, overrun 5, late"),
        ends={"ten": (5, 10, 5)},
    ),
    case(
        "a settle goes to the period of its reserve",
        (reserve("r1", 6, TEN), "held"),
        wait(13 * 3600),
        (settle("r1", 7), "settled 7, late"),
        ends={"ten": (7, 0, 0), cap("ten", at=13 * 3600): (0, 0, 0)},
    ),
)
