"""What must hold between the fields of one cap. The rules read the cap as written, also where a field is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from capguard.errors import Finding
from capguard.ledger import units
from capguard.ledger.money import MAX_AMOUNT
from capguard.policy.fields import TAG, Action, readable
from capguard.policy.findings import shown

OF_ACTION = {"to": "downgrade", "otherwise": "downgrade", "min_output": "clamp", "max_wait": "throttle"}
"""Fields that mean something for one action only."""

ACTIONS: tuple[str, ...] = get_args(Action)

_WITHOUT_OUTPUT = ("requests", "input_tokens")


def cap_rules(cap: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings between the fields of a cap; places are relative to it."""
    for rule in _RULES:
        yield from rule(cap)


def merged(cap: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`cap` with `change` laid over it; what belongs to an action that is replaced goes with it."""
    changes = {name: value for name, value in change.items() if value is not None}
    action = changes.get("action", cap.get("action", "block"))
    kept = {name: value for name, value in cap.items() if OF_ACTION.get(name, action) == action}
    return kept | changes


def amount_rule(field: str, unit: object, amount: object) -> Iterator[Finding]:
    """An amount fits the ledger, and counts of tokens or requests are whole."""
    number = readable(amount)
    if number is None or not isinstance(unit, str):
        return
    if number > (most := units.shown(unit, MAX_AMOUNT)):
        yield Finding(field, f"{shown(amount)} is more than the ledger counts", f"at most {most} {unit}")
    elif unit in units.COUNTS and number != number.to_integral_value():
        yield Finding(field, f"{shown(amount)} {unit}", "a whole number")


def _limit(cap: Mapping[str, Any]) -> Iterator[Finding]:
    return amount_rule("limit", cap.get("unit", "usd"), cap.get("limit"))


def _action_fields(cap: Mapping[str, Any]) -> Iterator[Finding]:
    action = cap.get("action", "block")
    if action not in ACTIONS:
        return
    for field, owner in OF_ACTION.items():
        if cap.get(field) is not None and action != owner:
            yield Finding(field, f"{field} on action {action!r}", f"{field} only with action = {owner!r}")


def _idle(cap: Mapping[str, Any]) -> Iterator[Finding]:
    window, per = cap.get("window", "monthly"), cap.get("per", ("user",))
    if not isinstance(window, str) or not isinstance(per, (list, tuple)):
        return
    lifetime = window.lower().partition("@")[0] == "lifetime"
    endless = [field for field in per if isinstance(field, str) and (field == "session" or field.startswith(TAG))]
    if lifetime and endless and cap.get("idle") is None:
        found = f"a lifetime cap per {endless[0]} without idle: its meters would never end"
        yield Finding("idle", found, "a duration, as '24h'")
    if not lifetime and cap.get("idle") is not None:
        yield Finding("idle", f"idle on window {window!r}", "idle only with window = 'lifetime'")


def _clamp(cap: Mapping[str, Any]) -> Iterator[Finding]:
    unit = cap.get("unit", "usd")
    if cap.get("action") == "clamp" and unit in _WITHOUT_OUTPUT:
        allowed = "clamp on units that output counts in: usd, billed, tokens, output_tokens or one of [units]"
        yield Finding("action", f"clamp on {unit}, which a lower output limit does not change", allowed)


def _downgrade(cap: Mapping[str, Any]) -> Iterator[Finding]:
    if cap.get("action") != "downgrade":
        return
    unit, match = cap.get("unit", "usd"), cap.get("match")
    model = match.get("model") if isinstance(match, Mapping) else getattr(match, "model", None)
    if unit in units.COUNTS and model is None:
        found = f"downgrade on {unit}, which counts the same on every model"
        yield Finding("action", found, "downgrade on usd, billed or one of [units], or with match = { model = ... }")
    if cap.get("to") is not None and cap.get("to") in (model if isinstance(model, (list, tuple)) else (model,)):
        yield Finding("to", f"{shown(cap['to'])} is the model that this cap matches", "another model")


_RULES: tuple[Callable[[Mapping[str, Any]], Iterator[Finding]], ...] = (
    _limit,
    _action_fields,
    _idle,
    _clamp,
    _downgrade,
)
