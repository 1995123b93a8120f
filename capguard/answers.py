"""From the ledger's outcomes to what the verbs give, or raise. Exhaustive: every outcome has its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, assert_never

from capguard.arguments import checked_id, ttl_ms
from capguard.booking import Booking
from capguard.errors import BackendUnavailable, CapExceeded, IdempotencyMismatch, PolicyError, UnknownReservation
from capguard.identity import checked_name
from capguard.journal import Entry, MeterDifference, Verification
from capguard.ledger import units
from capguard.ledger.caps import Leg
from capguard.ledger.commands import Extend, Journal
from capguard.ledger.money import dollars
from capguard.ledger.outcomes import (
    AlertRows,
    Denied,
    Ended,
    Extended,
    Found,
    Held,
    Kept,
    Line,
    Lines,
    Meters,
    Mismatch,
    Nothing,
    Outcome,
    Published,
    Record,
    RefusalCount,
    RefusalCounts,
    Refused,
    Released,
    Settled,
    Shared,
    Stale,
    Steered,
    Superseded,
    Unknown,
    Verified,
)
from capguard.ledger.sources import GRANT, INCLUDED
from capguard.readable import instant
from capguard.refusals import Refusal, refusal
from capguard.results import Decision, Reservation, Settlement
from capguard.states import CapStates, Status, cap_state, source_state

if TYPE_CHECKING:
    from capguard.planner import Draft, Overview

PAGE = 500
_CAP = Leg._fields.index("cap")


def held(draft: Draft, outcome: Outcome) -> tuple[Reservation, Booking]:
    """The reservation of a reserve, and what its settle has to know. Raises where it was refused."""
    if not isinstance(outcome, Held):
        raise refused(outcome)
    record = _still_there(outcome)
    made = record.made
    if outcome.replayed:  # at the rates that it was made at, whatever holds now
        booking = Booking.of(record)
    else:
        option = draft.options[outcome.chosen]
        prompt = draft.request.prompt if option.how == "bound" else None
        booking = Booking(record.id, made.model, draft.route.identity.plan, option.tariff, made.expected, prompt)
    params = _params(draft, record, outcome.output)
    reservation = _reservation(record, params, _decision(outcome), booking)
    return replace(reservation, repeated=True) if outcome.replayed else reservation, booking


def decision(outcome: Outcome) -> Decision:
    """The decision of a check or an allow: a refusal by a cap is an answer here, not an error."""
    if isinstance(outcome, Held):
        _still_there(outcome)
        return _decision(outcome)
    if isinstance(outcome, Denied):
        return Decision(False, outcome.model, refused=_refusals(outcome.refused, outcome.now_ms))
    raise refused(outcome)


def settlement(outcome: Outcome) -> Settlement:
    """The booking of a direct settle. Raises IdempotencyMismatch where the call was settled before, differently."""
    if isinstance(outcome, Kept):
        return kept_as(outcome)
    if not isinstance(outcome, Settled):
        raise refused(outcome)
    if outcome.conflict:
        booked = dollars(outcome.record.booked.get("usd", 0))
        raise IdempotencyMismatch(f"{outcome.record.id} was settled before at {booked} USD, which stands")
    return booked_as(outcome)


def booked_as(outcome: Settled) -> Settlement:
    """A booking as people read it."""
    record = outcome.record
    return Settlement(
        id=record.id,
        cost=dollars(record.booked.get("usd", 0)),
        overrun=dollars(record.overrun.get("usd", 0)),
        late=outcome.late,
        conflict=outcome.conflict,
        entry_id=record.entry,
        flags=tuple(record.made.facts.get("flags", ())),
    )


def kept_as(outcome: Kept) -> Settlement:
    """A booking that waits for the backend: no entry bears it yet."""
    return Settlement(
        id=outcome.id,
        cost=dollars(outcome.amounts.get("usd", 0)),
        overrun=dollars(0),
        late=False,
        conflict=False,
        entry_id=0,
        flags=(*outcome.facts.get("flags", ()), "kept"),
        durable=outcome.durable,
    )


def extension(id: str, ttl: object, amount: object) -> Extend:
    """The command of an extend. Raises ValueError where neither is given or either is no sane total."""
    if ttl is None and amount is None:
        raise ValueError("extend needs ttl, in seconds from the reserve, or amount, in dollars, or both")
    amounts = None if amount is None else {"usd": units.parse("usd", amount, "amount")}
    return Extend(checked_id(id), ttl_ms(ttl), amounts)


def extended(before: Reservation | str, outcome: Outcome) -> Reservation:
    """The reservation after an extend. By its id alone, the caller's name for the output limit is not known."""
    if not isinstance(outcome, Extended):
        raise refused(outcome)
    record, model = outcome.record, outcome.record.made.model
    params = before.params if isinstance(before, Reservation) else {} if model is None else {"model": model}
    return _reservation(record, params, Decision(True, model), Booking.of(record))


