"""Every mutant of the Lua is seen by the table of cases or by a game; and the Lua as it is wins every game."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import capguard.backends.redis
from capguard.backends.memory import MemoryBackend
from capguard.backends.redis import RedisBackend, scripts
from capguard.errors import BackendUnavailable
from capguard.testing.clock import ManualClock
from capguard.testing.conformance import suite
from capguard.testing.conformance.driving import driven
from capguard.testing.conformance.script import Case
from tests.backends.redis_games import GAMES, Game
from tests.backends.redis_mutants import MUTANTS, Mutant
from tests.backends.redis_place import Place, the_long_way
from tests.backends.servers import Server, servers, shared

LUA = Path(capguard.backends.redis.__file__).parent / "lua"

_numbers = itertools.count()


EVERY = 1 if "CAPGUARD_SOAK" in os.environ else 3
"""Every third mutant runs with the suite, all of them with `make soak`."""


@pytest.mark.parametrize("which", servers())
@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.__name__)
def test_game(game: Game, which: str) -> None:
    game(Place(shared(which)))


def _named(who: ModuleType | Game, mutant: Mutant) -> str:
    old, new = (" ".join(text.split()) for text in (mutant.old, mutant.new))
    return f"{who.__name__.rpartition('.')[2]}: {mutant.file}: {old} -> {new}"


@pytest.mark.parametrize(
    ("who", "mutant"),
    [pytest.param(who, mutant, id=_named(who, mutant)) for who, mutants in MUTANTS for mutant in mutants][::EVERY],
)
def test_mutant(who: ModuleType | Game, mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this change something that was right is wrong, and it is seen."""
    _put_in(mutant, tmp_path / "lua", monkeypatch)
    server = shared(servers()[-1])
    if isinstance(who, ModuleType):
        assert any(not _holds(case, server) for case in who.CASES), "survives"
    else:
        assert not _won(who, server), "survives"


def _put_in(mutant: Mutant, lua: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lua.mkdir()
    for file in LUA.glob("*.lua"):
        text = file.read_text(encoding="utf-8")
        if file.stem == mutant.file:
            assert mutant.old in text, "the table of mutants knows an older text"
            text = text.replace(mutant.old, mutant.new, 1)
        if not mutant.file.startswith("plain"):  # what only the long way does is to be seen on plain calls too
            text = the_long_way(text)
        (lua / file.name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(scripts, "resources", SimpleNamespace(files=lambda _package: lua.parent))
    scripts.script.cache_clear()


@pytest.fixture(autouse=True)
def _the_real_scripts_again() -> Iterator[None]:
    yield
    scripts.script.cache_clear()


RED = (AssertionError, BackendUnavailable, LookupError, TypeError, ValueError, pytest.fail.Exception)
"""What a mutant leads to: a wrong answer, a script that the server refuses, a reply that reads like none."""


def _holds(case: Case, server: Server) -> bool:
    clock = ManualClock()
    backend = RedisBackend(server.url, namespace=f"m{next(_numbers)}", clock=clock, deadline=5)
    try:
        with driven(backend, "sync") as execute:
            suite._play(case, clock, MemoryBackend(clock), execute)
            suite._looks_as_it_should(case, execute)
    except RED:
        return False
    return True


def _won(game: Game, server: Server) -> bool:
    try:
        game(Place(server))
    except RED:
        return False
    return True
