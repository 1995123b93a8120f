"""The store's clock decides: a host whose own is wrong ends nobody's hold and keeps nobody's alive."""

from __future__ import annotations

import time

import pytest

from capguard import CapExceeded, Guard
from tests.backends.servers import Server
from tests.resilience.kit import policy

POLICY = policy({"id": "c", "limit": 1}, deadline=10, on_expiry="release")


@pytest.mark.parametrize("off_s", [-300, 300])
def test_a_host_whose_clock_is_off(own: Server, monkeypatch: pytest.MonkeyPatch, off_s: int) -> None:
    """By five minutes: a hold of two minutes and a half counts there as everywhere, and ends when the store says."""
    with Guard(own.url, policy=POLICY) as here:
        here.reserve(user="u1", cost=1)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + off_s * 10**9)
    with Guard(own.url, policy=POLICY) as there, pytest.raises(CapExceeded, match="c"):
        there.reserve(user="u1", cost=1)
