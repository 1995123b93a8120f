"""What is held, booked late, sent twice, lengthened, done in one step: rules 9, 10, 11, 14 and 15."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from capguard import (
    BackendUnavailable,
    CapExceeded,
    CapguardError,
    Guard,
    IdempotencyMismatch,
    IdentityMissing,
    UnknownModel,
)
from capguard.testing import ManualClock
from tests.kit import kinds, last
from tests.promises.conftest import Watched
from tests.promises.kit import ASK, BIG, Opened, cap, caps, listen, meters, refused, spend, state

# rule 9: held and expected

CHAT: dict[str, Any] = {
    "user": "u1",
    "model": "big",
    "messages": [{"role": "user", "content": "Wie heißt der längste Fluss der Welt, und wie lang ist er? " * 20}],
    "max_tokens": 10,
}


def left_alone(guard: Guard, _: ManualClock) -> None:
    with guard.call(**CHAT):
        pass


def timed_out(guard: Guard, _: ManualClock) -> None:
    with suppress(TimeoutError), guard.call(**CHAT):
        raise TimeoutError


def settled_with_nothing(guard: Guard, _: ManualClock) -> None:
    guard.settle(guard.reserve(**CHAT))


def expired(guard: Guard, clock: ManualClock) -> None:
    guard.reserve(**CHAT)
    clock.advance(minutes=10)
    guard.status(user="u1")


@pytest.mark.parametrize("end", [left_alone, timed_out, settled_with_nothing, expired])
def test_rule_9_a_bound_is_held_and_the_expectation_is_booked(
    opened: Opened, clock: ManualClock, end: Callable[[Guard, ManualClock], None]
) -> None:
    """Expiry and unsettled exits book what was expected, not what was held, and say that nobody knows better."""
    guard = opened(caps(cap()))
    probe = guard.reserve(**CHAT)
    assert 0 < probe.expected < probe.held == state(guard).held
    guard.release(probe)
    end(guard, clock)
    assert meters(guard) == {"c": (probe.expected, 0)}
    assert "uncertain" in last(guard).flags


# rule 10: late


def ended_early(guard: Guard, clock: ManualClock, cost: Any = 1) -> Any:
    """A reservation whose time is over and whose expectation is booked."""
    reservation = guard.reserve(user="u1", cost=cost)
    clock.advance(minutes=10)
    guard.status(user="u1")
    assert state(guard).settled == cost
    return reservation


@pytest.mark.parametrize("actual", ["0.2", "1", "1.7"])
def test_rule_10_settle_after_expiry_replaces_the_expectation(opened: Opened, clock: ManualClock, actual: str) -> None:
    """By the actual cost, and once."""
    guard = opened(caps(cap()))
    reservation = ended_early(guard, clock)
    settled = guard.settle(reservation, cost=actual)
    assert (settled.late, settled.cost) == (True, Decimal(actual))
    assert guard.settle(reservation, cost=actual).entry_id == settled.entry_id
    assert meters(guard) == {"c": (Decimal(actual), 0)}
    assert kinds(guard) == ["reserve", "expire", "settle"]


def test_rule_10_settle_after_release_books_in_full(opened: Opened) -> None:
    guard = opened(caps(cap()))
    reservation = guard.reserve(user="u1", cost=1)
    guard.release(reservation)
    assert guard.settle(reservation, cost="0.7").late
    assert meters(guard) == {"c": (Decimal("0.7"), 0)}


def test_rule_10_settle_after_an_expiry_that_booked_nothing(opened: Opened, clock: ManualClock) -> None:
    """With `on_expiry = "release"` there is nothing to replace: in full."""
    guard = opened(caps(cap(), failure={"on_expiry": "release"}))
    reservation = guard.reserve(user="u1", cost=1)
    clock.advance(minutes=10)
    assert meters(guard) == {"c": (0, 0)}
    assert guard.settle(reservation, cost="0.7").late
    assert meters(guard) == {"c": (Decimal("0.7"), 0)}


def test_rule_10_release_after_settle_does_nothing(opened: Opened) -> None:
    guard = opened(caps(cap()))
    reservation = guard.reserve(user="u1", cost=1)
    guard.settle(reservation, cost="0.7")
    guard.release(reservation)
    assert meters(guard) == {"c": (Decimal("0.7"), 0)}
    assert kinds(guard) == ["reserve", "settle"]


@pytest.mark.parametrize(
    ("others", "actual", "overrun"),
    [(0, 2, 0), (1, 2, 0), (1, 3, 1), (2, 2, 1), (3, 1, 0), (3, 3, 2)],
)
def test_rule_10_only_what_is_then_beyond_the_limit_is_overrun(
    opened: Opened, clock: ManualClock, others: int, actual: int, overrun: int
) -> None:
    """$1 expected and booked, `others` spent since, a limit of $3: the correction is judged as things are then."""
    guard = opened(caps(cap(limit=3)))
    reservation = ended_early(guard, clock)
    spend(guard, others)
    before = state(guard).overrun
    assert guard.settle(reservation, cost=actual).overrun == overrun
    assert state(guard).overrun - before == overrun


# rule 11: ids

ONCE: dict[str, Any] = {**ASK, "id": "once"}


def reserving(guard: Guard) -> Any:
    return guard.reserve(**ONCE)


def settling(guard: Guard) -> Any:
    return guard.settle("once", cost="0.5")


@pytest.mark.parametrize("end", ["released", "expired"])
def test_rule_11_a_repeat_of_an_ended_call_is_no_way_past_a_cap(opened: Opened, clock: ManualClock, end: str) -> None:
    """A job's own id, tried again after its first attempt was released or had expired: by now others fill the cap, and
    nothing is held for it. It is refused, or held anew where there is room; it is not waved through."""
    guard = opened(caps(cap(limit=1), failure={"on_expiry": "release"}))
    first = guard.reserve(user="u1", cost=1, id="job-1")
    if end == "released":
        guard.release(first)
    clock.advance(minutes=10)
    guard.reserve(user="u1", cost=1, id="job-2")
    with pytest.raises(CapguardError):
        guard.reserve(user="u1", cost=1, id="job-1")


@pytest.mark.parametrize("hours", [0, 1, 23])
def test_rule_11_exactly_once_for_the_retention(opened: Opened, clock: ManualClock, hours: int) -> None:
    """A reserve and a settle that come again answer as they did, for 24 hours after the end."""
    guard = opened(caps(cap()))
    first, booked = reserving(guard), settling(guard)
    clock.advance(hours=hours)
    again = reserving(guard)
    assert (again.id, again.params, again.expected) == (first.id, first.params, first.expected)
    assert settling(guard) == booked
    assert kinds(guard) == ["reserve", "settle"]


def test_rule_11_a_repeated_reserve_says_what_was_held(opened: Opened) -> None:
    """$0.00201, not the $0.50 that the call came to."""
    guard = opened(caps(cap()))
    first, _ = reserving(guard), settling(guard)
    assert reserving(guard).held == first.held


def test_rule_11_after_the_retention_an_id_is_free(opened: Opened, clock: ManualClock) -> None:
    guard = opened(caps(cap()))
    reserving(guard)
    settling(guard)
    clock.advance(hours=24, milliseconds=1)
    reserving(guard)
    assert kinds(guard) == ["reserve", "settle", "reserve"]


def test_rule_11_an_open_call_is_never_forgotten(opened: Opened, clock: ManualClock) -> None:
    """The retention begins when the call has ended."""
    guard = opened(caps(cap()))
    guard.reserve(**ONCE, ttl=86_400)
    clock.advance(hours=23)
    settling(guard)
    clock.advance(hours=23)
    settling(guard)
    assert kinds(guard) == ["reserve", "settle"]


def test_rule_11_the_fingerprint_is_not_of_estimates(opened: Opened) -> None:
    """The same arguments at another price, under other caps, on another plan: still the same call."""
    guard = opened(None, initial_policy=caps(cap(), plans={"q": {}}))
    first = guard.reserve(**ONCE)
    guard.publish(caps(cap("new"), prices={"big": {"input": 100, "output": 200}}, plans={"q": {}}))
    guard.assign(user="u1", plan="q")
    again = guard.reserve(**ONCE, ttl=5)
    assert (again.held, again.caps) == (first.held, first.caps) == (BIG, ("c",))


@pytest.mark.parametrize(
    "other",
    [{"model": "small"}, {"prompt": "y"}, {"max_tokens": 99}, {"n": 2}, {"user": "u2"}, {"feature": "f"},
     {"max_tokens": None, "max_completion_tokens": 100}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("ended", [False, True], ids=["held", "settled"])
def test_rule_11_other_arguments_under_the_same_id(opened: Opened, other: dict[str, Any], ended: bool) -> None:
    """`IdempotencyMismatch` at reserve; nothing changed."""
    guard = opened(caps(cap()))
    guard.reserve(**ONCE)
    if ended:
        settling(guard)
    before = meters(guard)
    with pytest.raises(IdempotencyMismatch, match="once"):
        guard.reserve(**{**ONCE, **other})
    assert (meters(guard), len(kinds(guard))) == (before, 1 + ended)


def test_rule_11_a_direct_settle_that_differs_raises(opened: Opened) -> None:
    """The first booking stands, and an event tells it."""
    guard = opened(caps(cap()))
    told = listen(guard, "conflict")
    reserving(guard)
    settling(guard)
    with pytest.raises(IdempotencyMismatch, match=r"0\.5 USD, which stands"):
        guard.settle("once", cost="0.6")
    assert (state(guard).settled, [event.call_id for event in told]) == (Decimal("0.5"), ["once"])


def test_rule_11_only_a_direct_settle_that_differs_raises(opened: Opened) -> None:
    """Leaving a block does not: the reply is there already."""
    guard = opened(caps(cap()))
    told = listen(guard, "conflict")
    with guard.call(**ONCE) as call:
        settling(guard)
        call.settle(cost="0.6")
    assert (state(guard).settled, len(told)) == (Decimal("0.5"), 1)


def test_rule_11_minted_ids_carry_their_time(opened: Opened, clock: ManualClock) -> None:
    """Milliseconds since the epoch in the first twelve digits, by the Guard's clock, so that they sort by it."""
    guard = opened(caps(cap()))
    for _ in range(3):
        clock.advance(milliseconds=7)
        ids = [guard.reserve(user="u1", cost=0).id for _ in range(3)]
        assert {int(id[:12], 16) for id in ids} == {clock()}
        assert len(set(ids)) == 3


