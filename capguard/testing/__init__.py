"""For tests: of applications that use capguard, and of backends that claim to be one.

`guarded` and `ManualClock` need nothing; `capguard.testing.provider` is a fake provider over HTTP (extra `demo`);
`capguard.testing.conformance` holds a backend to the contract (needs pytest and hypothesis); `capguard.testing.proxy`
fails as networks do.
"""

from capguard.testing.clock import ManualClock
from capguard.testing.guarded import GuardedGuard, guarded

__all__ = ["GuardedGuard", "ManualClock", "guarded"]
