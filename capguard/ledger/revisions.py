"""What is steered at run time: one profile per user, one published policy, each with a revision that commands carry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from capguard.ledger.books import Books
from capguard.ledger.caps import opening
from capguard.ledger.commands import Backfill, Journal, PolicyInForce, Profile, Publish, Steer
from capguard.ledger.outcomes import Mismatch, Nothing, Published, Revised, Stale, Steered, Superseded, Unknown

Body = dict[str, Any]

FILL_PAGE = 500
"""Meters that one entry of a backfill opens at most."""


def profile(books: Books, command: Profile, _now_ms: int) -> Steered:
    return Steered(books.profile(command.user))


def steer(books: Books, command: Steer, now_ms: int) -> Steered | Mismatch | Unknown:
    """Change a profile. A grant is made once per id; a repeat changes nothing, other arguments are a mismatch."""
    before = books.profile(command.user)
    body = changed(command.kind, before.body, command.change, now_ms)
    if not isinstance(body, dict):
        return body
    if body == before.body:
        return Steered(before, replayed=True)
    after = Revised(before.revision + 1, body)  # who, when and why stand in the journal
    books.put_profile(command.user, after)
    told = {"change": command.change, "by": command.by, "why": command.why, "revision": after.revision}
    books.append(now_ms, command.kind, command.change.get("id", ""), command.user, told)
    return Steered(after._replace(at_ms=now_ms, by=command.by, why=command.why))


def changed(kind: str, before: Mapping[str, Any], change: Mapping[str, Any], now_ms: int) -> Body | Mismatch | Unknown:
    """A profile's body after a change, or why there is none."""
    return _CHANGES[kind](before, change, now_ms)


def publish(books: Books, command: Publish, now_ms: int) -> Published | Superseded | Stale:
    """Put a policy in force, unless another one came in between, and fill the meters of its new caps."""
    before = books.policy(None)
    if command.base is not None and command.base != before.revision:
        return Superseded(before.revision)
    if before.revision and before.body == command.document:
        return Published(before, replayed=True)
    fill = command.backfill
    if fill is not None and any(books.entries(Journal(after=fill.last, since_ms=fill.since_ms, limit=1))):
        return Stale(now_ms)
    after = Revised(before.revision + 1, command.document, now_ms, command.by, command.why, command.since)
    books.add_policy(after)
    books.append(now_ms, "publish", "", None, published(after))
    if fill is not None:
        _fill(books, fill, now_ms)
    return Published(after)


def published(policy: Revised) -> Body:
    """The body of the entry that says so: all of it, so that a store can be made anew from its journal."""
    told = {"by": policy.by, "why": policy.why, "revision": policy.revision, "document": policy.body}
    return {**told, "since": policy.since} if policy.since else told


def _fill(books: Books, fill: Backfill, now_ms: int) -> None:
    """Open the meters that are not there yet, a page of them per entry."""
    rows = zip(fill.legs, fill.shares, strict=True)
    new = [(leg, share) for leg, share in rows if not any(books.periods(leg._replace(since=leg.period)))]
    for start in range(0, len(new), FILL_PAGE):
        legs, shares = zip(*new[start : start + FILL_PAGE], strict=True)
        books.open(legs, shares, settled=True)
        moves = [opening(leg, share, settled=True) for leg, share in zip(legs, shares, strict=True)]
        gone = [leg.gone_ms for leg in legs]
        rolling = [leg.rolling for leg in legs]
        books.append(now_ms, "backfill", "", None, {"moves": moves, "gone": gone, "rolling": rolling})


def policy_in_force(books: Books, command: PolicyInForce, _now_ms: int) -> Published | Nothing:
    found = books.policy(command.revision)
    return Published(found) if found.revision else Nothing()


def revoked_grants(books: Books, user: str | None) -> Collection[str]:
    """The ids of a user's grants that pay no more."""
    grants = books.profile(user).body.get("grants", ()) if user is not None else ()
    return {grant["id"] for grant in grants if "revoked_ms" in grant}


_HISTORY = ("granted_ms", "revoked_ms")


def _grant(before: Mapping[str, Any], change: Mapping[str, Any], now_ms: int) -> Body | Mismatch:
    """One more grant. `used_up` of the change names those that are no sources from now on, of all that are there."""
    grants = before.get("grants", [])
    terms = {name: value for name, value in change.items() if name != "used_up"}
    for grant in grants:
        if grant["id"] == terms["id"]:
            same = {name: value for name, value in grant.items() if name not in _HISTORY} == terms
            return dict(before) if same else Mismatch(terms["id"], "settled")
    return {**before, "grants": [*grants, {**terms, "granted_ms": now_ms}], "used_up": change.get("used_up", [])}


def _revoke(before: Mapping[str, Any], change: Mapping[str, Any], now_ms: int) -> Body | Unknown:
    grants = before.get("grants", [])
    if not any(grant["id"] == change["id"] for grant in grants):
        return Unknown(change["id"])
    ended = [
        {**grant, "revoked_ms": now_ms} if grant["id"] == change["id"] and "revoked_ms" not in grant else grant
        for grant in grants
    ]
    return {**before, "grants": ended}


def _override(before: Mapping[str, Any], change: Mapping[str, Any], _now_ms: int) -> Body:
    """A change of a cap, or an additional cap; a later one for the same cap replaces it."""
    others = [each for each in before.get("overrides", []) if each["cap"]["id"] != change["cap"]["id"]]
    return {**before, "overrides": [*others, dict(change)]}


def _clear_override(before: Mapping[str, Any], change: Mapping[str, Any], _now_ms: int) -> Body:
    wanted = change.get("cap")
    kept = [each for each in before.get("overrides", []) if wanted is not None and each["cap"]["id"] != wanted]
    return {**before, "overrides": kept}


def _assign(before: Mapping[str, Any], change: Mapping[str, Any], _now_ms: int) -> Body:
    return {**before, "plan": change["plan"]}


def _profile(_before: Mapping[str, Any], change: Mapping[str, Any], _now_ms: int) -> Body:
    """All of it, as it was decided elsewhere."""
    return dict(change)


_CHANGES: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], int], Body | Mismatch | Unknown]] = {
    "grant": _grant,
    "revoke": _revoke,
    "override": _override,
    "clear_override": _clear_override,
    "assign": _assign,
    "profile": _profile,
}
