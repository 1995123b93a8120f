"""Admission: settled + held + x <= limit for every enforcing cap, and all caps of a call or none."""

from __future__ import annotations

from capguard.ledger.money import MAX_AMOUNT
from capguard.testing.conformance.builders import cap, release, reserve, settle
from capguard.testing.conformance.script import case

TEN = cap("ten", 10)
A, B, C = cap("a", 10), cap("b", 10), cap("c", 10)

CASES = (
    case(
        "a call that fills the cap to its limit passes",
        (reserve("r1", 10, TEN), "held"),
        ends={"ten": (0, 10, 0)},
    ),
    case(
        "equality passes over what is settled and held together",
        (reserve("r1", 4, TEN), "held"),
        (settle("r1", 4), "settled 4"),
        (reserve("r2", 3, TEN), "held"),
        (reserve("r3", 3, TEN), "held"),
        ends={"ten": (4, 6, 0)},
    ),
    case(
        "one part more than the limit is refused",
        (reserve("r1", 4, TEN), "held"),
        (reserve("r2", 7, TEN), "denied ten:in_flight"),
        (reserve("r3", 6, TEN), "held"),
        ends={"ten": (0, 10, 0)},
    ),
    case(
        "what can never fit is too big, however empty the meter",
        (reserve("r1", 11, TEN), "denied ten:too_big"),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "what is spent is exhausted, also while others hold the rest",
        (reserve("r1", 8, TEN), "held"),
        (settle("r1", 8), "settled 8"),
        (reserve("r2", 2, TEN), "held"),
        (reserve("r3", 3, TEN), "denied ten:exhausted"),
        ends={"ten": (8, 2, 0)},
    ),
    case(
        "what would fit without the holds of others is in flight",
        (reserve("r1", 4, TEN), "held"),
        (settle("r1", 4), "settled 4"),
        (reserve("r2", 4, TEN), "held"),
        (reserve("r3", 6, TEN), "denied ten:in_flight"),
        (release("r2"), "released"),
        (reserve("r4", 6, TEN), "held"),
        ends={"ten": (4, 6, 0)},
    ),
    case(
        "a leg of 0 passes a full meter",
        (reserve("r1", 10, TEN), "held"),
        (reserve("r2", 0, TEN), "held"),
        (reserve("r3", {"tokens": 5}, TEN), "held"),
        ends={"ten": (0, 10, 0)},
    ),
    case(
        "a limit of 0 refuses everything but 0",
        (reserve("r1", 1, cap("none", 0)), "denied none:too_big"),
        (reserve("r2", 0, cap("none", 0)), "held"),
        ends={"none": (0, 0, 0)},
    ),
    case(
        "a call without caps is held, and booked when it settles",
        (reserve("r1", 10), "held"),
        (settle("r1", 12), "settled 12"),
    ),
    *(
        case(
            f"of three caps all are held or none: the one at place {place + 1} is full",
            (reserve("r1", 10, B), "held"),
            (reserve("r2", 1, *legs), "denied b:in_flight"),
            (reserve("r3", 1, A, C), "held"),
            ends={"a": (0, 1, 0), "b": (0, 10, 0), "c": (0, 1, 0)},
        )
        for place, legs in enumerate([(B, A, C), (A, B, C), (A, C, B)])
    ),
    case(
        "a refusal names all refusing caps in policy order, each with its own reason",
        (reserve("r1", 9, A, C), "held"),
        (settle("r1", 9), "settled 9"),
        (reserve("r2", 9, B), "held"),
        (reserve("r3", 4, C, cap("fits"), B, cap("d", 3), A), "denied c:exhausted b:in_flight d:too_big a:exhausted"),
        ends={"a": (9, 0, 0), "b": (0, 9, 0), "c": (9, 0, 0), "d": (0, 0, 0), "fits": (0, 0, 0)},
    ),
    *(
        case(
            f"{action} refuses",
            (reserve("r1", 11, cap("ten", 10, action)), "denied ten:too_big"),
            ends={"ten": (0, 0, 0)},
        )
        for action in ("block", "clamp", "throttle")
    ),
    case(
        "each unit of a call is counted on the caps of that unit",
        (reserve("r1", {"usd": 2, "tokens": 70}, TEN, cap("words", 100, unit="tokens")), "held"),
        (
            reserve("r2", {"usd": 2, "tokens": 31}, TEN, cap("words", 100, unit="tokens")),
            "denied words:in_flight",
        ),
        (settle("r1", {"usd": 1, "tokens": 50}), "settled 1 tokens=50"),
        (reserve("r3", {"usd": 9, "tokens": 50}, TEN, cap("words", 100, unit="tokens")), "held"),
        ends={"ten": (1, 9, 0), cap("words", unit="tokens"): (50, 50, 0)},
    ),
    case(
        "each identity has a meter of its own",
        (reserve("r1", 10, TEN), "held"),
        (reserve("r2", 10, cap("ten", 10, who="u2"), user="u2"), "held"),
        (reserve("r3", 1, TEN), "denied ten:in_flight"),
        ends={"ten": (0, 10, 0), cap("ten", who="u2"): (0, 10, 0)},
    ),
    case(
        "the limit that counts is that of the call: lowered, it refuses; raised, it admits; the spend stays",
        (reserve("r1", 10, TEN), "held"),
        (reserve("r2", 1, cap("ten", 5)), "denied ten:in_flight"),
        (reserve("r3", 10, cap("ten", 20)), "held"),
        ends={"ten": (0, 20, 0)},
    ),
    case(
        "the largest amounts are exact",
        (reserve("r1", MAX_AMOUNT - 1, cap("vast", MAX_AMOUNT)), "held"),
        (reserve("r2", 2, cap("vast", MAX_AMOUNT)), "denied vast:in_flight"),
        (reserve("r3", 1, cap("vast", MAX_AMOUNT)), "held"),
        (settle("r1", MAX_AMOUNT - 2), f"settled {MAX_AMOUNT - 2}"),
        ends={"vast": (MAX_AMOUNT - 2, 1, 0)},
    ),
    case(
        "a leg of 0 passes a meter that is beyond its limit",
        (reserve("r1", 5, TEN), "held"),
        (settle("r1", 12), "settled 12, overrun 2"),
        (reserve("r2", 0, TEN), "held"),
        (reserve("r3", 1, TEN), "denied ten:exhausted"),
        ends={"ten": (12, 0, 2)},
    ),
)
