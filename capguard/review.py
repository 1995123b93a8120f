"""The verbs that look back: the enforcement log, the report, the policies that were published, the caps that hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from capguard import answers
from capguard.denials import Denials
from capguard.driver import Driver
from capguard.enforcement import LogLine, LogReader
from capguard.errors import PolicyError
from capguard.fold import Fold
from capguard.identity import Identity
from capguard.ledger.commands import Journal, PolicyInForce, Refusals
from capguard.ledger.flows import Flow
from capguard.ledger.outcomes import Nothing, Outcome, Published, Revised
from capguard.ledger.windows import parse
from capguard.policy.document import Policy
from capguard.policy.holding import Holding, holding
from capguard.policy.load import document_hash, load_policy
from capguard.readable import instant
from capguard.report import DenialRow, Report


@dataclass(frozen=True, slots=True)
class PolicyRevision:
    """One policy that was published: when, by whom, why. `hash` is the same for equal policies."""

    revision: int
    at: datetime
    by: str | None
    why: str | None
    hash: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: times as ISO 8601."""
        return {
            "revision": self.revision,
            "at": self.at.isoformat(),
            "by": self.by,
            "why": self.why,
            "hash": self.hash,
        }


class Review(Driver):
    """What a `Guard` can tell of the time before now."""

    def log(self, *, since: datetime | None = None, until: datetime | None = None) -> Iterator[LogLine]:
        """What caps did and what was steered within [since, until), oldest first. Raises ValueError for naive times.

        Refusals come as counts per cap, identity and minute, so the minute that `since` falls into is there whole.
        """
        return self._told_lines(LogReader(since, until))

    def _told_lines(self, reader: LogReader) -> Iterator[LogLine]:
        while (page := reader.wanted()) is not None:
            yield from reader.read(self.carry_out(page))

    def alog(self, *, since: datetime | None = None, until: datetime | None = None) -> AsyncIterator[LogLine]:
        """As `log`."""
        return self._atold_lines(LogReader(since, until))

    async def _atold_lines(self, reader: LogReader) -> AsyncIterator[LogLine]:
        while (page := reader.wanted()) is not None:
            for line in reader.read(await self.acarry_out(page)):
                yield line

    def report(self, by: str = "plan", *, since: datetime | None = None, until: datetime | None = None) -> Report:
        """Who spent what: the calls reserved within [since, until), by an identity field, `model` or `tag:<name>`.

        The default is the calendar month that is on, in the policy's timezone, up to now. By plan it also tells what
        each plan earned and which users cost more than their price. Refusals stand beside it, in whole minutes. Raises
        ValueError for another `by`, for naive times and for a `since` that is not before `until`.
        """
        return self._run(self._reporting(by, since, until))

    async def areport(
        self, by: str = "plan", *, since: datetime | None = None, until: datetime | None = None
    ) -> Report:
        """As `report`."""
        return await self._arun(self._reporting(by, since, until))

    def history(self) -> list[PolicyRevision]:
        """Every policy that was published in this backend, oldest first."""
        return self._run(self._recalling())

    async def ahistory(self) -> list[PolicyRevision]:
        """As `history`."""
        return await self._arun(self._recalling())

    def policy_at(self, revision: int) -> Policy:
        """A policy that was published. Raises PolicyError where there is no such revision."""
        return self._run(self._published_at(revision))

    async def apolicy_at(self, revision: int) -> Policy:
        """As `policy_at`."""
        return await self._arun(self._published_at(revision))

    def caps(self, *, user: str | None = None, plan: str | None = None) -> tuple[Holding, ...]:
        """The caps that hold now for a user or on a plan, in policy order, each with where it comes from."""
        return self._run(self._holding(user, plan))

    async def acaps(self, *, user: str | None = None, plan: str | None = None) -> tuple[Holding, ...]:
        """As `caps`."""
        return await self._arun(self._holding(user, plan))

    def _reporting(self, by: str, since: datetime | None, until: datetime | None) -> Flow[Report]:
        yield from self._learning(None)
        policy = self._knowledge.planner.policy
        since_ms, until_ms = self._span(policy, since, until)
        fold = Fold(policy, by, since_ms, until_ms)
        page: Journal | None = Journal(0, None, since_ms, None, answers.PAGE)
        while page is not None and not fold.is_complete:
            lines = answers.lines((yield page))
            fold.add(lines)
            page = answers.next_page(page, lines)
        denials = yield from _refused(by, since_ms, until_ms)
        return replace(fold.report(), denials=denials)

    def _span(self, policy: Policy, since: datetime | None, until: datetime | None) -> tuple[int, int]:
        since_ms, until_ms = answers.epoch_ms("since", since), answers.epoch_ms("until", until)
        until_ms = self._clock() + 1 if until_ms is None else until_ms  # a call of this very millisecond is there
        if since_ms is None:
            since_ms = parse("monthly", policy.timezone).period(until_ms - 1).starts_at_ms
        if since_ms >= until_ms:
            raise ValueError(f"since: {instant(since_ms)} is not before {instant(until_ms)}, the end of the report")
        return since_ms, until_ms

    def _recalling(self) -> Flow[list[PolicyRevision]]:
        newest = yield PolicyInForce()
        if isinstance(newest, Nothing):
            return []
        revisions = []
        for revision in range(1, _revised(newest).revision + 1):
            revised = _revised((yield PolicyInForce(revision)))
            at = instant(revised.at_ms)
            assert at is not None
            hashed = document_hash(revised.body)
            revisions.append(PolicyRevision(revision, at, revised.by, revised.why, hashed))
        return revisions

    def _published_at(self, revision: int) -> Flow[Policy]:
        if type(revision) is not int or revision < 1:
            raise ValueError(f"revision: {revision!r:.60} is refused; allowed: a whole number, 1 or more")
        outcome = yield PolicyInForce(revision)
        if isinstance(outcome, Nothing):
            raise PolicyError(f"no policy was published as revision {revision}")
        return load_policy(dict(_revised(outcome).body))

    def _holding(self, user: str | None, plan: str | None) -> Flow[tuple[Holding, ...]]:
        yield from self._learning(user)
        profile = self._knowledge.profile(user)
        return holding(self._knowledge.planner.policy, Identity(user=user, plan=plan), profile, self._clock())


def _refused(by: str, since_ms: int, until_ms: int) -> Flow[tuple[DenialRow, ...]]:
    denials, page = Denials(by), Refusals(since_ms, until_ms, answers.PAGE)
    while rows := answers.refusal_counts((yield page)):
        denials.add(rows)
        page = page._replace(after=rows[-1].place)
    return denials.rows()


def _revised(outcome: Outcome) -> Revised:
    if isinstance(outcome, Published):
        return outcome.policy
    raise answers.refused(outcome)
