"""The terms of a grant and of an override, checked, as the backend keeps them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from capguard.arguments import checked_id, mint_id
from capguard.identity import checked_name
from capguard.ledger import units
from capguard.policy.changes import Change
from capguard.policy.document import Cap, CapChange


def grant_terms(
    amount: object,
    unit: str,
    counted: Collection[str],
    *,
    id: str | None,
    until: datetime | None,
    priority: int,
    features: str | Sequence[str],
    models: str | Sequence[str],
) -> dict[str, Any]:
    """A grant of `amount` in `unit`, one of those that are `counted`. Raises ValueError for terms without sense."""
    if checked_name(unit, "unit") not in counted:
        raise ValueError(f"unit: {unit!r:.60} is in no cap and no [units]; allowed: {', '.join(sorted(counted))}")
    terms: dict[str, Any] = {
        "id": mint_id() if id is None else checked_id(id),
        "amount": units.parse(unit, amount, "amount"),
        "unit": unit,
        "until_ms": until_ms(until),
        "priority": _priority(priority),
    }
    if not terms["amount"]:
        raise ValueError("amount: a grant of nothing; allowed: more than 0")
    good_for = {"features": _globs(features, "features"), "models": _globs(models, "models")}
    return terms | {name: globs for name, globs in good_for.items() if globs}


def override_terms(
    cap: str | None, caps: Sequence[Cap], until: datetime | None, fields: dict[str, Any]
) -> list[tuple[Change, dict[str, Any]]]:
    """What an override changes, and how the backend keeps it. Raises ValueError, PolicyError for fields of no cap."""
    if (cap is None) == (not caps):
        raise ValueError("override takes cap=, the id of a cap, with the fields to change, or caps=[Cap(...)]")
    if caps and fields:
        raise ValueError(f"{', '.join(fields)}: with caps=[Cap(...)] every field stands in the Cap")
    if cap is not None and not fields:
        raise ValueError("override: nothing to change; allowed: limit=, action=, window= and the other fields of a cap")
    if not all(isinstance(each, Cap) for each in caps):
        raise ValueError("caps: allowed: a list of Caps")
    wanted: Sequence[Change] = caps or [CapChange(id=checked_name(cap, "cap"), **fields)]
    additional = {"additional": True} if caps else {}
    return [(each, {"cap": _written(each), "until_ms": until_ms(until), **additional}) for each in wanted]


def until_ms(until: datetime | None) -> int | None:
    """An end in milliseconds since the epoch. Raises ValueError for a naive time."""
    if until is None:
        return None
    if not isinstance(until, datetime) or until.utcoffset() is None:
        raise ValueError(f"until: {until!r:.60} is refused; allowed: an aware datetime, as datetime.now(UTC)")
    return int((until - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def _written(change: Change) -> dict[str, Any]:
    return change.model_dump(mode="json", exclude_unset=True)


def _priority(value: object) -> int:
    if type(value) is not int or abs(value) > 1_000_000:
        raise ValueError(f"priority: {value!r:.60} is refused; allowed: a whole number, -1000000 to 1000000")
    return value


def _globs(patterns: str | Sequence[str], what: str) -> list[str]:
    given = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(given, (list, tuple)):
        raise ValueError(f"{what}: {type(given).__name__} is refused; allowed: a pattern, or a list of them")
    return [checked_name(pattern, what) for pattern in given]
