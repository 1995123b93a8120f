"""What the state machine draws: few ids, few caps, small amounts, so that everything meets everything."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import Any, Literal, NamedTuple

from hypothesis import strategies as st

from capguard.ledger.caps import Action, Leg
from capguard.ledger.commands import Candidate, Extend, Publish, Release, Reserve, Scale, Steer
from capguard.ledger.outcomes import NEVER, Revised
from capguard.testing.conformance.builders import cap, extend, mint, model, release, reserve_one_of, seconds
from capguard.testing.conformance.paying import (
    allowance,
    assign,
    clear_override,
    credit,
    give,
    override,
    publish,
    revoke,
)


class Sort(NamedTuple):
    """A cap of the catalogue. Its meter has one limit only, so that the limit can be asserted."""

    id: str
    limit: int
    action: Action
    window: str = "daily"
    unit: str = "usd"
    otherwise: Literal["pass", "block"] = "pass"
    overage_only: bool = False
    ignore_grants: bool = False
    min_output: int = 0
    idle: int = 0


SORTS = (
    Sort("hard", 30, "block"),
    Sort("tight", 12, "block", "lifetime"),
    Sort("hourly", 18, "clamp", "hourly", min_output=2),
    Sort("narrow", 24, "clamp", unit="tokens", min_output=3),
    Sort("run", 16, "block", "lifetime", idle=45),
    Sort("roll", 20, "block", "rolling:60s"),
    Sort("slow", 15, "throttle", "rolling:120s"),
    Sort("words", 40, "block", unit="tokens"),
    Sort("overage", 14, "block", "rolling:60s", overage_only=True),
    Sort("ungranted", 18, "block", ignore_grants=True),
    Sort("unpaid", 9, "throttle", overage_only=True, ignore_grants=True),
    Sort("notice", 5, "warn"),
    Sort("dry", 8, "dry_run", "rolling:300s"),
    Sort("cheaper", 10, "downgrade"),
    Sort("strict", 14, "downgrade", otherwise="block"),
)
ROLLING = tuple(sort for sort in SORTS if sort.window.startswith("rolling") and sort.action != "dry_run")
PEOPLE = ("u1", "u2")
IDS = st.sampled_from([*(f"r{n}" for n in range(40)), mint(1), mint(2, at=4000)])
USERS = st.sampled_from(PEOPLE)
COSTS = st.fixed_dictionaries({"usd": st.integers(0, 16) | st.integers(6, 16)}, optional={"tokens": st.integers(0, 30)})
SCALES = st.builds(
    Scale,
    st.integers(4, 20),
    st.fixed_dictionaries({"usd": st.integers(0, 5), "tokens": st.integers(0, 8)}),
    st.fixed_dictionaries({"usd": st.integers(300, 1500), "tokens": st.integers(500, 1500)}),
)
WAITS = st.sampled_from([0.5, 0.5, 1, 1, 5, 5, 29, 31, 31, 61, 61, 400, 3600, 12 * 3600, 50 * 3600, -1, -40])
TURNS = (
    ("reserve",) * 4
    + ("settle",) * 4
    + ("extend",) * 2
    + ("wait",) * 3
    + ("release", "again", "steer", "steer", "read")
)
THRESHOLDS = st.sampled_from([(), (50, 100), (80,)])


class Known(NamedTuple):
    """From what a process builds its commands."""

    now: float
    profiles: Mapping[str, Revised]
    policy: int


@st.composite
def reserves(draw: Any, known: Known, *, book: bool) -> Reserve:
    """A reserve of 2 to 6 caps and 1 to 3 models, built for now, mostly, and from what is known."""
    user, (now, profiles, policy) = draw(USERS), known
    profile = profiles.get(user, NEVER)
    sorts = draw(st.lists(st.sampled_from(SORTS), min_size=2, max_size=6, unique=True))
    count = draw(st.sampled_from([1, 1, 2, 3]))
    sources = draw(st.sampled_from([(), *[sources_of(user, profile, now)] * 3]))
    candidates = [draw(candidate(number, count, sorts, sources, user, now)) for number in range(count)]
    return reserve_one_of(
        draw(IDS),
        *candidates,
        arguments=draw(st.sampled_from(["same", "same", "same", "others"])),
        user=user,
        valid=draw(st.sampled_from([(floor(now), floor(now) + 1)] * 20 + [(now - 2, now), (now + 1, now + 2)])),
        ttl=draw(st.sampled_from([30, 90])),
        grace=draw(st.sampled_from([0, 10])),
        retention=draw(st.sampled_from([60, 600, 600])),
        on_expiry=draw(st.sampled_from(["charge_expected", "release"])),
        book=book,
        profile=max(0, profile.revision + draw(st.sampled_from([0] * 20 + [-1, 1]))),
        policy=draw(st.sampled_from([None, policy] * 8 + [policy + 1])),
        thresholds=draw(THRESHOLDS),
        waits=draw(st.booleans()),
    )


@st.composite
def candidate(
    draw: Any, number: int, count: int, sorts: list[Sort], sources: tuple[Leg, ...], user: str, now: float
) -> Candidate:
    """Model `number` of `count`. A downgrade cap may lead to any later one; each has some of the caps."""
    amount = draw(COSTS | SCALES)
    held = amount.at(amount.output) if isinstance(amount, Scale) else amount
    expected = {unit: draw(st.integers(0, amount)) for unit, amount in held.items()}
    legs = [draw(leg(sort, number, count, user, now)) for sort in sorts if number == 0 or draw(st.booleans())]
    return model(f"m{number}", amount, *legs, expected=expected, sources=sources)


@st.composite
def leg(draw: Any, sort: Sort, number: int, count: int, user: str, now: float) -> Leg:
    step = draw(st.integers(-1, count)) if sort.action == "downgrade" and number + 1 < count else -1
    return leg_of(sort, user, now, step)


def leg_of(sort: Sort, user: str, now: float, step: int = -1) -> Leg:
    fields = sort._asdict()
    return cap(fields.pop("id"), fields.pop("limit"), fields.pop("action"), **fields, at=now, who=user, step=step)


def sources_of(user: str, profile: Revised, now: float) -> tuple[Leg, ...]:
    """What may pay for a call now: an allowance for everybody, then the user's grants."""
    grants = [grant for grant in profile.body.get("grants", ()) if "revoked_ms" not in grant]
    ends = [None if grant["until_ms"] is None else seconds(grant["until_ms"]) for grant in grants]
    credits = [
        credit(grant["id"], grant["amount"], until=end, who=user)
        for grant, end in zip(grants, ends, strict=True)
        if end is None or now < end
    ]
    return allowance(9, at=now, who=user), *credits


