"""Caps that steer or tell: downgrade, warn, dry_run."""

from __future__ import annotations

from capguard.testing.conformance.builders import cap, journal, model, reserve, reserve_one_of, settle
from capguard.testing.conformance.script import case

LAST = cap("cheaper", 5, "downgrade")
TO_1, TO_2 = cap("cheaper", 5, "downgrade", step=1), cap("cheaper", 5, "downgrade", step=2)
STRICT = cap("cheaper", 5, "downgrade", otherwise="block")
STRICT_TO_1 = cap("cheaper", 5, "downgrade", otherwise="block", step=1)
HARD = cap("hard", 8)

CASES = (
    case(
        "what fits is not downgraded",
        (reserve_one_of("r1", model("big", 5, TO_1), model("small", 1, LAST)), "held"),
        ends={"cheaper": (0, 5, 0)},
    ),
    case(
        "a downgrade cap leads to the cheaper model, which holds its own amount",
        (reserve_one_of("r1", model("big", 6, TO_1), model("small", 2, LAST)), "held small, passing cheaper"),
        ends={"cheaper": (0, 2, 0)},
    ),
    case(
        "the second step is taken where the first does not fit either",
        (
            reserve_one_of("r1", model("big", 9, TO_1), model("mid", 6, TO_2), model("small", 1, LAST)),
            "held small, passing cheaper",
        ),
        ends={"cheaper": (0, 1, 0)},
    ),
    case(
        "the last candidate passes the downgrade cap",
        (
            reserve_one_of("r1", model("big", 9, TO_1), model("small", 6, LAST)),
            "held small, passing cheaper",
        ),
        (settle("r1", 6), "settled 6"),
        ends={"cheaper": (6, 0, 0)},
    ),
    case(
        "a model without a cheaper one passes",
        (reserve("r1", 6, LAST), "held, passing cheaper"),
        ends={"cheaper": (0, 6, 0)},
    ),
    case(
        "otherwise = block refuses on the last candidate only",
        (reserve_one_of("r1", model("big", 6, STRICT_TO_1), model("small", 4, STRICT)), "held small, passing cheaper"),
        (
            reserve_one_of("r2", model("big", 6, STRICT_TO_1), model("small", 4, STRICT)),
            "denied cheaper:in_flight",
        ),
        ends={"cheaper": (0, 4, 0)},
    ),
    case(
        "two downgrade caps: the further step wins",
        (
            reserve_one_of(
                "r1",
                model("big", 6, TO_1, cap("far", 5, "downgrade", step=2)),
                model("mid", 3, LAST),
                model("small", 1, LAST, cap("far", 5, "downgrade")),
            ),
            "held small, passing cheaper far",
        ),
        ends={"cheaper": (0, 1, 0), "far": (0, 1, 0)},
    ),
    case(
        "other caps are judged on the chosen candidate only",
        (reserve_one_of("r1", model("big", 9, TO_1, HARD), model("small", 2, LAST)), "held small, passing cheaper"),
        ends={"cheaper": (0, 2, 0), "hard": (0, 0, 0)},
    ),
    case(
        "other caps refuse the chosen candidate, and nothing is held",
        (reserve("r1", 7, HARD), "held"),
        (
            reserve_one_of("r2", model("big", 9, HARD, TO_1), model("small", 2, HARD, LAST)),
            "denied hard:in_flight",
        ),
        ends={"cheaper": (0, 0, 0), "hard": (0, 7, 0)},
    ),
    case(
        "a block cap does not steer: without a downgrade cap the first candidate is judged",
        (reserve_one_of("r1", model("big", 9, HARD), model("small", 2, HARD)), "denied hard:too_big"),
        ends={"hard": (0, 0, 0)},
    ),
    *(
        case(
            f"a step to {step} of 2 candidates leads nowhere: the call passes where it is",
            (
                reserve_one_of("r1", model("big", 6, cap("cheaper", 5, "downgrade", step=step)), model("small", 1)),
                "held, passing cheaper",
            ),
            ends={"cheaper": (0, 6, 0)},
        )
        for step in (-1, 0, 2)
    ),
    *(
        case(
            f"{action} tells and lets pass, and what goes beyond it is nobody's overrun",
            (reserve("r1", 6, cap("five", 5, action), cap("ten", 10)), "held, passing five"),
            (settle("r1", 7), "settled 7"),
            (reserve("r2", 4, cap("five", 5, action), cap("ten", 10)), "denied ten:exhausted"),
            ends={"ten": (7, 0, 0)},
        )
        for action in ("warn", "dry_run")
    ),
    case(
        "a replay answers with the model that was chosen",
        (reserve_one_of("r1", model("big", 6, TO_1), model("small", 2, LAST)), "held small, passing cheaper"),
        (reserve_one_of("r1", model("big", 6, TO_1), model("small", 2, LAST)), "held small, again"),
        ends={"cheaper": (0, 2, 0)},
    ),
    case(
        "two downgrade caps: the further step wins in either order",
        (
            reserve_one_of(
                "r1",
                model("big", 6, cap("far", 5, "downgrade", step=2), TO_1),
                model("mid", 3, LAST),
                model("small", 1, LAST, cap("far", 5, "downgrade")),
            ),
            "held small, passing far cheaper",
        ),
        ends={"cheaper": (0, 1, 0), "far": (0, 1, 0)},
    ),
    case(
        "a call of which no facts are known keeps those of its decision",
        (reserve("r1", 6, LAST)._replace(facts={}), "held, passing cheaper"),
        (reserve("r2", 1, LAST)._replace(facts={}), "held, passing cheaper"),
        (reserve("r3", 1)._replace(facts={}), "held"),
        (journal(), "lines 1:reserve:r1@0 2:reserve:r2@0 3:reserve:r3@0"),
        ends={"cheaper": (0, 7, 0)},
    ),
)
