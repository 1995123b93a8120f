"""The pytest plugin that comes with capguard: the fixture `capguarded`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from capguard.testing.guarded import GuardedGuard


@pytest.fixture
def capguarded() -> Iterator[Callable[..., GuardedGuard]]:
    """`guard = capguarded(policy)`: as `capguard.testing.guarded`, undone when the test ends."""
    from capguard.testing.guarded import guarded

    with ExitStack() as stack:

        def make(policy: Any, **options: Any) -> GuardedGuard:
            return stack.enter_context(guarded(policy, **options))

        yield make
