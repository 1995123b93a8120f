"""What every backend must do, as a suite that anybody can run on a backend of their own (needs pytest and hypothesis).

from capguard.testing.conformance import BackendConformance

class TestMyBackend(BackendConformance):
    def open(self, clock):
        return MyBackend(clock=clock)           # a fresh, empty ledger

    def reopen(self, clock):                    # optional: another handle on the ledger that was opened last
        return MyBackend(clock=clock, attach=True)
"""

import pytest

pytest.register_assert_rewrite(*(f"capguard.testing.conformance.{name}" for name in ("suite", "machine", "truths")))

from capguard.testing.conformance.cases import CASES  # noqa: E402 - after the registration above
from capguard.testing.conformance.script import Case  # noqa: E402
from capguard.testing.conformance.suite import BackendConformance  # noqa: E402

__all__ = ["CASES", "BackendConformance", "Case"]
