"""`guard.health()` and `capguard doctor`: whether it works right now, and what weakens its promises."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from capguard import BackendUnavailable, Guard
from capguard.cli.app import app
from capguard.testing import ManualClock
from tests.backends.servers import Server
from tests.resilience.conftest import Watched
from tests.resilience.kit import policy


@pytest.fixture(params=["sync", "async"])
def asked(request: pytest.FixtureRequest) -> Callable[[Guard], object]:
    if request.param == "sync":
        return lambda guard: guard.health()
    return lambda guard: asyncio.run(guard.ahealth())


def test_a_ledger_that_answers(watched: Watched, asked: Callable[[Guard], object]) -> None:
    with Guard("watched://", policy=policy()) as guard:
        health = asked(guard)
        assert health
        assert (health.reachable, health.why, health.breaker, health.waiting) == (True, None, "closed", 0)  # type: ignore[attr-defined]
        assert json.loads(json.dumps(health.to_dict()))["ok"] is True  # type: ignore[attr-defined]


def test_a_ledger_that_is_away(watched: Watched, asked: Callable[[Guard], object]) -> None:
    with Guard("watched://", policy=policy()) as guard:
        watched.away = {"Reserve", "Settle", "Look"}
        open_call = guard.reserve(user="u1", cost="0.1")
        guard.settle(guard.reserve(user="u1", cost="0.1"), cost="0.1")
        for _ in range(9):
            with pytest.raises(BackendUnavailable):
                guard.reserve(user="u1", cost=50)
        health = asked(guard)
        assert not health
        assert "nobody answers" in health.why  # type: ignore[attr-defined]
        assert (health.breaker, health.waiting > 0, health.let_through) == ("open", True, 1)  # type: ignore[attr-defined]
        assert Path(health.outbox).is_dir()  # type: ignore[attr-defined]
        watched.away = set()
        guard.release(open_call)


def test_the_policys_revision_and_the_prices(watched: Watched) -> None:
    clock = ManualClock()
    with Guard("watched://", initial_policy=policy(), clock=clock) as guard:
        health = guard.health()
        assert (health.policy_revision, health.clock_offset) == (1, 0)
        clock.set(datetime.combine(health.prices_as_of, datetime.min.time(), UTC) + timedelta(days=400))
        assert any("400 days old" in warning for warning in guard.health().warnings)


def test_a_deadline_that_is_published_holds_at_once(tmp_path: Path) -> None:
    """For processes that are running, too."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Guard(url, initial_policy=policy(deadline=5)) as here, Guard(url) as there:
        here.publish(policy(deadline="0.125"))
        there.allow(user="u1", amount=1)
        assert there._backend.backend._timeout == 0.125  # type: ignore[attr-defined]


def test_a_clock_that_is_off(own: Server) -> None:
    with Guard(own.url, policy=policy()) as guard:
        guard._clock = lambda: 1_000_000_000_000  # type: ignore[assignment]
        assert any("NTP" in warning for warning in guard.health().warnings)


def test_settings_of_a_server_that_weaken_a_promise(own: Server) -> None:
    with own.client() as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    with Guard(own.url, policy=policy()) as guard:
        warnings = " ".join(guard.health().warnings)
    assert "noeviction" in warnings
    assert "appendonly yes" in warnings


@pytest.mark.parametrize(("options", "warned"), [("", True), ("?synchronous=full", False)])
def test_a_file_that_a_power_failure_may_shorten(tmp_path: Path, options: str, warned: bool) -> None:
    with Guard(f"sqlite:///{tmp_path}/ledger.db{options}", policy=policy()) as guard:
        assert any("synchronous=full" in warning for warning in guard.health().warnings) == warned


def test_memory_says_what_it_is() -> None:
    with Guard("memory://", policy=policy()) as guard:
        assert guard.health()
        assert any("in memory" in warning for warning in guard.health().warnings)


def test_the_doctor(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Guard(url, policy=policy()) as guard:
        guard.allow(user="u1", amount=1)
    said = CliRunner().invoke(app, ["doctor", "--url", url])
    assert (said.exit_code, "yes" in said.output, "synchronous=full" in said.output) == (0, True, True)
    said = CliRunner().invoke(app, ["doctor", "--url", url, "--json"])
    assert json.loads(said.output)["reachable"] is True


def test_the_doctor_of_a_ledger_that_is_away() -> None:
    said = CliRunner().invoke(app, ["doctor", "--url", "redis://127.0.0.1:1/0"])
    assert (said.exit_code, "refused" in said.output) == (3, True)