@st.composite
def second_phase(draw: Any, verb: str, id: str) -> Release | Extend:
    """A release or an extension of one call."""
    if verb == "extend":
        return extend(id, ttl=draw(st.none() | st.integers(1, 300)), amount=draw(st.none() | COSTS))
    return release(id, draw(st.sampled_from([60, 600])))


@st.composite
def steers(draw: Any, now: float) -> Steer | Publish:
    """A policy, or a change of a profile: mostly a grant, of which there are two, one of them for some time."""
    user = draw(USERS)
    until = draw(st.sampled_from([None, 5, 60, 500]))
    changes = [
        give("g1", draw(st.integers(5, 7)), user=user),
        give("g2", 4, until=None if until is None else floor(now) + until, user=user),
        revoke(draw(st.sampled_from(["g1", "g2"])), user=user),
        override(draw(st.sampled_from(["hard", "roll"])), draw(st.integers(1, 2)), user=user),
        clear_override(draw(st.sampled_from([None, "hard"])), user=user),
        assign(draw(st.sampled_from([None, "free", "pro"])), user=user),
        publish(draw(st.sampled_from(["a", "b"])), base=draw(st.sampled_from([None, 0, 1]))),
    ]
    return draw(st.sampled_from([*changes[:2], *changes]))  # type: ignore[no-any-return]