def test_rule_11_minted_ids_carry_the_time_of_the_system() -> None:
    """Where a Guard has no clock of its own."""
    before = time.time_ns() // 1_000_000
    with Guard("memory://", policy=caps(cap())) as guard:
        assert before <= int(guard.reserve(user="u1", cost=0).id[:12], 16) <= time.time_ns() // 1_000_000


def test_rule_11_a_settle_older_than_the_retention_is_a_dead_letter(opened: Opened, clock: ManualClock) -> None:
    """It is not applied, and not lost either: an entry says what it wanted to book."""
    guard = opened(caps(cap()))
    reservation = guard.reserve(user="u1", cost=1)
    clock.advance(hours=30)
    guard.status(user="u1")
    before = len(kinds(guard))
    clock.advance(hours=30)
    guard.status(user="u1")
    with suppress(CapguardError):
        guard.settle(reservation, cost=4)
    assert state(guard).settled == 1
    assert len(kinds(guard)) == before + 1
    assert (last(guard).id, last(guard).cost) == (reservation.id, 4)


def test_rule_11_a_settle_older_than_the_retention_is_not_applied(opened: Opened, clock: ManualClock) -> None:
    guard = opened(caps(cap()))
    reservation = ended_early(guard, clock)
    clock.advance(hours=25)
    guard.status(user="u1")
    with pytest.raises(LookupError, match="longer ago than the retention"):
        guard.settle(reservation, cost=4)
    assert state(guard).settled == 1


