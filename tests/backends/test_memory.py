"""The ledger in memory keeps the contract: the table of cases, the machine's invariants, the races."""

from __future__ import annotations

from capguard.backends.base import Clock
from capguard.backends.memory import MemoryBackend
from capguard.testing.conformance import BackendConformance


class TestMemory(BackendConformance):
    def open(self, clock: Clock) -> MemoryBackend:
        return MemoryBackend(clock)
