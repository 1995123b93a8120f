"""Guard: the verbs, ids that come twice, the journal, where a Guard comes from, and many callers at once."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from capguard import (
    CapExceeded,
    Guard,
    IdempotencyMismatch,
    PolicyError,
    UnknownReservation,
    Usage,
)
from capguard.testing import ManualClock
from capguard.testing.provider import Served
from tests.kit import CALL, MESSAGES, POLICY, held, kinds, last, spent

Opened = Callable[..., Guard]


class Verbs:
    """The verbs of a Guard, sync or async, as coroutines."""

    def __init__(self, guard: Guard, way: str):
        self._guard = guard
        self._prefix = "a" if way == "async" else ""

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        found = getattr(self._guard, self._prefix + verb)

        async def ask(*args: Any, **named: Any) -> Any:
            answer = found(*args, **named)
            if verb == "entries":
                return [each async for each in answer] if self._prefix else list(answer)
            return await answer if self._prefix else answer

        return ask


@pytest.fixture(params=["sync", "async"])
def verbs(request: pytest.FixtureRequest, opened: Opened) -> Verbs:
    return Verbs(opened(POLICY), request.param)


# the verbs


async def test_reserve_settle(verbs: Verbs, clock: ManualClock):
    """Held until it is settled, at what it cost."""
    reservation = await verbs.reserve(**CALL, ttl=60)
    assert reservation.held >= reservation.expected > 0
    assert (reservation.model, reservation.params) == ("big", {"model": "big", "max_tokens": 100})
    assert (reservation.caps, reservation.decision.allowed) == (("monthly",), True)
    assert reservation.expires_at == clock.now + timedelta(seconds=60)
    assert (await verbs.status(user="u1")).caps["monthly"].held == reservation.held
    settlement = await verbs.settle(reservation, usage=Usage(input_tokens=1000, output_tokens=100))
    assert (settlement.id, settlement.cost, settlement.overrun) == (reservation.id, Decimal("0.012"), 0)
    assert (settlement.late, settlement.conflict) == (False, False)
    entries = await verbs.entries()
    assert [entry.kind for entry in entries] == ["reserve", "settle"]
    assert settlement.entry_id == entries[-1].seq
    assert await verbs.verify()


async def test_release(verbs: Verbs):
    """Nothing was billed; once settled, it stays settled; twice is once."""
    reservation = await verbs.reserve(**CALL)
    assert await verbs.release(reservation) is None
    await verbs.release(reservation.id)
    assert [entry.kind for entry in await verbs.entries()] == ["reserve", "release"]
    settled = await verbs.reserve(**CALL)
    await verbs.settle(settled, cost=1)
    await verbs.release(settled)
    assert (await verbs.status(user="u1")).caps["monthly"].settled == 1


async def test_a_release_that_comes_first(verbs: Verbs):
    """It refuses the reserve that is still on its way."""
    await verbs.release("late")
    with pytest.raises(IdempotencyMismatch, match="released before"):
        await verbs.reserve(**CALL, id="late")
    assert await verbs.entries() == []


async def test_extend(verbs: Verbs, clock: ManualClock):
    """Totals, never lower; a raise that does not fit is refused; what has ended holds nothing to extend."""
    reservation = await verbs.reserve(user="u1", cost=1, ttl=60)
    longer = await verbs.extend(reservation, ttl=600)
    assert (longer.expires_at, longer.held) == (clock.now + timedelta(seconds=600), 1)
    assert (await verbs.extend(reservation.id, ttl=60)).expires_at == longer.expires_at
    assert (await verbs.extend(reservation, amount=2)).held == 2
    assert (await verbs.extend(reservation, amount=1)).held == 2
    with pytest.raises(CapExceeded):
        await verbs.extend(reservation, amount=6)
    assert (await verbs.status(user="u1")).caps["monthly"].held == 2
    clock.advance(seconds=700)
    with pytest.raises(UnknownReservation, match="expired"):
        await verbs.extend(reservation, ttl=900)
    with pytest.raises(UnknownReservation, match="never made"):
        await verbs.extend("nobody", ttl=900)
    with pytest.raises(ValueError, match="extend needs"):
        await verbs.extend(reservation)


async def test_extended_params(verbs: Verbs):
    """What to pass to the provider is still there."""
    reservation = await verbs.reserve(**CALL)
    assert (await verbs.extend(reservation, ttl=600)).params == reservation.params


async def test_check_and_allow(verbs: Verbs):
    """`check` holds nothing, `allow` books at once; a refusal by a cap is an answer."""
    assert (await verbs.check(**CALL)).allowed
    assert await verbs.entries() == []
    assert await verbs.allow(user="u1", cost=5)
    for verb in (verbs.check, verbs.allow):
        refusal = await verb(user="u1", cost=1)
        assert (bool(refusal), [cap.id for cap in refusal.refused]) == (False, ["monthly"])
    assert [entry.kind for entry in await verbs.entries()] == ["book"]


async def test_status(verbs: Verbs, clock: ManualClock):
    """A sequence of caps that also answers to their ids, and plain JSON."""
    await verbs.allow(user="u1", cost="1.25")
    await verbs.reserve(user="u1", cost="0.25")
    status = await verbs.status(user="u1")
    cap = status.caps["monthly"]
    assert (len(status.caps), status.caps[0], "monthly" in status.caps, cap in status.caps) == (1, cap, True, True)
    assert (cap.limit, cap.settled, cap.held, cap.remaining) == (5, Decimal("1.25"), Decimal("0.25"), Decimal("3.5"))
    assert (cap.fraction, cap.action, cap.scope) == (0.3, "block", {"user": "u1"})
    assert (cap.resets_at, status.as_of) == (datetime(2026, 2, 1, tzinfo=UTC), clock.now)
    assert cap.since == datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(KeyError, match="these do: monthly"):
        status.caps["daily"]
    told = json.loads(json.dumps(status.to_dict()))
    assert told["caps"] == [
        {
            "id": "monthly", "scope": {"user": "u1"}, "unit": "usd", "action": "block", "limit": "5",
            "settled": "1.25", "held": "0.25", "remaining": "3.5", "overrun": "0", "fraction": 0.3,
            "since": "2026-01-01T00:00:00+00:00", "resets_at": "2026-02-01T00:00:00+00:00",
        }
    ]  # fmt: skip
    assert (told["identity"], told["plan"], told["as_of"]) == ({"user": "u1"}, None, clock.now.isoformat())


async def test_equal_states(verbs: Verbs):
    """Where nothing has moved, one look is equal to the next, and hashes as it does."""
    first, again = await verbs.status(user="u1"), await verbs.status(user="u1")
    assert (first.caps == again.caps, hash(first.caps) == hash(again.caps), first == again) == (True, True, True)
    await verbs.allow(user="u1", cost=1)
    assert (await verbs.status(user="u1")).caps != first.caps
    assert first.caps != tuple(first.caps)


SINCE: dict[str, datetime | None] = {
    "daily": datetime(2026, 1, 15, tzinfo=UTC),
    "monthly:20": datetime(2025, 12, 20, tzinfo=UTC),
    "rolling:24h": datetime(2026, 1, 14, 12, tzinfo=UTC),
    "lifetime": None,
}


@pytest.mark.parametrize("window", SINCE)
def test_since(opened: Opened, window: str):
    """When what is counted began: the period, or the length of a rolling window."""
    guard = opened({"caps": [{"id": "c", "limit": 1, "window": window}]})
    assert guard.status(user="u1").caps["c"].since == SINCE[window]


async def test_entries(verbs: Verbs, clock: ManualClock):
    """The journal in order: of one user, within [since, until), after a number; page by page."""
    start = clock.now
    for number in range(4):
        await verbs.allow(user=f"u{number % 2}", cost="0.001")
        clock.advance(minutes=1)
    everything = await verbs.entries()
    assert [entry.user for entry in everything] == ["u0", "u1", "u0", "u1"]
    assert [entry.at for entry in everything] == [start + timedelta(minutes=each) for each in range(4)]

    async def found(**filters: Any) -> list[int]:
        return [everything.index(entry) for entry in await verbs.entries(**filters)]

    minute = timedelta(minutes=1)
    assert await found(user="u1") == [1, 3]
    assert await found(since=start + minute) == [1, 2, 3]
    assert await found(until=start + minute) == [0]
    assert await found(since=start + minute, until=start + 3 * minute, user="u0") == [2]
    assert await found(since=(start + minute).astimezone(timezone(timedelta(hours=5)))) == [1, 2, 3]
    assert await found(after=everything[1].seq) == [2, 3]
    assert await found(user="nobody") == await found(since=start + 9 * minute) == []
    line = json.loads(json.dumps(everything[0].to_dict()))
    assert (line["kind"], line["amounts"]["usd"], line["caps"]) == ("book", "0.001", ["monthly"])


def test_more_entries_than_a_page(opened: Opened, monkeypatch: pytest.MonkeyPatch):
    """Every one once, also when the last page is full."""
    monkeypatch.setattr("capguard.answers.PAGE", 3)
    guard = opened(POLICY)
    for count in range(1, 8):
        guard.allow(user="u1", cost=0)
        assert len(list(guard.entries())) == len({entry.seq for entry in guard.entries()}) == count


# ids


async def test_the_same_call_twice_is_one(verbs: Verbs):
    """A retry with its id gets the same reservation, whether it was answered or not."""
    first = await verbs.reserve(**CALL, id="order-1", ttl=60)
    again = await verbs.reserve(**CALL, id="order-1", ttl=90)
    assert (first.id, again) == ("order-1", first)
    assert [entry.kind for entry in await verbs.entries()] == ["reserve"]


@pytest.mark.parametrize(
    "change", [{"user": "u2"}, {"model": "small"}, {"max_tokens": 99}, {"messages": []}, {"n": 2}, {"feature": "x"}]
)
async def test_another_call_under_the_same_id(verbs: Verbs, change: dict[str, Any]):
    """It is refused, and nothing changes."""
    await verbs.reserve(**CALL, id="order-1")
    with pytest.raises(IdempotencyMismatch, match="order-1"):
        await verbs.reserve(**{**CALL, **change}, id="order-1")
    assert len(await verbs.entries()) == 1


@pytest.mark.parametrize("end", ["released", "expired"])
@pytest.mark.parametrize("verb", ["reserve", "allow"])
async def test_an_id_whose_hold_is_gone(verbs: Verbs, clock: ManualClock, verb: str, end: str):
    """Nothing is held for a repeat of it, so it is refused, and nothing changes."""
    first = await verbs.reserve(**CALL, id="order-1", ttl=60)
    if end == "released":
        await verbs.release(first)
    else:
        clock.advance(minutes=5)
        await verbs.status(user="u1")
    before = len(await verbs.entries())
    with pytest.raises(IdempotencyMismatch, match=f"order-1 was .*{end}.*needs an id of its own"):
        await getattr(verbs, verb)(**CALL, id="order-1")
    assert len(await verbs.entries()) == before


async def test_allowed_twice(verbs: Verbs):
    """A repeat is the first decision, and books nothing."""
    for _ in range(2):
        assert await verbs.allow(user="u1", cost=1, id="order-1")
    assert [entry.kind for entry in await verbs.entries()] == ["book"]


async def test_settled_twice(verbs: Verbs):
    """The same again is the first answer; a different one raises, and the first stands."""
    reservation = await verbs.reserve(**CALL)
    first = await verbs.settle(reservation, cost=1)
    assert await verbs.settle(reservation, cost="1.00") == first
    assert await verbs.settle(reservation.id, cost=1) == first
    with pytest.raises(IdempotencyMismatch, match="settled before at 1 USD"):
        await verbs.settle(reservation, cost=2)
    assert (await verbs.status(user="u1")).caps["monthly"].settled == 1


async def test_an_unknown_id(verbs: Verbs):
    """It says so, and nothing is booked."""
    with pytest.raises(UnknownReservation, match="never made"):
        await verbs.settle("nobody", cost=1)
    assert await verbs.entries() == []


DEAD: dict[str, tuple[Callable[[Any], Any], dict[str, Any], str | None]] = {
    "a reservation at its usage": (lambda held: held, {"usage": Usage(input_tokens=1000, output_tokens=100)}, "0.012"),
    "a reservation as expected": (lambda held: held, {}, "expected"),
    "an id at a cost": (lambda held: held.id, {"cost": "0.5"}, "0.5"),
    "an id at a usage that names its model": (
        lambda held: held.id,
        {"usage": Usage(model="big", input_tokens=1000, output_tokens=100)},
        "0.012",
    ),
    "an id of which nothing is said": (lambda held: held.id, {}, None),
}


@pytest.mark.parametrize("case", DEAD)
async def test_a_settle_of_a_forgotten_id(verbs: Verbs, clock: ManualClock, case: str):
    """It is not booked; an entry keeps what it came to, once, where that was said, and the books are right."""
    named, said, cost = DEAD[case]
    reservation = await verbs.reserve(**CALL)
    await verbs.release(reservation)
    clock.advance(hours=25)
    await verbs.status(user="u1")  # forgets it
    kept = "entry 3 keeps what was to be booked" if cost else "retention$"
    for match in (kept, "retention$"):
        with pytest.raises(UnknownReservation, match=match):
            await verbs.settle(named(reservation), **said)
    letters = [(entry.id, entry.cost) for entry in await verbs.entries() if entry.kind == "dead_letter"]
    booked = reservation.expected if cost == "expected" else Decimal(cost or 0)
    assert letters == ([(reservation.id, booked)] if cost else [])
    assert (await verbs.status(user="u1")).caps["monthly"].settled == 0
    assert (await verbs.report()).total.calls == 0
    assert await verbs.verify()


def test_an_id_is_forgotten_after_its_retention(opened: Opened, clock: ManualClock):
    """A day after it ended, it may be used again."""
    guard = opened(POLICY)
    guard.settle(guard.reserve(**CALL, id="order-1"), cost=1)
    clock.advance(hours=25)
    guard.reserve(user="u2", cost=0)
    with pytest.raises(UnknownReservation):
        guard.settle("order-1", cost=1)
    assert guard.reserve(user="u9", cost=1, id="order-1").held == 1


def test_a_block_whose_call_was_settled_before(opened: Opened, caplog: pytest.LogCaptureFixture):
    """The same id, called again at another cost: the first booking stands, and the log says it."""
    guard = opened(POLICY)
    for cost in (1, 2):
        with guard.call(**CALL, id="order-1") as call:
            call.settle(cost=cost)
    assert spent(guard) == 1
    assert "order-1 was settled before" in caplog.text


def test_a_block_whose_call_is_forgotten(opened: Opened, clock: ManualClock, caplog: pytest.LogCaptureFixture):
    """A stream of days: no reservation to book it on; the reply is given, and the log says that a cost was lost."""
    guard = opened(POLICY)
    with guard.call(**CALL) as call:
        clock.advance(hours=1)
        guard.reserve(user="u2", cost=0)
        clock.advance(hours=25)
        guard.reserve(user="u2", cost=0)
        call.settle(cost=1)
    assert "is not booked" in caplog.text


# other processes, other ledgers


def test_settled_by_its_bare_id_from_another_guard(tmp_path: Path, clock: ManualClock):
    """Another process knows the id only: at the rates that the reserve was made at."""
    url = f"sqlite:///{tmp_path}/ledger.db?timeout=30"
    other_prices = {"prices": {"big": {"input": 500, "output": 500}}}
    with Guard(url, policy=POLICY, clock=clock) as one, Guard(url, policy=other_prices, clock=clock) as other:
        reservation = one.reserve(**CALL)
        settlement = other.settle(reservation.id, usage=Usage(input_tokens=1000, output_tokens=100))
        assert (settlement.cost, spent(one)) == (Decimal("0.012"), Decimal("0.012"))
        second = one.reserve(**CALL)
        other.release(second.id)
        assert held(one) == 0
        assert one.verify()


def test_namespaces_keep_products_apart(tmp_path: Path, clock: ManualClock):
    """One place, two ledgers; a name that would leave it is refused."""
    url = f"sqlite:///{tmp_path}/ledger.db?timeout=30"
    with (
        Guard(url, policy=POLICY, clock=clock) as default,
        Guard(url, policy=POLICY, namespace="shop", clock=clock) as shop,
        Guard(url, policy=POLICY, namespace="shop", clock=clock) as again,
    ):
        shop.allow(user="u1", cost=5)
        assert (spent(default), spent(shop), spent(again)) == (0, 5, 5)
    for wrong in ("", "../up", "a b", "x" * 65, "ü"):
        with pytest.raises(ValueError, match="namespace"):
            Guard(url, policy=POLICY, namespace=wrong)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "allowed"),
        ("postgres://localhost/x", "postgres"),
        ("sqlite://ledger.db", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:///x.db?mode=fast", "mode"),
        ("sqlite:///x.db?timeout=soon", "timeout"),
        ("sqlite:///x.db?synchronous=off", "synchronous"),
    ],
)
def test_a_wrong_url(url: str, said: str):
    """It says which are allowed."""
    with pytest.raises(ValueError, match=said):
        Guard(url, policy={})


def test_a_place_that_cannot_be_written(tmp_path: Path):
    """It is said at once: no ledger can ever be there."""
    with pytest.raises(ValueError, match=r"nowhere"):
        Guard(f"sqlite:///{tmp_path}/nowhere/ledger.db", policy=POLICY)


def test_a_repr_tells_where_it_is_and_no_secret(opened: Opened):
    """A Guard, a reservation and an entry in a log show no prompt."""
    guard = opened(POLICY)
    reservation = guard.reserve(**{**CALL, "messages": [{"role": "user", "content": "my secret"}]})
    told = f"{guard!r} {reservation!r} {last(guard)!r} {guard.status(user='u1')!r}"
    assert "secret" not in told
    assert repr(guard).startswith("Guard('")


def test_prompts_are_not_kept(opened: Opened):
    """Neither in the journal nor beside it."""
    guard = opened(POLICY)
    with guard.call(**{**CALL, "messages": [{"role": "user", "content": "my secret"}]}, id="order-1") as call:
        call.settle(cost=1)
    assert all("secret" not in json.dumps(dict(entry.body)) for entry in guard.entries())


# where a Guard comes from


def test_from_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """CAPGUARD_URL and CAPGUARD_POLICY; without a policy, an error that names it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PolicyError, match="CAPGUARD_POLICY"):
        Guard.from_env()
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"caps": [{"id": "monthly", "limit": 5}]}))
    monkeypatch.setenv("CAPGUARD_POLICY", str(policy))
    monkeypatch.setenv("CAPGUARD_URL", f"sqlite:///{tmp_path}/ledger.db?timeout=30")
    with Guard.from_env() as guard:
        assert guard.reserve(user="u1", cost=1).caps == ("monthly",)
    assert (tmp_path / "ledger.db").exists()
    monkeypatch.delenv("CAPGUARD_URL")
    with Guard.from_env() as guard:
        assert guard.reserve(user="u1", cost=1).caps == ("monthly",)
    assert (tmp_path / "capguard.db").exists()
    monkeypatch.setenv("CAPGUARD_POLICY", str(tmp_path / "none.toml"))
    with pytest.raises(PolicyError, match=r"none\.toml"):
        Guard.from_env()