# rule 14: extend


def test_rule_14_absolute_totals(opened: Opened, clock: ManualClock) -> None:
    """`ttl` counts from the reserve, `amount` is the whole hold: said twice, it is there once."""
    guard = opened(caps(cap()))
    reservation = guard.reserve(user="u1", cost=1)
    made = clock.now
    clock.advance(seconds=60)
    for _ in range(2):
        extended = guard.extend(reservation, ttl=600, amount=3)
        assert extended.expires_at is not None
        assert ((extended.expires_at - made).total_seconds(), extended.held) == (600, 3)
    assert meters(guard) == {"c": (0, 3)}


def test_rule_14_never_lowering(opened: Opened) -> None:
    guard = opened(caps(cap()))
    reservation = guard.extend(guard.reserve(user="u1", cost=2, ttl=600), ttl=900, amount=3)
    lowered = guard.extend(reservation, ttl=60, amount=1)
    assert (lowered.expires_at, lowered.held) == (reservation.expires_at, 3)


def test_rule_14_a_raise_that_does_not_fit_changes_nothing(opened: Opened) -> None:
    """Neither the amount nor the time."""
    guard = opened(caps(cap("a", 9), cap("b", 2)))
    reservation = guard.reserve(user="u1", cost=1)
    with pytest.raises(CapExceeded) as caught:
        guard.extend(reservation, ttl=900, amount=3)
    assert [each.id for each in caught.value.caps] == ["b"]
    assert meters(guard) == {"a": (0, 1), "b": (0, 1)}
    assert guard.extend(reservation, amount=1).expires_at == reservation.expires_at


