"""Eight processes race for the caps of one file (P1, P2, P3), and none of them starves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from capguard.ledger.commands import Look, Verify
from capguard.testing.conformance.told import told
from tests.backends import racers
from tests.backends.racers import CAPS, ESTIMATE, PROCESSES, ROOM, Told, race

ROUNDS = int(os.environ.get("CAPGUARD_SOAK", "1"))


def _the_file_says(path: Path, *expected: str) -> None:
    backend = racers.opened(path)
    assert [told(backend.execute(command)) for command in (Look(CAPS), Verify())] == list(expected)
    backend.close()


def _exactly_what_fits(racer: Callable[..., Told], path: Path, calls: int) -> None:
    seen = race(racer, path)
    held = [id for each in seen for id in each.held]
    assert len(held) == len(set(held)) == ROOM
    assert (sum(each.denied for each in seen), sum(each.others for each in seen)) == (calls - ROOM, 0)
    each_cap = f"0/{ROOM * ESTIMATE}/0"
    _the_file_says(path, f"meters {each_cap} {each_cap} {each_cap}", f"verified {ROOM} entries, 3 meters, {ROOM} open")


@pytest.mark.soak
@pytest.mark.parametrize(("racer", "calls"), [(racers.in_turn, 10), (racers.at_once, racers.TASKS)])
def test_exactly_what_fits_is_admitted(racer: Callable[..., Told], calls: int, tmp_path: Path) -> None:
    """Room for 29 calls: 29 of all that are made pass, each on all three caps; the other two caps have room left."""
    for number in range(ROUNDS):
        _exactly_what_fits(racer, tmp_path / f"{number}.db", calls * PROCESSES)


def test_the_same_ids_from_all_processes_count_once(tmp_path: Path) -> None:
    """Ten ids, each reserved, settled and released by eight processes: each is held once and settled once."""
    seen = race(racers.same_ids, tmp_path / "race.db")
    held = [id for each in seen for id in each.held]
    assert sorted(held) == [f"shared-{n}" for n in range(10)]
    spent = f"{10 * (ESTIMATE - 1)}/0/0"
    _the_file_says(tmp_path / "race.db", f"meters {spent} {spent} {spent}", "verified 20 entries, 3 meters, 0 open")


def test_no_process_starves(tmp_path: Path) -> None:
    """All write without pause until each has made 20 calls: with places in line nobody makes many times the others'."""
    made = race(racers.without_pause, tmp_path / "race.db")
    assert min(made) >= 20
    assert max(made) <= 20 * PROCESSES, made