@pytest.mark.parametrize("policy", [None, 5, "caps", {"cap": []}, {"caps": [{"id": "m"}]}, [{"limit": 5}]])
def test_a_wrong_policy(policy: Any):
    """Refused with every finding, before any backend is opened."""
    with pytest.raises(PolicyError):
        Guard("memory://", policy=policy)


@pytest.mark.parametrize("value", ["1", "true", " YES "])
def test_disabled(opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str):
    """CAPGUARD_DISABLED: every call passes, nothing is kept, and the log says so."""
    monkeypatch.setenv("CAPGUARD_DISABLED", value)
    guard = opened({"caps": [{"id": "none", "limit": 0}, {"id": "org", "limit": 0, "per": ["org"], "required": True}],
                    "failure": {"unknown_model": "deny"}})  # fmt: skip
    (record,) = caplog.records
    assert (record.levelno, "CAPGUARD_DISABLED" in record.getMessage()) == (logging.WARNING, True)
    for call in (CALL, {"cost": 1}, {**CALL, "model": "nobody-knows-it"}, {**CALL, "plan": "gold"}):
        with guard.call(**call) as entered:
            entered.settle(cost=9)
        assert guard.allow(**call)
        assert guard.check(**call)
        guard.release(guard.reserve(**call))
        assert guard.settle(guard.reserve(**call), cost=9).cost == 9
    assert list(guard.entries()) == []
    assert guard.verify()


