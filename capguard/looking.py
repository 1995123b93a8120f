"""The verbs that look: where an identity stands, the journal, and whether every meter is what its entries say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Unpack

from capguard import answers
from capguard.arguments import IdentityArgs, only_identity
from capguard.driver import Driver
from capguard.identity import Identity
from capguard.journal import Entry, Verification
from capguard.ledger.commands import Journal, Look, Verify
from capguard.ledger.flows import Flow
from capguard.states import Status


class Looking(Driver):
    """What a `Guard` shows of its ledger as it is."""

    def status(self, **identity: Unpack[IdentityArgs]) -> Status:
        """Every cap that applies to an identity, and where it stands."""
        return self._run(self._looking(only_identity(identity)))

    async def astatus(self, **identity: Unpack[IdentityArgs]) -> Status:
        return await self._arun(self._looking(only_identity(identity)))

    def entries(
        self, *, user: str | None = None, since: datetime | None = None, until: datetime | None = None, after: int = 0
    ) -> Iterator[Entry]:
        """The journal, oldest first: of one user, within [since, until), after an entry's number."""
        return self._pages(answers.first_page(user, since, until, after))

    def _pages(self, first: Journal) -> Iterator[Entry]:
        page: Journal | None = first
        while page is not None:
            lines = answers.lines(self.carry_out(page))
            yield from map(answers.entry, lines)
            page = answers.next_page(page, lines)

    def aentries(
        self, *, user: str | None = None, since: datetime | None = None, until: datetime | None = None, after: int = 0
    ) -> AsyncIterator[Entry]:
        """As `entries`."""
        return self._apages(answers.first_page(user, since, until, after))

    async def _apages(self, first: Journal) -> AsyncIterator[Entry]:
        page: Journal | None = first
        while page is not None:
            lines = answers.lines(await self.acarry_out(page))
            for line in lines:
                yield answers.entry(line)
            page = answers.next_page(page, lines)

    def verify(self) -> Verification:
        """Rebuild every meter from the journal and compare: no differences, or where they are."""
        return answers.verification(self.carry_out(Verify()))

    async def averify(self) -> Verification:
        return answers.verification(await self.acarry_out(Verify()))

    def _looking(self, identity: Identity) -> Flow[Status]:
        yield from self._learning(identity.user)
        overview = self._knowledge.overview(identity, self._clock())
        outcome = yield Look(overview.legs + overview.sources)
        self._tell_crossed(outcome)
        return answers.status(overview, outcome)
