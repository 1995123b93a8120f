"""What the state machine draws: few ids, few caps, small amounts, so that everything meets everything."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from hypothesis import strategies as st

from capguard.ledger.caps import Action, Leg
from capguard.ledger.commands import Candidate, Reserve
from capguard.testing.conformance.builders import cap, model, reserve_one_of


class Sort(NamedTuple):
    """A cap of the catalogue. Its meter has one limit only, so that the limit can be asserted."""

    id: str
    limit: int
    action: Action
    window: str = "daily"
    unit: str = "usd"
    otherwise: Literal["pass", "block"] = "pass"


SORTS = (
    Sort("hard", 30, "block"),
    Sort("tight", 12, "block", "lifetime"),
    Sort("hourly", 25, "clamp", "hourly"),
    Sort("roll", 20, "block", "rolling:60s"),
    Sort("slow", 15, "throttle", "rolling:120s"),
    Sort("words", 40, "block", unit="tokens"),
    Sort("notice", 5, "warn"),
    Sort("dry", 8, "dry_run", "rolling:300s"),
    Sort("cheaper", 10, "downgrade"),
    Sort("strict", 14, "downgrade", otherwise="block"),
)
ROLLING = frozenset(sort.id for sort in SORTS if sort.window.startswith("rolling"))
IDS = st.sampled_from([f"r{n}" for n in range(12)])
USERS = st.sampled_from(["u1", "u2"])
COSTS = st.fixed_dictionaries({"usd": st.integers(0, 16)}, optional={"tokens": st.integers(0, 30)})


@st.composite
def reserves(draw: Any, now: float, *, book: bool) -> Reserve:
    """A reserve built for about now, with 1 to 4 caps and 1 to 3 models."""
    user = draw(USERS)
    sorts = draw(st.lists(st.sampled_from(SORTS), min_size=1, max_size=4, unique=True))
    count = draw(st.sampled_from([1, 1, 2, 3]))
    candidates = [draw(candidate(number, count, sorts, user, now)) for number in range(count)]
    return reserve_one_of(
        draw(IDS),
        *candidates,
        arguments=draw(st.sampled_from(["same", "same", "same", "others"])),
        user=user,
        valid=draw(st.sampled_from([None] * 8 + [(now - 1, now + 1), (now - 2, now), (now + 1, now + 2)])),
        ttl=draw(st.sampled_from([30, 90])),
        grace=draw(st.sampled_from([0, 10])),
        retention=draw(st.sampled_from([60, 600])),
        on_expiry=draw(st.sampled_from(["charge_expected", "release"])),
        book=book,
    )


@st.composite
def candidate(draw: Any, number: int, count: int, sorts: list[Sort], user: str, now: float) -> Candidate:
    """Model `number` of `count`. A downgrade cap may lead to any later one; each has some of the caps."""
    held = draw(COSTS)
    expected = {unit: draw(st.integers(0, amount)) for unit, amount in held.items()}
    legs = [draw(leg(sort, number, count, user, now)) for sort in sorts if number == 0 or draw(st.booleans())]
    return model(f"m{number}", held, *legs, expected=expected)


@st.composite
def leg(draw: Any, sort: Sort, number: int, count: int, user: str, now: float) -> Leg:
    step = draw(st.integers(-1, count)) if sort.action == "downgrade" and number + 1 < count else -1
    return cap(
        sort.id,
        sort.limit,
        sort.action,
        window=sort.window,
        at=now,
        who=user,
        unit=sort.unit,
        step=step,
        otherwise=sort.otherwise,
    )