def test_rule_14_after_expiry_it_answers_expired(opened: Opened, clock: ManualClock) -> None:
    guard = opened(caps(cap()))
    reservation = ended_early(guard, clock)
    with pytest.raises(LookupError, match="expired"):
        guard.extend(reservation, ttl=9000)
    assert kinds(guard) == ["reserve", "expire"]


def words(*texts: str) -> Iterator[dict[str, Any]]:
    """Chunks of a stream that then reports 1,000 tokens in and 100 out: $0.012 on "big"."""
    for text in texts:
        yield {"model": "big", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    yield {"model": "big", "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}


def test_rule_14_a_stream_that_outlives_its_hold_settles_late(opened: Opened, clock: ManualClock) -> None:
    """It is never cut and nothing is raised inside it, though others have taken the room by now."""
    guard = opened(caps(cap(limit="0.01")))
    passed = []
    with guard.call(**ASK) as call:
        for chunk in call.stream(words("one", "two", "three")):
            passed.append(chunk)
            if len(passed) == 2:
                clock.advance(minutes=10)
                guard.reserve(user="u1", cost=Decimal("0.01") - BIG)
                assert refused(guard, **ASK).cap.id == "c"
    assert len(passed) == 4
    (settle,) = [entry for entry in guard.entries() if entry.kind == "settle"]
    assert (settle.cost, settle.body["facts"]["late"]) == (Decimal("0.012"), True)


# rule 15: allow


def test_rule_15_one_phase(opened: Opened) -> None:
    """Decided and booked at once: one entry, nothing held, nothing to settle."""
    guard = opened(caps(cap(limit=1)))
    assert guard.allow(user="u1", amount=1)
    assert (kinds(guard), meters(guard)) == (["book"], {"c": (1, 0)})
    assert not guard.allow(user="u1", amount="0.000000001")


def test_rule_15_one_round_trip(watched: Watched) -> None:
    with Guard("watched://", policy=caps(cap(limit=1))) as guard:
        assert guard.allow(user="u1", amount=1)
        assert not guard.allow(user="u1", amount=1)
    assert watched.asked == ["Reserve", "Reserve"]


def test_rule_15_never_downgrades(opened: Opened) -> None:
    """The call passes a cap that steers, and is refused by one that would rather block."""
    guard = opened(caps(cap(limit=0, action="downgrade", to="small")))
    decision = guard.allow(user="u1", model="big", amount=1)
    assert (decision.allowed, decision.model) == (True, "big")
    strict = opened(caps(cap("d", 0, action="downgrade", to="small", otherwise="block")))
    assert not strict.allow(user="u1", model="big", amount=1)


async def test_rule_15_never_throttles(opened: Opened, clock: ManualClock) -> None:
    """It answers at once."""
    guard = opened(caps(cap(limit=1, unit="requests", window="rolling:60s", action="throttle", max_wait=3600)))
    start = clock.now
    assert guard.allow(user="u1", amount=0)
    assert not guard.allow(user="u1", amount=0)
    assert not await guard.aallow(user="u1", amount=0)
    assert clock.now == start


FALSE_FRIENDS: dict[str, tuple[dict[str, Any], dict[str, Any], type[Exception]]] = {
    "no user": ({}, {"amount": 1}, IdentityMissing),
    "no price": ({"failure": {"unknown_model": "deny"}}, {**ASK, "model": "unheard-of"}, UnknownModel),
    "no number": ({}, {"user": "u1", "amount": -1}, ValueError),
    "no such unit": ({}, {"user": "u1", "amount": 1, "unit": "creditz"}, ValueError),
}


@pytest.mark.parametrize("what", FALSE_FRIENDS)
def test_rule_15_falsy_only_for_a_cap(opened: Opened, what: str) -> None:
    """Anything else that keeps a call from being made is raised."""
    policy, call, error = FALSE_FRIENDS[what]
    guard = opened(caps(cap(), **policy))
    with pytest.raises(error):
        guard.allow(**call)


@pytest.mark.parametrize("verb", ["allow", "reserve", "check"])
def test_rule_15_closed_raises(watched: Watched, verb: str) -> None:
    """A backend that is away is no refusal."""
    with Guard("watched://", policy=caps(cap(), failure={"backend": "closed"})) as guard:
        watched.away = {"Reserve", "Check"}
        with pytest.raises(BackendUnavailable):
            getattr(guard, verb)(user="u1", cost=1)
