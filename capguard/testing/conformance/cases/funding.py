"""Who pays: the allowance, then grants in their order, then nobody; and what caps count of it."""

from __future__ import annotations

from capguard.ledger.caps import Leg
from capguard.testing.conformance.builders import (
    cap,
    check,
    extend,
    look,
    model,
    release,
    reserve,
    reserve_one_of,
    settle,
)
from capguard.testing.conformance.paying import allowance, credit, give, revoke
from capguard.testing.conformance.script import Sums, case, wait

MIDNIGHT = 12 * 3600
FOUR = allowance(4)
G1, G2 = credit("g1", 3), credit("g2", 2)
BRIEF = credit("brief", 9, until=30)
ALL = cap("all")
OVERAGE = cap("overage", overage_only=True)
UNGRANTED = cap("ungranted", ignore_grants=True)
UNPAID = cap("unpaid", 3, overage_only=True, ignore_grants=True)


def _settled(amount: int, included: int, first: int, second: int) -> dict[str | Leg, Sums]:
    """The meters after one call of `amount` of which each source paid so much."""
    granted = first + second
    counted = {
        ALL: amount,
        OVERAGE: amount - included,
        UNGRANTED: amount - granted,
        UNPAID: amount - included - granted,
    }
    return {leg: (parts, 0, 0) for leg, parts in (counted | {FOUR: included, G1: first, G2: second}).items()}


