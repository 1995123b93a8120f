"""Thresholds: a booking that brings a meter to a share of its limit tells so, once in a period."""

from __future__ import annotations

from capguard.ledger.commands import Alerts, Check, Command
from capguard.ledger.money import MAX_AMOUNT
from capguard.testing.conformance.builders import cap, check, extend, look, ms, release, reserve, settle
from capguard.testing.conformance.paying import allowance, credit
from capguard.testing.conformance.script import case, wait

HALF = (50, 100)
TEN = cap("ten", 10)
MIDNIGHT = 12 * 3600
TOMORROW = cap("ten", 10, at=MIDNIGHT)
MANY = 250
"""More than one step ends at most."""
CROWD = cap("many", MANY)

OVERDUE = (reserve("overdue", 7, TEN, expected=6, thresholds=HALF), "held")
SWEPT_BY: tuple[tuple[Command, str], ...] = (
    (reserve("r2", 1), "held"),
    (reserve("r2", 9, TEN), "denied ten:exhausted"),
    (reserve("r2", 1, valid=(0, 1)), "stale at 70"),
    (reserve("overdue", 7, TEN), "expired, again"),
    (reserve("overdue", 7, TEN, arguments="others"), "mismatch expired"),
    (Check(reserve("r2", 1)), "held"),
    (settle("other", 1), "unknown"),
    (release("other"), "nothing to release"),
    (extend("other", ttl=1), "unknown"),
    (extend("overdue", ttl=1), "ended expired"),
    (look(TEN), "meters 6/0/0"),
)

