"""One mutant for each promise: the code broken on purpose, and the test that sees it. `make soak` runs them.

The mutants of the Lua are in tests/backends/redis_mutants.py and run with the suite.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Mutant(NamedTuple):
    """In `file`, `old` becomes `new`; `seen_by` must fail."""

    promise: str
    file: str
    old: str
    new: str
    seen_by: tuple[str, ...]


MUTANTS = (
    Mutant(
        "P1: equality and holds count",
        "ledger/judge.py",
        "meter.settled + meter.held + amount <= leg.limit",
        "meter.settled + amount <= leg.limit",
        ("tests/backends/test_memory.py", "-k", "test_case"),
    ),
    Mutant(
        "P1: no deferred transactions",
        "backends/sqlite/backend.py",
        '"BEGIN IMMEDIATE"',
        '"BEGIN"',
        ("tests/backends/test_sqlite_file.py", "tests/backends/test_sqlite_race.py"),
    ),
    Mutant(
        "P2: the id is looked up",
        "ledger/decide.py",
        "known = books.reservation(command.id)\n    if known",
        "known = None\n    if known",
        ("tests/backends/test_memory.py", "-k", "test_case"),
    ),
    Mutant(
        "P3: a leg of nothing passes",
        "ledger/judge.py",
        "if amount and not fits(leg, amount, meter)",
        "if not fits(leg, amount, meter)",
        ("tests/backends/test_memory.py", "-k", "test_case"),
    ),
    Mutant(
        "P4: what is overdue ends at the next decision",
        "ledger/decide.py",
        "    sweep(books, now_ms, swept)\n    outcome",
        "    outcome",
        ("tests/backends/test_memory.py", "-k", "test_case"),
    ),
    Mutant(
        "P4: the store's clock counts",
        "backends/redis/store.py",
        'now = "" if self._clock is system_clock else self._clock()',
        "now = self._clock()",
        ("tests/resilience/test_clock.py",),
    ),
    Mutant(
        "P5: the outbox is flushed",
        "resilience/slots.py",
        "letters.written(letter)}, sync=True)",
        "letters.written(letter)}, sync=False)",
        ("tests/resilience/test_slots.py", "-k", "on_the_disk"),
    ),
    Mutant(
        "P5: a torn line spoils nothing",
        "resilience/slots.py",
        "if len(line) < 10 or int(line[:8], 16) != crc32(line[9:]):",
        "if len(line) < 10:",
        ("tests/resilience/test_slots.py", "-k", "damaged or torn"),
    ),
    Mutant(
        "P5: a settle whose event loop ends is kept",
        "resilience/sheltered.py",
        "        if isinstance(command, Settle | Release):\n            self._alone",
        "        if isinstance(command, Reserve):\n            self._alone",
        ("tests/resilience/test_cancelling.py", "-k", "event_loop_that_ends"),
    ),
    Mutant(
        "P6: a store that is away is left alone",
        "resilience/breaker.py",
        "return self._retry_at is None or self._probes()",
        "return True",
        ("tests/resilience/test_breaker.py",),
    ),
    Mutant(
        "P7: the share is kept to",
        "resilience/offline.py",
        "leg.limit * limits.share_ppm // _PPM",
        "leg.limit",
        ("tests/resilience/test_offline.py", "-k", "how_much"),
    ),
    Mutant(
        "P7: a crash makes no room",
        "resilience/outbox.py",
        "return list(admitted_in(self._own())) if self._slot is None else []",
        "return []",
        ("tests/resilience/test_offline.py", "-k", "crash"),
    ),
    Mutant(
        "P7: what landed is not booked twice",
        "resilience/rebooking.py",
        "held=dict.fromkeys(settle.amounts, 0)",
        "held=settle.amounts",
        ("tests/resilience/test_offline.py", "-k", "excess"),
    ),
    Mutant(
        "P8: an older file is noticed",
        "backends/sqlite/connections.py",
        "                self._check_recalled(session.connection)\n",
        "",
        ("tests/resilience/test_lost_state.py", "-k", "older"),
    ),
    Mutant(
        "P10: a reply is not turned into an exception",
        "resilience/sheltered.py",
        "            case Settle():\n                return self._keep_settle(command)\n",
        "",
        ("tests/resilience/test_offline.py", "-k", "landed"),
    ),
)


@pytest.mark.soak
@pytest.mark.skipif("CAPGUARD_SOAK" not in os.environ, reason="make soak runs the mutants of the Python code")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.promise)
def test_a_mutant_is_seen(mutant: Mutant, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "capguard", tmp_path / "capguard", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "examples", "docs", "pyproject.toml", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    file = tmp_path / "capguard" / mutant.file
    text = file.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, "the code has changed: the mutant has to follow it"
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *mutant.seen_by],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-500:]