CASES = (
    *(
        case(
            f"{amount} is drawn from the allowance, then grant by grant; what is left is overage",
            (reserve("r1", amount, ALL, OVERAGE, UNGRANTED, UNPAID, sources=(FOUR, G1, G2)), "held"),
            (look(FOUR, G1, G2), " ".join(["meters", *(f"0/{draw}/0" for draw in draws)])),
            (settle("r1", amount), f"settled {amount}{crossing}"),
            ends=_settled(amount, *draws),
        )
        for amount, draws, crossing in (
            (3, (3, 0, 0), ""),
            (4, (4, 0, 0), ", crossing included@100%"),
            (5, (4, 1, 0), ", crossing included@100%"),
            (9, (4, 3, 2), ", crossing included@100% g1@100% g2@100%"),
            (12, (4, 3, 2), ", crossing included@100% g1@100% g2@100%"),
        )
    ),
    case(
        "grants pay in the order of the call, whatever they are called",
        (reserve("r1", 4, sources=(G2, G1)), "held"),
        ends={G1: (0, 2, 0), G2: (0, 2, 0)},
    ),
    case(
        "what a source has paid it pays no more",
        (reserve("r1", 3, UNPAID, sources=(FOUR,), book=True), "settled"),
        (reserve("r2", 3, UNPAID, sources=(FOUR,), book=True), "settled, crossing included@100%"),
        (reserve("r3", 2, UNPAID, sources=(FOUR,)), "denied unpaid:exhausted"),
        (reserve("r3", 1, UNPAID, sources=(FOUR,)), "held"),
        ends={UNPAID: (2, 1, 0), FOUR: (4, 0, 0)},
    ),
    case(
        "a cap for overage refuses what nobody pays, and no more",
        (reserve("r1", 12, UNPAID, sources=(FOUR, G1)), "denied unpaid:too_big"),
        (check(10, UNPAID, sources=(FOUR, G1)), "held"),
        (reserve("r2", 10, UNPAID, sources=(FOUR, G1)), "held"),
        (reserve("r3", 1, UNPAID, sources=(FOUR, G1)), "denied unpaid:in_flight"),
        ends={UNPAID: (0, 3, 0), FOUR: (0, 4, 0), G1: (0, 3, 0)},
    ),
    case(
        "a call that is refused draws nothing",
        (reserve("r1", 9, cap("hard", 8), sources=(FOUR, G1)), "denied hard:too_big"),
        ends={FOUR: (0, 0, 0), G1: (0, 0, 0), "hard": (0, 0, 0)},
    ),
    case(
        "a cap in another unit counts all of it, whoever pays",
        (
            reserve(
                "r1", {"usd": 4, "tokens": 50}, cap("words", 60, unit="tokens", overage_only=True), sources=(FOUR,)
            ),
            "held",
        ),
        (reserve("r2", {"tokens": 9}, UNPAID, sources=(FOUR, G1)), "held"),
        ends={
            cap("words", unit="tokens", overage_only=True): (0, 50, 0),
            UNPAID: (0, 0, 0),
            FOUR: (0, 4, 0),
            G1: (0, 0, 0),
        },
    ),
    case(
        "each model has sources of its own",
        (
            reserve_one_of(
                "r1",
                model("big", 9, cap("cheaper", 5, "downgrade", step=1), sources=(FOUR, G1)),
                model("small", 2, sources=(G1,)),
            ),
            "held small, passing cheaper",
        ),
        ends={FOUR: (0, 0, 0), G1: (0, 2, 0)},
    ),
    case(
        "a settle gives back the last first: it pays anew, from the allowance on",
        (reserve("r1", 9, UNPAID, sources=(FOUR, G1, G2)), "held"),
        (settle("r1", 5), "settled 5, crossing included@100%"),
        ends={UNPAID: (0, 0, 0), FOUR: (4, 0, 0), G1: (1, 0, 0), G2: (0, 0, 0)},
    ),
    case(
        "a settle pays from what others have given back since",
        (reserve("r1", 4, UNPAID, sources=(FOUR, G1)), "held"),
        (reserve("r2", 4, UNPAID, sources=(FOUR, G1)), "held"),
        (look(FOUR, G1, UNPAID), "meters 0/4/0 0/3/0 0/1/0"),
        (release("r1"), "released"),
        (settle("r2", 4), "settled 4, crossing included@100%"),
        ends={UNPAID: (0, 0, 0), FOUR: (4, 0, 0), G1: (0, 0, 0)},
    ),
    case(
        "what a call holds of a source is its own: nobody else is paid from it",
        (reserve("r1", 3, UNPAID, sources=(FOUR,)), "held"),
        (reserve("r2", 1, UNPAID, sources=(FOUR,)), "held"),
        (settle("r2", 3), "settled 3"),
        (look(FOUR, UNPAID), "meters 1/3/0 2/0/0"),
        (settle("r1", 4), "settled 4, crossing included@100%"),
        ends={UNPAID: (3, 0, 0), FOUR: (4, 0, 0)},
    ),
    case(
        "a settled split is never looked at again",
        (reserve("r1", 4, UNPAID, sources=(FOUR, G1)), "held"),
        (reserve("r2", 3, UNPAID, sources=(FOUR, G1)), "held"),
        (settle("r2", 3), "settled 3, crossing g1@100%"),
        (release("r1"), "released"),
        (settle("r2", 3), "settled 3, again"),
        ends={FOUR: (0, 0, 0), G1: (3, 0, 0), UNPAID: (0, 0, 0)},
    ),
    case(
        "own parts are paid though the source was made smaller meanwhile",
        (reserve("r1", 4, UNPAID, sources=(FOUR,)), "held"),
        (reserve("r2", 6, UNPAID, sources=(allowance(10),)), "held"),
        (settle("r1", 5), "settled 5, crossing included@100%"),
        (reserve("r3", 1, UNPAID, sources=(FOUR,)), "held"),
        ends={FOUR: (4, 6, 0), UNPAID: (1, 1, 0)},
    ),
    case(
        "an expiry books what was expected, and gives back the rest",
        (reserve("r1", 9, UNPAID, expected=5, sources=(FOUR, G1, G2)), "held"),
        wait(70),
        (check(0), "held, crossing included@100%"),
        ends={UNPAID: (0, 0, 0), FOUR: (4, 0, 0), G1: (1, 0, 0), G2: (0, 0, 0)},
    ),
    case(
        "a late settle pays first from what the expiry booked, then as the sources stand",
        (reserve("r1", 6, UNPAID, expected=3, sources=(FOUR, G1)), "held"),
        wait(70),
        (reserve("r2", 3, UNPAID, sources=(FOUR, G1)), "held"),
        (look(FOUR, G1), "meters 3/1/0 0/2/0"),
        (settle("r1", 6), "settled 6, late"),
        ends={FOUR: (3, 1, 0), G1: (1, 2, 0), UNPAID: (2, 0, 0)},
    ),
    case(
        "a settle after the release has no own parts left",
        (reserve("r1", 4, UNPAID, sources=(FOUR,)), "held"),
        (release("r1"), "released"),
        (reserve("r2", 3, UNPAID, sources=(FOUR,)), "held"),
        (settle("r1", 4), "settled 4, late"),
        ends={FOUR: (1, 3, 0), UNPAID: (3, 0, 0)},
    ),
    case(
        "what nobody pays beyond the cap for it is overrun",
        (reserve("r1", 4, UNPAID, sources=(FOUR,)), "held"),
        (settle("r1", 9), "settled 9, overrun 2, crossing included@100%"),
        ends={FOUR: (4, 0, 0), UNPAID: (5, 0, 2)},
    ),
    case(
        "a new period has an allowance of its own; a settle goes to that of its reserve",
        (reserve("r1", 3, UNPAID, sources=(FOUR,), ttl=MIDNIGHT), "held"),
        wait(MIDNIGHT),
        (reserve("r2", 4, sources=(allowance(4, at=MIDNIGHT),)), "held"),
        (settle("r1", 4), "settled 4, crossing included@100%"),
        ends={FOUR: (4, 0, 0), allowance(4, at=MIDNIGHT): (0, 4, 0), UNPAID: (0, 0, 0)},
    ),
    case(
        "a grant that has ended pays what calls hold of it, and nothing else",
        (reserve("r1", 3, UNPAID, sources=(BRIEF,)), "held"),
        (reserve("r2", 3, UNPAID, sources=(BRIEF,)), "held"),
        wait(29.999),
        (settle("r1", 4), "settled 4"),
        wait(0.001),
        (settle("r2", 4), "settled 4"),
        ends={BRIEF: (7, 0, 0), UNPAID: (1, 0, 0)},
    ),
    case(
        "what comes back to a grant that has ended is lost",
        (reserve("r1", 6, UNPAID, sources=(BRIEF,)), "held"),
        (reserve("r2", 5, UNPAID, sources=(BRIEF,)), "held"),
        wait(30),
        (settle("r1", 1), "settled 1"),
        (settle("r2", 5), "settled 5"),
        ends={BRIEF: (4, 0, 0), UNPAID: (2, 0, 0)},
    ),
    case(
        "a grant that is revoked pays what calls hold of it, and nothing else",
        (give("g1", 3), "profile 1, grants g1"),
        (reserve("r1", 2, UNPAID, sources=(G1, G2), profile=1), "held"),
        (revoke("g1"), "profile 2, grants -g1"),
        (settle("r1", 5), "settled 5, crossing g2@100%"),
        (reserve("r2", 1, UNPAID, sources=(G1,), profile=1), "stale at 0, profile 2"),
        ends={G1: (2, 0, 0), G2: (2, 0, 0), UNPAID: (1, 0, 0)},
    ),
    case(
        "a grant that stands beside a revoked one pays as before",
        (give("g1", 3), "profile 1, grants g1"),
        (give("g2", 2), "profile 2, grants g1 g2"),
        (reserve("r1", 1, UNPAID, sources=(G1, G2), profile=2), "held"),
        (revoke("g1"), "profile 3, grants -g1 g2"),
        (settle("r1", 4), "settled 4, crossing g2@100%"),
        ends={G1: (1, 0, 0), G2: (2, 0, 0), UNPAID: (1, 0, 0)},
    ),
    case(
        "a grant of the same name that another user has is none of this call's",
        (give("g1", 3, user="u2"), "profile 1, grants g1"),
        (revoke("g1", user="u2"), "profile 2, grants -g1"),
        (reserve("r1", 2, UNPAID, sources=(G1,)), "held"),
        (settle("r1", 4), "settled 4, crossing g1@100%"),
        ends={G1: (3, 0, 0), UNPAID: (1, 0, 0), credit("g1", 3, who="u2"): (0, 0, 0)},
    ),
    case(
        "a grant pays for calls without a user too, where the caller says so",
        (reserve("r1", 2, UNPAID, sources=(G1,), user=None), "held"),
        (settle("r1", 4), "settled 4, crossing g1@100%"),
        ends={G1: (3, 0, 0), UNPAID: (1, 0, 0)},
    ),
    case(
        "a raise is paid as a reserve is",
        (reserve("r1", 3, ALL, UNPAID, sources=(FOUR, G1)), "held"),
        (extend("r1", amount=10), "extended to 10+3+4+3 until 60"),
        (extend("r1", amount=11), "denied unpaid:too_big"),
        (settle("r1", 5), "settled 5, crossing included@100%"),
        ends={ALL: (5, 0, 0), UNPAID: (0, 0, 0), FOUR: (4, 0, 0), G1: (1, 0, 0)},
    ),
    case(
        "a raise takes nothing from a source that has ended",
        (reserve("r1", 3, UNPAID, sources=(BRIEF,)), "held"),
        wait(30),
        (extend("r1", amount=5), "extended to 2+3 until 60"),
        ends={BRIEF: (0, 3, 0), UNPAID: (0, 2, 0)},
    ),
)