def status(overview: Overview, outcome: Outcome) -> Status:
    """The meters behind an identity's caps as people read them."""
    if not isinstance(outcome, Meters):
        raise refused(outcome)
    states = outcome.states
    legs = zip(overview.legs, states, strict=False)
    caps = [cap_state(leg, meter, overview.since_ms.get(leg.cap, 0)) for leg, meter in legs]
    paying = zip(overview.sources, states[len(overview.legs) :], strict=True)
    funds = [source_state(leg, meter) for leg, meter in paying]
    as_of = instant(outcome.now_ms)
    assert as_of is not None
    return Status(
        identity=overview.identity.to_dict(),
        plan=overview.plan,
        caps=CapStates(caps),
        included=next((fund for fund in funds if fund.kind == INCLUDED), None),
        grants=tuple(fund for fund in funds if fund.kind == GRANT),
        as_of=as_of,
    )


def first_page(user: str | None, since: datetime | None, until: datetime | None, after: int) -> Journal:
    """The first page of the journal that a caller asks for. Raises ValueError for naive times."""
    if user is not None:
        checked_name(user, "user")
    if type(after) is not int or after < 0:
        raise ValueError(f"after: {after!r:.60} is refused; allowed: the number of an entry, 0 or more")
    return Journal(after, user, epoch_ms("since", since), epoch_ms("until", until), PAGE)


def next_page(page: Journal, lines: Sequence[Line]) -> Journal | None:
    """The page after `lines`; None where they were the last."""
    if len(lines) < page.limit:
        return None
    return Journal(lines[-1].seq, page.user, page.since_ms, page.until_ms, page.limit)


def lines(outcome: Outcome) -> tuple[Line, ...]:
    if isinstance(outcome, Lines):
        return outcome.lines
    raise refused(outcome)


def refusal_counts(outcome: Outcome) -> tuple[RefusalCount, ...]:
    if isinstance(outcome, RefusalCounts):
        return outcome.rows
    raise refused(outcome)


def entry(line: Line) -> Entry:
    """One line of the journal as people read it."""
    body = line.body
    amounts = body.get("amounts") or body.get("held") or {}
    facts: Mapping[str, Any] = body.get("facts", {})
    told = [f"{name}:{cap}" for name in ("downgrade", "clamp", "warn", "dry_run") for cap in facts.get(name, ())]
    told += [f"unfit:{model}" for model in facts.get("unfit", ()) if "downgrade" in facts]
    late = ["late"] if facts.get("late") else []
    at = instant(line.at_ms)
    assert at is not None
    return Entry(
        seq=line.seq,
        at=at,
        kind=line.kind,
        id=line.id,
        user=line.user,
        model=body.get("model"),
        amounts={unit: units.shown(unit, parts) for unit, parts in amounts.items()},
        caps=tuple(leg[_CAP] for leg in body.get("legs", ())),
        flags=(*facts.get("flags", ()), *told, *late),
        body=body,
    )


def verification(outcome: Outcome) -> Verification:
    """What a verify found, as people read it."""
    if not isinstance(outcome, Verified):
        raise refused(outcome)
    differences = [
        MeterDifference(each.meter, instant(each.period), each.what, each.journal, each.stored)
        for each in outcome.differences
    ]
    return Verification(
        tuple(differences), outcome.complete, outcome.why, outcome.entries, outcome.meters, outcome.open
    )


