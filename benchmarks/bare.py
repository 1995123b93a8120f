"""What any ledger on SQLite has to do: two transactions that read and write the same rows, and no more."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

from capguard.backends.sqlite.connections import Connections


class BareLedger:
    """The tables, statements and sizes of capguard's SQLite backend, without a policy, a price or a decision."""

    def __init__(self, path: Path, entry_body: str, settle_body: str, meters: int):
        self._connection = Connections(path, synchronous="normal", timeout=5).take().connection
        self._run = self._connection.execute
        self._reserve_body, self._settle_body = entry_body, settle_body
        self._meters = [f"meter-{number}" for number in range(meters)]
        self._ids = (f"{number:032x}" for number in itertools.count())

    def reserve_and_settle(self) -> None:
        """Two transactions: three meters read and written, a reservation, an entry each."""
        id = next(self._ids)
        run = self._run
        now = time.time_ns() // 1_000_000
        run("BEGIN IMMEDIATE")
        run("SELECT state FROM reservation WHERE id = ?", (id,)).fetchone()
        for meter in self._meters:
            run("SELECT settled, held FROM meter WHERE key = ? AND period = 0", (meter,)).fetchone()
        for meter in self._meters:
            run(
                "INSERT INTO meter (key, period, settled, held, overrun, cap, unit, scope, ends)"
                " VALUES (?, 0, 0, 5, 0, 'cap', 'usd', '{}', 0)"
                " ON CONFLICT (key, period) DO UPDATE SET held = held + excluded.held",
                (meter,),
            )
        body = ("INSERT INTO entry (at, kind, id, user, body) VALUES (?, 'reserve', ?, 'user', ?)", self._reserve_body)
        seq = run(body[0], (now, id, body[1])).lastrowid
        run("INSERT INTO reservation VALUES (?, '', 'held', ?, ?, ?, '{}')", (id, seq, now, now))
        run("COMMIT")
        run("BEGIN IMMEDIATE")
        row = run(
            "SELECT r.state, e.body FROM reservation r JOIN entry e ON e.seq = r.entry WHERE r.id = ?", (id,)
        ).fetchone()
        json.loads(row[1])
        for meter in self._meters:
            run("UPDATE meter SET settled = settled + 4, held = held - 5 WHERE key = ? AND period = 0", (meter,))
        run(
            "INSERT INTO entry (at, kind, id, user, body) VALUES (?, 'settle', ?, 'user', ?)",
            (now, id, self._settle_body),
        )
        run("UPDATE reservation SET state = 'settled', due = ?, change = '{}' WHERE id = ?", (now, id))
        run("COMMIT")