@pytest.mark.parametrize("value", ["", "0", "false", "no"])
def test_not_disabled(opened: Opened, monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("CAPGUARD_DISABLED", value)
    guard = opened([{"id": "none", "limit": 0}])
    with pytest.raises(CapExceeded):
        guard.reserve(user="u1", cost=1)


# many at once


ROOM_FOR_FOUR = {**POLICY, "caps": [{"id": "four", "limit": 4}, {"id": "all", "limit": 100, "per": []}]}


def test_fifty_threads_and_room_for_four(opened: Opened, fake: Served, oai: openai.OpenAI):
    """Exactly four reach the provider, however they race."""
    guard = opened(ROOM_FOR_FOUR)
    start = threading.Barrier(50)
    ends: list[str] = []

    def ask() -> None:
        start.wait()
        try:
            with guard.call(user="u1", model="big", cost=1) as call:
                oai.chat.completions.create(messages=MESSAGES, model="big", max_tokens=5)
                call.settle(cost=1)
            ends.append("served")
        except CapExceeded as error:
            ends.append(error.reason)

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (fake.provider.calls, ends.count("served"), len(ends)) == (4, 4, 50)
    assert (spent(guard, "four"), spent(guard, "all"), held(guard, "four")) == (4, 4, 0)


async def test_fifty_tasks_and_room_for_four(opened: Opened, fake: Served, aoai: openai.AsyncOpenAI):
    """The same in one event loop."""
    guard = opened(ROOM_FOR_FOUR)

    async def ask() -> str:
        try:
            async with guard.call(user="u1", model="big", cost=1) as call:
                await aoai.chat.completions.create(messages=MESSAGES, model="big", max_tokens=5)
                call.settle(cost=1)
        except CapExceeded as error:
            return error.reason
        return "served"

    ends = await asyncio.gather(*(ask() for _ in range(50)))
    assert (fake.provider.calls, ends.count("served")) == (4, 4)
    assert (spent(guard, "four"), held(guard, "four")) == (4, 0)


def test_one_guard_in_many_event_loops(opened: Opened):
    """`asyncio.run` twice, and in threads."""
    guard = opened({**POLICY, "caps": [{"id": "monthly", "limit": 100}]})

    async def ask() -> None:
        async with guard.call(user="u1", cost=1) as call:
            call.settle(cost=1)

    for _ in range(2):
        asyncio.run(ask())
    threads = [threading.Thread(target=lambda: asyncio.run(ask())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (spent(guard), kinds(guard).count("settle")) == (6, 6)


async def test_a_guard_is_a_context_manager(url: str):
    """Sync and async; closed, holds stay in the ledger."""
    async with Guard(url, policy=POLICY) as guard:
        await guard.areserve(**CALL)
        guard.flush()
        await guard.aflush()
    with Guard(url, policy=POLICY) as again:
        assert (held(again) > 0) == url.startswith("sqlite")