def refused(outcome: Outcome) -> Exception:  # noqa: PLR0911 - one line per outcome
    """The exception for an outcome that is not what the verb asked for."""
    match outcome:
        case Denied(refused, _, now_ms):
            return CapExceeded(_refusals(refused, now_ms))
        case Mismatch(id, "tombstone"):
            return IdempotencyMismatch(f"{id} was released before its reserve arrived; nothing is held")
        case Mismatch(id):
            return IdempotencyMismatch(f"{id} is remembered with other arguments; nothing changed")
        case Unknown(id, _, entry):
            kept = f"; entry {entry} keeps what was to be booked, a dead letter" if entry else ""
            return UnknownReservation(
                f"no reservation {id} is remembered: never made, or longer ago than the retention{kept}"
            )
        case Ended(record):
            return UnknownReservation(f"reservation {record.id} is {record.state}, it holds nothing any more")
        case Stale(now_ms):
            return BackendUnavailable(f"the backend's clock ({now_ms} ms) left the periods of the call three times")
        case Superseded(revision):
            return PolicyError(f"the policy in force is revision {revision}, another one than this was to replace")
        case Nothing():
            return PolicyError("no policy is published in this backend")
        case (
            Steered()
            | Published()
            | Held()
            | Settled()
            | Kept()
            | Released()
            | Extended()
            | Found()
            | Meters()
            | Lines()
            | RefusalCounts()
            | AlertRows()
            | Shared()
            | Verified()
        ):
            raise AssertionError(f"a backend answered {type(outcome).__name__} to another command")
        case _:
            assert_never(outcome)


def _still_there(outcome: Held) -> Record:
    """The call's record. Raises IdempotencyMismatch for a repeat that would be let through with nothing held for it."""
    record = outcome.record
    if outcome.replayed and record.state in ("released", "expired"):
        raise IdempotencyMismatch(
            f"{record.id} was {'released' if record.state == 'released' else 'held until it expired'}; nothing is held"
            " under it: another attempt is another call and needs an id of its own"
        )
    return record


def _decision(outcome: Held) -> Decision:
    made = outcome.record.made
    return Decision(True, made.model, passed=_refusals(outcome.passed, made.created_ms))


def _refusals(misses: Sequence[Refused], now_ms: int) -> tuple[Refusal, ...]:
    return tuple([refusal(miss, now_ms) for miss in misses])


def _params(draft: Draft, record: Record, clamped: int | None) -> dict[str, Any]:
    """What to pass to the provider. A clamp and `strict` set an output limit where the caller named none."""
    model, request = record.made.model, draft.request
    params: dict[str, Any] = {} if model is None else {"model": model}
    limit = request.output_limit[1] if request.output_limit is not None else None
    if clamped is not None:
        limit = clamped
    elif draft.strict and (output := record.made.held.get("output_tokens", 0)):
        limit = output // request.choices
    if limit is not None:
        params[request.limit_name(model)] = limit
    return params


def _reservation(record: Record, params: Mapping[str, Any], decided: Decision, booking: Booking) -> Reservation:
    made = record.made
    usd = [share for leg, share in zip(made.legs, record.shares, strict=False) if leg.unit == "usd"]
    return Reservation(
        id=record.id,
        model=made.model,
        params=params,
        held=dollars(max(made.held.get("usd", 0), *usd, 0)),
        expected=dollars(made.expected.get("usd", 0)),
        decision=decided,
        caps=tuple([leg.cap for leg in made.legs]),
        expires_at=instant(record.expires_ms),
        booking=booking,
    )


def booking_of(reservation: Reservation) -> Booking | None:
    """What `reserve` put beside the reservation for its settle."""
    booking = reservation.booking
    return booking if isinstance(booking, Booking) else None


def epoch_ms(name: str, moment: object) -> int | None:
    """Milliseconds since the epoch. Raises ValueError for a naive time."""
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        raise ValueError(f"{name}: {moment!r:.60} is no datetime; allowed: an aware datetime, as datetime.now(UTC)")
    if moment.utcoffset() is None:
        raise ValueError(f"{name}: {moment!r} is naive; allowed: an aware datetime, as datetime.now(UTC)")
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
