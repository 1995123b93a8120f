"""Extend: by absolute totals, never lowering either."""

from __future__ import annotations

from capguard.testing.conformance.builders import cap, extend, release, reserve, settle
from capguard.testing.conformance.script import case, wait

TEN = cap("ten", 10)

CASES = (
    case(
        "the time to live is a total from the reserve on, and never shortened",
        (reserve("r1", 5, TEN), "held"),
        wait(30),
        (extend("r1", ttl=90), "extended to 5 until 90"),
        (extend("r1", ttl=90), "extended to 5 until 90"),
        (extend("r1", ttl=80), "extended to 5 until 90"),
        ends={"ten": (0, 5, 0)},
    ),
    case(
        "the amount is a total, and never lowered",
        (reserve("r1", 5, TEN), "held"),
        (extend("r1", amount=7), "extended to 7 until 60"),
        (extend("r1", amount=7), "extended to 7 until 60"),
        (extend("r1", amount=3), "extended to 7 until 60"),
        (settle("r1", 6), "settled 6"),
        ends={"ten": (6, 0, 0)},
    ),
    case(
        "an extension by nothing changes nothing",
        (reserve("r1", 5, TEN), "held"),
        (extend("r1"), "extended to 5 until 60"),
        ends={"ten": (0, 5, 0)},
    ),
    case(
        "a raise to the limit passes, one part more is refused and lengthens nothing",
        (reserve("r1", 5, TEN), "held"),
        (reserve("r2", 2, TEN), "held"),
        (extend("r1", amount=9, ttl=90), "denied ten:in_flight"),
        (extend("r1", amount=8), "extended to 8 until 60"),
        ends={"ten": (0, 10, 0)},
    ),
    case(
        "a refused raise tells why, judged on the whole hold beside what others have",
        (reserve("r1", 5, TEN), "held"),
        (reserve("r2", 2, TEN), "held"),
        (settle("r2", 1), "settled 1"),
        (extend("r1", amount=11), "denied ten:too_big"),
        (extend("r1", amount=10), "denied ten:exhausted"),
        (reserve("r3", 2, TEN), "held"),
        (extend("r1", amount=9), "denied ten:in_flight"),
        (extend("r1", amount=7), "extended to 7 until 60"),
        ends={"ten": (1, 9, 0)},
    ),
    case(
        "more time alone is never refused, however full the meter",
        (reserve("r1", 5, TEN), "held"),
        (reserve("r2", 5, TEN), "held"),
        (settle("r2", 9), "settled 9, overrun 4"),
        (extend("r1", ttl=90), "extended to 5 until 90"),
        (extend("r1", amount=5), "extended to 5 until 90"),
        ends={"ten": (9, 5, 4)},
    ),
    case(
        "a raise fits on all caps or moves none",
        (reserve("r1", 2, cap("a", 10), cap("b", 3), cap("c", 4)), "held"),
        (extend("r1", amount=5), "denied b:too_big c:too_big"),
        (extend("r1", amount=3), "extended to 3+3+3 until 60"),
        ends={"a": (0, 3, 0), "b": (0, 3, 0), "c": (0, 3, 0)},
    ),
    case(
        "caps that only tell do not refuse a raise",
        (reserve("r1", 2, cap("told", 2, "warn"), cap("steers", 2, "downgrade")), "held"),
        (extend("r1", amount=5), "extended to 5+5 until 60"),
        (release("r1"), "released"),
        ends={"told": (0, 0, 0), "steers": (0, 0, 0)},
    ),
    case(
        "otherwise = block refuses a raise",
        (reserve("r1", 2, cap("steers", 2, "downgrade", otherwise="block")), "held"),
        (extend("r1", amount=3), "denied steers:too_big"),
        ends={"steers": (0, 2, 0)},
    ),
    case(
        "a raise is per unit, and a leg of 0 stays 0",
        (reserve("r1", {"usd": 2}, TEN, cap("words", unit="tokens")), "held"),
        (extend("r1", amount={"usd": 3, "tokens": 50}), "extended to 3+0 until 60"),
        (reserve("r2", {"usd": 2, "tokens": 0}, TEN, cap("words", unit="tokens")), "held"),
        (extend("r2", amount={"usd": 3, "tokens": 50}), "extended to 3+0 until 60"),
        ends={"ten": (0, 6, 0), cap("words", unit="tokens"): (0, 0, 0)},
    ),
    case(
        "after the expiry there is nothing to extend",
        (reserve("r1", 5, TEN, expected=4), "held"),
        wait(69.999),
        (extend("r1", amount=6), "extended to 6 until 60"),
        wait(0.001),
        (extend("r1", ttl=90, amount=7), "ended expired"),
        ends={"ten": (4, 0, 0)},
    ),
    case(
        "after a settle or a release there is nothing to extend",
        (reserve("r1", 5, TEN), "held"),
        (settle("r1", 4), "settled 4"),
        (extend("r1", ttl=90), "ended settled"),
        (reserve("r2", 5, TEN), "held"),
        (release("r2"), "released"),
        (extend("r2", amount=6), "ended released"),
        ends={"ten": (4, 0, 0)},
    ),
)