CASES = (
    case(
        "a settle tells the threshold that it reaches, once",
        (reserve("r1", 4, TEN, thresholds=HALF), "held"),
        (settle("r1", 4), "settled 4"),
        (reserve("r2", 1, TEN, thresholds=HALF), "held"),
        (settle("r2", 1), "settled 1, crossing ten@50%"),
        (settle("r2", 1), "settled 1, again"),
        (reserve("r3", 5, TEN, thresholds=HALF), "held"),
        (settle("r3", 4), "settled 4"),
        (reserve("r4", 1, TEN, thresholds=HALF), "held"),
        (settle("r4", 1), "settled 1, crossing ten@100%"),
        (Alerts(), "alerts ten:50%@0 ten:100%@0"),
        ends={"ten": (10, 0, 0)},
    ),
    case(
        "a booking that passes several thresholds tells them all",
        (reserve("r1", 9, TEN, thresholds=(50, 80, 90, 95)), "held"),
        (settle("r1", 9), "settled 9, crossing ten@50% ten@80% ten@90%"),
        ends={"ten": (9, 0, 0)},
    ),
    case(
        "a share of the limit that is no whole part is reached by the next one",
        (reserve("r1", 2, cap("five", 5), thresholds=HALF, book=True), "settled"),
        (reserve("r2", 1, cap("five", 5), thresholds=HALF, book=True), "settled, crossing five@50%"),
        ends={"five": (3, 0, 0)},
    ),
    case(
        "holds reach nothing",
        (reserve("r1", 10, TEN, thresholds=HALF), "held"),
        (extend("r1", ttl=90), "extended to 10 until 90"),
        (release("r1"), "released"),
        (Alerts(), "alerts"),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "what is booked in one step tells at once, each cap in its order",
        (
            reserve("r1", 5, TEN, cap("told", 5, "warn"), cap("roomy"), thresholds=HALF, book=True),
            "settled, crossing ten@50% told@50% told@100%",
        ),
        (reserve("r1", 5, TEN, thresholds=HALF, book=True), "settled, again"),
        ends={"ten": (5, 0, 0), "told": (5, 0, 0), "roomy": (5, 0, 0)},
    ),
    case(
        "what goes over the limit has reached it",
        (reserve("r1", 5, TEN, thresholds=HALF), "held"),
        (settle("r1", 12), "settled 12, overrun 2, crossing ten@50% ten@100%"),
        ends={"ten": (12, 0, 2)},
    ),
    *(
        case(
            f"an expiry tells with the answer to whoever comes next: {type(command).__name__} {answer}",
            OVERDUE,
            wait(70),
            (command, f"{answer}, crossing ten@50%"),
            (reserve("r3", 0), "held"),
            ends={"ten": (6, 0, 0)},
        )
        for command, answer in SWEPT_BY
    ),
    case(
        "the expiry and the call that it met tell both, the older first",
        (reserve("r1", 1, TEN, thresholds=HALF), "held"),
        wait(60),
        (reserve("r2", 6, cap("other", 10), expected=5, thresholds=HALF, ttl=5, grace=0), "held"),
        wait(5),
        (settle("r1", 5), "settled 5, crossing other@50% ten@50%"),
        ends={"ten": (5, 0, 0), "other": (5, 0, 0)},
    ),
    *(
        case(
            f"whoever needs the room of {MANY} that have expired is told what all of them reached: {name}",
            [(reserve(f"r{n}", 1, CROWD, expected=int(n % 20 > 0), thresholds=(80,)), "held") for n in range(MANY)],
            wait(70),
            (command, answer),
            ends={"many": (MANY - 13, held, 0)},
        )
        for name, command, answer, held in (
            ("a reserve that fits", reserve("late", 13, CROWD), "held, crossing many@80%", 13),
            ("a reserve that does not", reserve("late", 14, CROWD), "denied many:exhausted, crossing many@80%", 0),
            ("a check that fits", check(13, CROWD), "held, crossing many@80%", 0),
            ("a check that does not", check(14, CROWD), "denied many:exhausted, crossing many@80%", 0),
        )
    ),
    case(
        "a late settle tells what it adds",
        (reserve("r1", 7, TEN, expected=4, thresholds=HALF), "held"),
        wait(70),
        (settle("r1", 5), "settled 5, late, crossing ten@50%"),
        ends={"ten": (5, 0, 0)},
    ),
    case(
        "what is reached, taken back and reached again is told once",
        (reserve("r1", 5, TEN, thresholds=HALF), "held"),
        wait(70),
        (release("r1"), "released, crossing ten@50%"),
        (reserve("r2", 5, TEN, thresholds=HALF, book=True), "settled"),
        (Alerts(), "alerts ten:50%@70"),
        ends={"ten": (5, 0, 0)},
    ),
    case(
        "a new period tells anew",
        (reserve("r1", 5, TEN, thresholds=HALF, book=True), "settled, crossing ten@50%"),
        wait(MIDNIGHT),
        (reserve("r2", 5, TOMORROW, thresholds=HALF, book=True), "settled, crossing ten@50%"),
        (Alerts(), f"alerts ten:50%@0 ten:50%@{MIDNIGHT}"),
        ends={TEN: (5, 0, 0), TOMORROW: (5, 0, 0)},
    ),
    case(
        "each identity is told of its own",
        (reserve("r1", 5, TEN, thresholds=HALF, book=True), "settled, crossing ten@50%"),
        (reserve("r2", 5, cap("ten", 10, who="u2"), thresholds=HALF, book=True), "settled, crossing ten@50%"),
        ends={"ten": (5, 0, 0), cap("ten", who="u2"): (5, 0, 0)},
    ),
    case(
        "a rolling window, a limit of 0 and a booking of nothing reach nothing",
        (reserve("r1", 10, cap("roll", 10, window="rolling:60s"), thresholds=HALF, book=True), "settled"),
        (reserve("r2", 0, cap("none", 0), thresholds=HALF), "held"),
        (settle("r2", 1), "settled 1, overrun 1"),
        (reserve("r3", 0, TEN, thresholds=(0, *HALF), book=True), "settled"),
        ends={cap("roll", window="rolling:60s"): (10, 0, 0), "none": (1, 0, 1), "ten": (0, 0, 0)},
    ),
    case(
        "a source tells when it is used up, and only then",
        (
            reserve("r1", 9, TEN, sources=(allowance(6), credit("g1", 5)), thresholds=HALF, book=True),
            "settled, crossing ten@50% included@100%",
        ),
        (
            reserve("r2", 5, sources=(allowance(6), credit("g1", 5)), thresholds=HALF, book=True),
            "settled, crossing g1@100%",
        ),
        ends={"ten": (9, 0, 0), allowance(6): (6, 0, 0), credit("g1", 5): (5, 0, 0)},
    ),
    case(
        "alerts come in pages, by time",
        (reserve("r1", 5, TEN, thresholds=HALF, book=True), "settled, crossing ten@50%"),
        wait(1),
        (reserve("r2", 5, TEN, thresholds=HALF, book=True), "settled, crossing ten@100%"),
        wait(1),
        (reserve("r3", 9, cap("other", 9), thresholds=HALF, book=True), "settled, crossing other@50% other@100%"),
        (Alerts(limit=2), "alerts ten:50%@0 ten:100%@1"),
        (Alerts(limit=2, after=(ms(1), TEN.meter, TEN.period, 1_000_000)), "alerts other:50%@2 other:100%@2"),
        (Alerts(after=(ms(2), cap("other").meter, TEN.period, 500_000)), "alerts other:100%@2"),
        (Alerts(since_ms=ms(1)), "alerts ten:100%@1 other:50%@2 other:100%@2"),
        (Alerts(until_ms=ms(1)), "alerts ten:50%@0"),
        (Alerts(since_ms=ms(1), until_ms=ms(2)), "alerts ten:100%@1"),
        ends={"ten": (10, 0, 0), "other": (9, 0, 0)},
    ),
    *(
        case(
            f"a share of a large limit is exact: {percent}% of {limit}",
            (reserve("r1", mark - 1, cap("large", limit), thresholds=(percent,), book=True), "settled"),
            (
                reserve("r2", 1, cap("large", limit), thresholds=(percent,), book=True),
                f"settled, crossing large@{percent}%",
            ),
            ends={"large": (mark, 0, 0)},
        )
        for limit, percent in ((1_000_001, 50), (10**13, 95), (MAX_AMOUNT, 81), (MAX_AMOUNT - 7, 3))
        for mark in [-(-limit * percent // 100)]
    ),
    case(
        "of several that expire at once each tells of its own meter",
        (reserve("r1", 5, TEN, thresholds=HALF), "held"),
        (reserve("r2", 5, cap("ten", 10, who="u2"), user="u2", thresholds=HALF), "held"),
        (reserve("r3", 9, cap("other", 10), user="u3", thresholds=HALF), "held"),
        wait(70),
        (reserve("r4", 0), "held, crossing ten@50% ten@50% other@50%"),
        ends={"ten": (5, 0, 0), cap("ten", who="u2"): (5, 0, 0), "other": (9, 0, 0)},
    ),
)
