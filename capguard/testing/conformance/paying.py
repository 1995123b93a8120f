"""Short words for what pays and for what is steered: sources, profiles, policies. Times are seconds, as in builders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from capguard.ledger.caps import Leg, meter_key, scope_text
from capguard.ledger.commands import Backfill, Publish, Steer
from capguard.ledger.sources import GRANT, INCLUDED
from capguard.ledger.windows import FOREVER_MS, parse
from capguard.testing.conformance.builders import ms


def allowance(limit: int, *, window: str = "daily", at: float = 0, who: str = "u1") -> Leg:
    """The included allowance of one user, in usd, in the period that is on at `at`."""
    per, values = ("user",), (who,)
    period = parse(window).period(ms(at))
    return Leg(
        meter=meter_key(INCLUDED, "usd", per, window, False, False, values),
        period=period.starts_at_ms,
        limit=limit,
        since=period.since_ms,
        ends=period.ends_at_ms,
        cap=INCLUDED,
        unit="usd",
        action=INCLUDED,
        scope=scope_text(per, values),
    )


def credit(id: str, limit: int, *, until: float | None = None, who: str = "u1") -> Leg:
    """A grant to one user as a source, in usd."""
    per, values = ("user", "grant"), (who, id)
    return Leg(
        meter=meter_key(GRANT, "usd", per, "lifetime", False, False, values),
        period=0,
        limit=limit,
        since=0,
        ends=FOREVER_MS if until is None else ms(until),
        cap=id,
        unit="usd",
        action=GRANT,
        scope=scope_text(per, values),
    )


def give(
    id: str,
    amount: int,
    *,
    until: float | None = None,
    user: str = "u1",
    by: str | None = None,
    used_up: Sequence[str] = (),
) -> Steer:
    """Grant a credit; `used_up` are those that have nothing left."""
    until_ms = None if until is None else ms(until)
    change = {"id": id, "amount": amount, "unit": "usd", "until_ms": until_ms, "priority": 0}
    return Steer(GRANT, user, {**change, "used_up": list(used_up)} if used_up else change, by)


def revoke(id: str, *, user: str = "u1") -> Steer:
    return Steer("revoke", user, {"id": id})


def override(cap: str, limit: int, *, user: str = "u1") -> Steer:
    return Steer("override", user, {"cap": {"id": cap, "limit": limit}, "until_ms": None})


def clear_override(cap: str | None = None, *, user: str = "u1") -> Steer:
    """Take back the override of one cap; None: of all."""
    return Steer("clear_override", user, {} if cap is None else {"cap": cap})


def assign(plan: str | None, *, user: str = "u1") -> Steer:
    return Steer("assign", user, {"plan": plan})


def copied(body: Mapping[str, object], *, user: str = "u1") -> Steer:
    """A whole profile, as it was decided elsewhere."""
    return Steer("profile", user, body)


def publish(
    name: str, *, caps: Sequence[Mapping[str, str]] = (), base: int | None = None, fill: Backfill | None = None
) -> Publish:
    """Put a policy in force that the tables call `name`."""
    document = {"default_plan": name, **({"caps": list(caps)} if caps else {})}
    return Publish(document, base, by="ops", why="a test", backfill=fill)


def backfill(shares: Mapping[Leg, int], *, last: int, since: float = -FOREVER_MS / 2000) -> Backfill:
    """What new meters shall show by the entries up to number `last`, those from `since` on."""
    return Backfill(last, ms(since), tuple(shares), tuple(shares.values()))
