"""Short words for commands, so that a case reads as a table. Times are seconds after the start of the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from capguard.ledger.caps import Action, Amounts, CapRule, Leg
from capguard.ledger.commands import (
    Candidate,
    Check,
    Extend,
    Journal,
    Look,
    OnExpiry,
    Release,
    Reserve,
    Scale,
    Settle,
)
from capguard.ledger.ids import minted
from capguard.ledger.windows import FOREVER_MS, parse, resets_at
from capguard.testing.clock import ManualClock

START_MS = ManualClock()()
TTL, GRACE, RETENTION = 60, 10, 3600
"""Seconds: how long a hold lives, how long it still counts after that, how long an ended id is remembered."""


def ms(at: float) -> int:
    """An instant of the ledger's clock."""
    return START_MS + round(at * 1000)


def seconds(at_ms: int) -> float:
    """An instant of the ledger's clock, as the tables write it."""
    return (at_ms - START_MS) / 1000


def cap(
    id: str,
    limit: int = 100,
    action: Action = "block",
    *,
    window: str = "daily",
    at: float = 0,
    who: str | tuple[str, ...] = "u1",
    unit: str = "usd",
    step: int = -1,
    otherwise: Literal["pass", "block"] = "pass",
    overage_only: bool = False,
    ignore_grants: bool = False,
    min_output: int = 0,
    max_wait: int = 30,
    idle: int = 0,
) -> Leg:
    """The leg of a cap for one identity, in the period that is on at `at`."""
    values = (who,) if isinstance(who, str) else who
    per = ("user", "team", "feature")[: len(values)]
    rule = CapRule(id, unit, limit, per, parse(window), action, overage_only=overage_only, ignore_grants=ignore_grants)
    period = rule.window.period(ms(at))
    ends = resets_at(rule.window, ms(at))
    return Leg(
        meter=rule.meter(values),
        period=period.starts_at_ms,
        limit=limit,
        since=period.since_ms,
        ends=FOREVER_MS if ends is None else ends,
        cap=id,
        unit=unit,
        action=action,
        scope=rule.scope(values),
        step=step,
        otherwise=otherwise,
        overage_only=overage_only,
        ignore_grants=ignore_grants,
        min_output=min_output,
        max_wait_ms=max_wait * 1000,
        idle_ms=idle * 1000,
    )


def model(
    name: str | None,
    amount: int | Amounts | Scale,
    *legs: Leg,
    expected: int | Amounts | None = None,
    sources: Sequence[Leg] = (),
) -> Candidate:
    """A model that may serve. An amount that is a number is in usd; what is expected is what is held, unless said.

    With a scale for an amount the output limit may be lowered.
    """
    scale = amount if isinstance(amount, Scale) else None
    held = amount.at(amount.output) if isinstance(amount, Scale) else amounts_of(amount)
    likely = held if expected is None else amounts_of(expected)
    return Candidate(name, held, likely, legs, {"model": name}, tuple(sources), scale)


def reserve(
    id: str,
    amount: int | Amounts | Scale,
    *legs: Leg,
    expected: int | Amounts | None = None,
    sources: Sequence[Leg] = (),
    **options: Any,
) -> Reserve:
    """A reserve of one model. Options as in `reserve_one_of`."""
    return reserve_one_of(id, model("big", amount, *legs, expected=expected, sources=sources), **options)


def reserve_one_of(
    id: str,
    *candidates: Candidate,
    arguments: str = "same",
    user: str | None = "u1",
    valid: tuple[float, float] | None = None,
    ttl: int = TTL,
    grace: int = GRACE,
    retention: int = RETENTION,
    on_expiry: OnExpiry = "charge_expected",
    book: bool = False,
    profile: int = 0,
    policy: int | None = None,
    thresholds: Sequence[int] = (),
    waits: bool = False,
) -> Reserve:
    """A reserve over several models.

    `valid` is the span for which it was built, in seconds; None: always. `thresholds` are in percent of the limits.
    """
    since, until = (0, FOREVER_MS) if valid is None else (ms(valid[0]), ms(valid[1]))
    return Reserve(
        id=id,
        fingerprint=arguments,
        candidates=candidates,
        identity={} if user is None else {"user": user},
        valid_from=since,
        valid_until=until,
        ttl_ms=ttl * 1000,
        grace_ms=grace * 1000,
        retention_ms=retention * 1000,
        on_expiry=on_expiry,
        facts={"how": "given"},
        book=book,
        profile=profile,
        policy=policy,
        thresholds=tuple(percent * 10_000 for percent in thresholds),
        waits=waits,
    )


def check(amount: int | Amounts | Scale, *legs: Leg, **options: Any) -> Check:
    """Ask only."""
    return Check(reserve("asked", amount, *legs, **options))


def settle(id: str, amount: int | Amounts, retention: int = RETENTION) -> Settle:
    return Settle(id, amounts_of(amount), {"how": "given"}, retention * 1000)


def mint(name: int, at: float = 0) -> str:
    """An id that was minted at `at` seconds."""
    return minted(ms(at), name.to_bytes(10))


def release(id: str, retention: int = RETENTION) -> Release:
    return Release(id, retention * 1000)


def extend(id: str, *, ttl: int | None = None, amount: int | Amounts | None = None) -> Extend:
    return Extend(id, None if ttl is None else ttl * 1000, None if amount is None else amounts_of(amount))


def look(*legs: Leg) -> Look:
    return Look(legs)


def journal(*, since: float | None = None, until: float | None = None, **page: Any) -> Journal:
    """One page of the journal, `since` and `until` in seconds."""
    return Journal(since_ms=None if since is None else ms(since), until_ms=None if until is None else ms(until), **page)


def amounts_of(amount: int | Amounts) -> Mapping[str, int]:
    return {"usd": amount} if isinstance(amount, int) else dict(amount)
