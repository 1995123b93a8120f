"""A document seen from above: its scopes, names and references, read as written and never trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import BaseModel

from capguard.policy.base import written
from capguard.policy.caprules import merged
from capguard.policy.fields import readable
from capguard.policy.findings import indexed, joined, place_of


@dataclass(frozen=True)
class Row:
    """One cap as written, and where it stands."""

    place: str
    cap: Mapping[str, Any]

    @property
    def id(self) -> str | None:
        return name if isinstance(name := self.cap.get("id"), str) else None


@dataclass(frozen=True)
class Scope:
    """Where caps stand together: everybody's, a plan's, a user's."""

    place: str
    rows: tuple[Row, ...]
    plan: object = None  # of a user the one that is named, of a plan itself
    included: Mapping[str, Any] | None = None
    is_user: bool = False


@dataclass(frozen=True)
class Outline:
    """The scopes and names of a document."""

    everybody: Scope
    plans: Mapping[str, Scope]
    users: tuple[Scope, ...]
    default_plan: object
    downgrade: Mapping[str, str]
    units: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            everybody=Scope("", _rows(data, "")),
            plans={
                name: _scope({**_table(plan), "plan": name}, ["plans", name])
                for name, plan in _table(data.get("plans")).items()
            },
            users=tuple(
                replace(_scope(_table(user), ["users", name]), is_user=True)
                for name, user in _table(data.get("users")).items()
            ),
            default_plan=data.get("default_plan"),
            downgrade={key: to for key, to in _table(data.get("downgrade")).items() if isinstance(to, str)},
            units={name: _table(models) for name, models in _table(data.get("units")).items()},
        )

    @property
    def scopes(self) -> tuple[Scope, ...]:
        return (self.everybody, *self.plans.values(), *self.users)

    def plans_for(self, scope: Scope) -> list[Scope]:
        """The plans that may meet the caps of `scope`: a plan itself, the plan of a user, else all."""
        if isinstance(scope.plan, str):
            return [self.plans[scope.plan]] if scope.plan in self.plans else []
        return list(self.plans.values())

    def funding_units(self, scope: Scope) -> set[str]:
        """The units in which the plans that may meet `scope` are funded: that of their included, else usd."""
        units = [(plan.included or {}).get("unit", "usd") for plan in self.plans_for(scope)]
        return {unit for unit in units if isinstance(unit, str)} if units else {"usd"}

    def overridden(self, scope: Scope, row: Row) -> list[Mapping[str, Any]]:
        """The caps that `row` of a user changes: of the plan that is named, else of every plan."""
        if not scope.is_user or row.id is None:
            return []
        return [base.cap for plan in self.plans_for(scope) for base in plan.rows if base.id == row.id]

    def caps(self) -> Iterator[tuple[Scope, Row, Mapping[str, Any]]]:
        """Every cap as it will hold, with its scope and its row: those of users laid over the ones they change."""
        for scope in self.scopes:
            for row in scope.rows:
                bases = self.overridden(scope, row)
                yield from ((scope, row, merged(base, row.cap)) for base in bases or [{}])

    def lacks_output(self, unit: str) -> bool:
        """Whether `unit` is defined here and no model's output counts in it."""
        rates = [_table(rate) for rate in self.units.get(unit, {}).values()]
        return bool(rates) and not any(readable(rate.get("output")) for rate in rates)


def _scope(table: Mapping[str, Any], path: list[str]) -> Scope:
    included = _table(table["included"]) if table.get("included") is not None else None
    place = place_of(path)
    return Scope(place, _rows(table, place), table.get("plan"), included)


def _rows(table: Mapping[str, Any], place: str) -> tuple[Row, ...]:
    caps = table.get("caps")
    if not isinstance(caps, (list, tuple)):
        return ()
    tables = [_table(cap) for cap in caps]
    return tuple(Row(joined(place, f"caps{indexed(at, cap)}"), cap) for at, cap in enumerate(tables))


def _table(value: object) -> Mapping[str, Any]:
    """The entries of a table or object whose keys are text; nothing for anything else."""
    entries = written(value) if isinstance(value, BaseModel) else value
    if not isinstance(entries, Mapping):
        return {}
    return {key: entry for key, entry in entries.items() if isinstance(key, str)}
