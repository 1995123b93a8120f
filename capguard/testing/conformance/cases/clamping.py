"""clamp: the output limit is lowered to what still fits, at most half of a cap's limit, at least `min_output`."""

from __future__ import annotations

from capguard.ledger.caps import Leg
from capguard.ledger.commands import Check, Fetch, Scale
from capguard.testing.conformance.builders import cap, model, reserve, reserve_one_of, settle
from capguard.testing.conformance.paying import allowance
from capguard.testing.conformance.script import case, wait


def clamp(id: str = "ten", limit: int = 100, *, min_output: int = 4) -> Leg:
    return cap(id, limit, "clamp", min_output=min_output)


def words(output: int, *, base: int = 0, rate: int = 1000) -> Scale:
    """A call whose prompt costs `base` and whose output costs `rate` thousandths of a part per token."""
    return Scale(output, {"usd": base}, {"usd": rate})


TEN = clamp()
TOKENS = cap("words", 100, "clamp", unit="tokens", min_output=4)
SPENT_70 = (reserve("spent", 70, TEN, book=True), "settled")

CASES = (
    case(
        "what fits is not clamped, also beyond half of the limit",
        (reserve("r1", words(100), TEN), "held"),
        ends={"ten": (0, 100, 0)},
    ),
    case(
        "the output is lowered to what is left",
        SPENT_70,
        (reserve("r1", words(100), TEN), "held, passing ten, output 30"),
        (reserve("r2", 1, TEN), "denied ten:in_flight"),
        ends={"ten": (70, 30, 0)},
    ),
    case(
        "what the prompt costs is left to it",
        SPENT_70,
        (reserve("r1", words(100, base=20), TEN), "held, passing ten, output 10"),
        ends={"ten": (70, 30, 0)},
    ),
    case(
        "one clamped call holds at most half of the limit",
        (reserve("spent", 10, TEN, book=True), "settled"),
        (reserve("r1", words(100), TEN), "held, passing ten, output 50"),
        (reserve("r2", words(100), TEN), "held, passing ten, output 40"),
        ends={"ten": (10, 90, 0)},
    ),
    case(
        "half of an odd limit is rounded down",
        (reserve("r1", words(100), clamp("odd", 99)), "held, passing odd, output 49"),
        ends={"odd": (0, 49, 0)},
    ),
    *(
        case(
            f"at {rate} thousandths of a part per token {output} tokens cost no more than 30",
            SPENT_70,
            (reserve("r1", words(200, rate=rate), TEN), f"held, passing ten, output {output}"),
            ends={"ten": (70, held, 0)},
        )
        for rate, output, held in ((1500, 20, 30), (1700, 17, 29), (7000, 4, 28), (999, 30, 30), (300, 100, 30))
    ),
    case(
        "the shortest output is min_output, and it may fill the cap",
        (reserve("spent", 96, TEN, book=True), "settled"),
        (reserve("r1", words(100), TEN), "held, passing ten, output 4"),
        (reserve("r2", 0, TEN), "held"),
        ends={"ten": (96, 4, 0)},
    ),
    case(
        "where not even min_output fits the call is refused, and told what that lacks",
        (reserve("spent", 97, TEN, book=True), "settled"),
        (reserve("r1", words(100), TEN), "denied ten:exhausted"),
        (reserve("r2", words(200), TEN), "denied ten:exhausted"),
        ends={"ten": (97, 0, 0)},
    ),
    case(
        "where the shortest waits for others it is in flight, though the longest is too big",
        (reserve("r1", 97, TEN), "held"),
        (reserve("r2", words(200), TEN), "denied ten:in_flight"),
        ends={"ten": (0, 97, 0)},
    ),
    case(
        "where the shortest is more than half of the limit the call as it is refuses",
        (reserve("r1", words(30), clamp("small", 20, min_output=11)), "denied small:too_big"),
        (reserve("r2", words(30), clamp("small", 20, min_output=10)), "held, passing small, output 10"),
        ends={"small": (0, 10, 0)},
    ),
    case(
        "an output that is not longer than min_output is not lowered",
        (reserve("spent", 98, TEN, book=True), "settled"),
        (reserve("r1", words(4), TEN), "denied ten:exhausted"),
        (reserve("r2", words(3), TEN), "denied ten:exhausted"),
        (reserve("r3", words(2), TEN), "held"),
        ends={"ten": (98, 2, 0)},
    ),
    case(
        "an output that costs nothing makes no room",
        (reserve("r1", words(100, base=101, rate=0), TEN), "denied ten:too_big"),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "a call whose output cannot be limited is refused as by block",
        SPENT_70,
        (reserve("r1", 31, TEN), "denied ten:exhausted"),
        ends={"ten": (70, 0, 0)},
    ),
    case(
        "several clamp caps: the least room and the largest min_output count",
        SPENT_70,
        (reserve("r1", words(100), clamp("other", 40), TEN), "held, passing other ten, output 20"),
        (reserve("r2", words(100), clamp("other", 40, min_output=11), TEN), "denied ten:in_flight"),
        (reserve("r3", words(100), clamp("other", 40), TEN), "held, passing other ten, output 10"),
        ends={"ten": (70, 30, 0), "other": (0, 30, 0)},
    ),
    case(
        "other caps are judged on what is left of the call",
        SPENT_70,
        (reserve("r1", words(100), TEN, cap("hard", 30)), "held, passing ten, output 30"),
        ends={"ten": (70, 30, 0), "hard": (0, 30, 0)},
    ),
    case(
        "other caps that refuse what is left of the call are the ones that are named",
        SPENT_70,
        (reserve("r1", words(100), TEN, cap("hard", 29), cap("told", 5, "warn")), "denied hard:too_big"),
        ends={"ten": (70, 0, 0), "hard": (0, 0, 0), "told": (0, 0, 0)},
    ),
    case(
        "where the shortest does not fit all that refuse it are named",
        (reserve("spent", 97, TEN, book=True), "settled"),
        (reserve("r1", words(100), cap("a", 3), TEN, cap("b", 4)), "denied a:too_big ten:exhausted"),
        ends={"ten": (97, 0, 0), "a": (0, 0, 0), "b": (0, 0, 0)},
    ),
    case(
        "every unit shrinks with the output",
        (
            reserve("r1", Scale(100, {"usd": 5, "tokens": 20}, {"usd": 500, "tokens": 1000}), cap("usd"), TOKENS),
            "held, passing words, output 30",
        ),
        ends={"usd": (0, 20, 0), TOKENS: (0, 50, 0)},
    ),
    case(
        "a downgrade is taken first, and the cheaper model is clamped",
        SPENT_70,
        (
            reserve_one_of(
                "r1",
                model("big", words(100, rate=2000), cap("cheaper", 150, "downgrade", step=1), TEN),
                model("small", words(100), cap("cheaper", 150, "downgrade"), TEN),
            ),
            "held small, passing cheaper ten, output 30",
        ),
        ends={"ten": (70, 30, 0), "cheaper": (0, 30, 0)},
    ),
    case(
        "a cap for overage is clamped by what nobody pays",
        (
            reserve(
                "r1",
                words(30),
                cap("over", 10, "clamp", min_output=4, overage_only=True),
                sources=(allowance(15),),
            ),
            "held, passing over, output 20",
        ),
        ends={cap("over", overage_only=True): (0, 5, 0), allowance(15): (0, 15, 0)},
    ),
    case(
        "a clamped call is expected to cost no more than it holds",
        SPENT_70,
        (reserve("r1", words(100), TEN, expected=60), "held, passing ten, output 30"),
        wait(70),
        (reserve("r2", 1, TEN), "denied ten:exhausted"),
        (Fetch("r1"), "found expired 30"),
        ends={"ten": (100, 0, 0)},
    ),
    case(
        "a clamped call is expected to cost what it would cost anyway",
        SPENT_70,
        (reserve("r1", words(100), TEN, expected=12), "held, passing ten, output 30"),
        wait(70),
        (reserve("r2", 18, TEN), "held"),
        (Fetch("r1"), "found expired 12"),
        ends={"ten": (82, 18, 0)},
    ),
    case(
        "a replay tells the output that was left",
        SPENT_70,
        (reserve("r1", words(100), TEN), "held, passing ten, output 30"),
        (reserve("r1", words(100), TEN), "held, output 30, again"),
        (settle("r1", 31), "settled 31, overrun 1"),
        (reserve("r1", words(100), TEN), "settled, output 30, again"),
        ends={"ten": (101, 0, 1)},
    ),
    case(
        "check and book clamp as a reserve does",
        SPENT_70,
        (Check(reserve("r1", words(100), TEN)), "held, passing ten, output 30"),
        (reserve("r1", words(100), TEN, book=True), "settled, passing ten, output 30"),
        ends={"ten": (100, 0, 0)},
    ),
    case(
        "the output is lowered by one token where that is enough",
        (reserve("r1", words(51, base=0), clamp("tight", 50, min_output=1)), "held, passing tight, output 25"),
        SPENT_70,
        (reserve("r2", words(31), TEN), "held, passing ten, output 30"),
        ends={"ten": (70, 30, 0), "tight": (0, 25, 0)},
    ),
)
