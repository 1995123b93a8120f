"""From the ledger's outcomes to events and log lines: what a decision and a booking have to say beside their answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from capguard.events import Event, Observers
from capguard.ledger import units
from capguard.ledger.outcomes import Denied, Held, Outcome, Record, Refused, Revised, Settled, Telling
from capguard.ledger.sources import GRANT, INCLUDED
from capguard.readable import instant

log = logging.getLogger("capguard")

_PPM = 1_000_000
_PASSED = {"warn": "warned", "dry_run": "dry_run", "downgrade": "downgraded", "clamp": "clamped"}
_SAID = {
    "warn": "warns",
    "dry_run": "would have blocked (dry_run)",
    "downgrade": "led to a cheaper model",
    "clamp": "lowered the output limit",
}
_FLAGS = ("unpriced", "uncertain")


def of_reserve(outcome: Outcome, call_id: str, identity: dict[str, str], unknown_plan: str | None) -> Iterator[Event]:
    """What a reserve has to say: the caps that refused, or those that told, steered and clamped."""
    if isinstance(outcome, Denied):
        for miss in outcome.refused:
            yield _of_cap("denied", miss, outcome.now_ms, identity, call_id, outcome.model)
    if not isinstance(outcome, Held) or outcome.replayed:
        return
    made = outcome.record.made
    for miss in outcome.passed:
        event = _of_cap(_PASSED[miss.leg.action], miss, made.created_ms, identity, call_id, made.model)
        unfit = made.facts.get("unfit") if event.name == "downgraded" else None
        yield replace(event, detail={**event.detail, "unfit": tuple(unfit)}) if unfit else event
    if unknown_plan is not None:
        yield _plain("unknown_plan", made.created_ms, outcome.record, plan=unknown_plan)
    yield from _flagged(outcome.record, made.facts.get("flags", ()), made.created_ms)


def of_throttle(outcome: Denied, call_id: str, identity: dict[str, str]) -> Iterator[Event]:
    """That a call begins to wait."""
    for miss in outcome.refused:
        yield _of_cap("throttled", miss, outcome.now_ms, identity, call_id, outcome.model)


def of_settle(outcome: Outcome, flags: Sequence[str], now_ms: int) -> Iterator[Event]:
    """What a booking has to say: how sure it is, what went beyond a limit."""
    if not isinstance(outcome, Settled):
        return
    record = outcome.record
    if outcome.conflict:
        yield _plain("conflict", now_ms, record)
    if outcome.replayed:
        return
    if outcome.late:
        yield _plain("late", now_ms, record)
    for unit, parts in record.overrun.items():
        yield _plain("overrun", now_ms, record, unit=unit, amount=units.shown(unit, parts))
    yield from _flagged(record, flags, now_ms)


def of_crossings(outcome: Outcome, now_ms: int) -> Iterator[Event]:
    """Thresholds that a step crossed by what it booked, the first time in their period, over all processes."""
    for leg, ppm, settled, identity in outcome.crossed if isinstance(outcome, Telling) else ():
        name = {INCLUDED: "included_used_up", GRANT: "grant_used_up"}.get(leg.action, "threshold")
        at = instant(now_ms)
        assert at is not None
        yield Event(
            name=name,
            at=at,
            identity=identity,
            cap=leg.cap,
            scope=json.loads(leg.scope),
            unit=leg.unit,
            amount=units.shown(leg.unit, settled),
            limit=units.shown(leg.unit, leg.limit),
            threshold=Decimal(ppm) / _PPM,
            until=instant(leg.ends),
        )


def of_change(kind: str, revised: Revised, user: str | None, now_ms: int) -> Iterator[Event]:
    """That a policy was published, or a user's profile changed."""
    at = instant(now_ms)
    assert at is not None
    identity = {} if user is None else {"user": user}
    detail = {"change": kind, "revision": revised.revision, "by": revised.by, "why": revised.why}
    yield Event(name="policy_changed", at=at, identity=identity, detail=detail)


def of_backend(change: str, why: str, now_ms: int) -> Iterator[Event]:
    """That the backend does not answer any more, or does again."""
    at = instant(now_ms)
    assert at is not None
    yield Event(name=change, at=at, detail={"why": why})


def tell(observers: Observers, events: Iterator[Event]) -> None:
    """Log what matters to an operator, and tell the observers."""
    for event in events:
        _log(event)
        if observers.listening:
            observers.tell(event)


def _of_cap(name: str, miss: Refused, now_ms: int, identity: dict[str, str], call_id: str, model: str | None) -> Event:
    leg, at = miss.leg, instant(now_ms)
    assert at is not None
    return Event(
        name=name,
        at=at,
        identity=identity,
        call_id=call_id,
        model=model,
        cap=leg.cap,
        scope=json.loads(leg.scope),
        unit=leg.unit,
        amount=units.shown(leg.unit, miss.amount),
        limit=units.shown(leg.unit, leg.limit),
        until=instant(leg.ends),
        reason=miss.reason,
        detail={"settled": units.shown(leg.unit, miss.meter.settled), "held": units.shown(leg.unit, miss.meter.held)},
    )


def _plain(name: str, now_ms: int, record: Record, **detail: Any) -> Event:
    at = instant(now_ms)
    assert at is not None
    told = {key: detail.pop(key) for key in ("unit", "amount") if key in detail}
    made = record.made
    return Event(
        name=name, at=at, identity=made.identity, call_id=record.id, model=made.model, detail=detail, **told
    )  # fmt: skip


def _flagged(record: Record, flags: Sequence[str], now_ms: int) -> Iterator[Event]:
    return (_plain(flag, now_ms, record) for flag in _FLAGS if flag in flags)


def _log(event: Event) -> None:
    """Refusals are the caller's to log; what passed a cap, and what is not sure, would go unseen."""
    if event.name in ("warned", "downgraded", "clamped", "dry_run"):
        action = {told: action for action, told in _PASSED.items()}[event.name]
        level = logging.INFO if event.name == "dry_run" else logging.WARNING
        who = ", ".join(f"{name}={value or 'anonymous'}" for name, value in event.scope.items()) or "everybody"
        log.log(
            level, "capguard: %s: cap %r %s: needs %s of %s %s for %s", event.call_id, event.cap, _SAID[action],
            event.amount, event.limit, event.unit, who,
        )  # fmt: skip
    elif event.name == "unknown_plan":
        log.warning("capguard: plan %r is not in the policy; default_plan holds", event.detail.get("plan"))
