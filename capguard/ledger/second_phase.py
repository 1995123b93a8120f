"""The second phase: settle, release, extend."""

from __future__ import annotations

from capguard.ledger.books import Books
from capguard.ledger.caps import Amounts, Move
from capguard.ledger.commands import Extend, Release, Settle
from capguard.ledger.ending import book, shares_of, window_on
from capguard.ledger.idle import use
from capguard.ledger.judge import fits, refuses
from capguard.ledger.outcomes import (
    Denied,
    Ended,
    Extended,
    Made,
    Record,
    Refused,
    Released,
    Settled,
    Unknown,
)


def settle(books: Books, command: Settle, now_ms: int) -> Settled | Unknown:
    """Book what the call cost: once, even late, even twice sent."""
    record = books.reservation(command.id)
    if record is None:
        return _unremembered(books, command, now_ms)
    if record.state == "tombstone":
        return Unknown(command.id)
    if record.state == "settled":
        return Settled(record, conflict=record.booked != command.amounts, replayed=True)
    late = record.state != "held"
    facts = {**command.facts, "late": True} if late else command.facts
    booked, crossed = book(books, record, "settled", "settle", command.amounts, facts, now_ms)
    return Settled(booked, late=late, crossed=crossed)


def _unremembered(books: Books, command: Settle, now_ms: int) -> Unknown:
    """Keep what a settle that comes too late wanted to book, once: a tombstone under its id takes in the repeats."""
    dead_from_ms = command.dead_from_ms
    if dead_from_ms is None or now_ms < dead_from_ms:
        return Unknown(command.id)
    books.add(_tombstone(command, now_ms), now_ms + command.retention_ms)
    body = {"amounts": command.amounts, "facts": command.facts}
    return Unknown(command.id, entry=books.append(now_ms, "dead_letter", command.id, None, body))


def release(books: Books, command: Release, now_ms: int) -> Released:
    """Drop a hold, or take back what an expiry booked. After a settle it does nothing."""
    record = books.reservation(command.id)
    if record is None:
        books.add(_tombstone(command, now_ms), now_ms + command.retention_ms)
        return Released(command.id, changed=False)
    if record.state not in ("held", "expired"):
        return Released(command.id, changed=False)
    book(books, record, "released", "release", {}, {}, now_ms)
    return Released(command.id, changed=True)


def extend(books: Books, command: Extend, now_ms: int) -> Extended | Ended | Denied | Unknown:
    """Lengthen or raise a hold to the totals given, never lowering either."""
    record = books.reservation(command.id)
    if record is None or record.state == "tombstone":
        return Unknown(command.id)
    if record.state != "held":
        return Ended(record)
    wanted = _raised(books, record, command.amounts, now_ms)
    refused = _short(books, record, wanted, now_ms)
    if refused:
        return Denied(refused, record.made.model, now_ms)
    moves = [
        Move(leg.meter, leg.period, 0, new - old, 0)
        for leg, old, new in zip(record.made.meters, record.shares, wanted, strict=True)
        if new != old and now_ms < leg.gone_ms
    ]
    longer = record.made.created_ms + (command.ttl_ms or 0)
    expires_ms = max(record.expires_ms, longer)
    if moves or expires_ms != record.expires_ms:
        books.move(moves)
        books.append(now_ms, "extend", record.id, record.user, {"moves": moves, "expires_ms": expires_ms})
    record = record._replace(shares=wanted, expires_ms=expires_ms)
    until_ms = record.expires_ms + record.made.grace_ms
    books.update(record, until_ms)
    use(books, record.made.legs, now_ms, until_ms)
    return Extended(record)


def _raised(books: Books, record: Record, amounts: Amounts | None, now_ms: int) -> tuple[int, ...]:
    """What the hold would be on each meter: `amounts` where they are more than it was made for."""
    if not amounts:
        return record.shares
    held = record.made.held
    total = {unit: max(held[unit], amounts.get(unit, 0)) if held[unit] else 0 for unit in held}
    return tuple(map(max, record.shares, shares_of(books, record, total, now_ms)))


def _short(books: Books, record: Record, wanted: tuple[int, ...], now_ms: int) -> tuple[Refused, ...]:
    """The enforcing legs on which the raised hold does not fit, beside what others have."""
    raised = zip(record.made.legs, record.shares, wanted, strict=False)
    return tuple(
        Refused(leg, new, meter._replace(held=meter.held - old))
        for leg, old, new in raised
        if new > old and refuses(leg) and now_ms < leg.gone_ms
        if not fits(leg, new - old, meter := books.meter(window_on(leg, now_ms)))
    )


def _tombstone(command: Release | Settle, now_ms: int) -> Record:
    nothing = Made(None, (), {}, {}, {}, {}, {}, "release", now_ms, 0, command.retention_ms)
    return Record(command.id, "", "tombstone", nothing, (), now_ms, entry=0)
