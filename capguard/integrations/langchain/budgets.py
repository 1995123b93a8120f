"""The caps of one run and of one thread, from plain dollars."""

from __future__ import annotations

from typing import Any

from capguard.policy.document import Cap

RUN = "capguard_run"
"""Where the state of an agent keeps the id of its run."""


def budgets(per_run: Any, per_thread: Any) -> list[Cap]:
    """A cap for each that is given. Raises PolicyError for what is no amount."""
    caps = []
    if per_run is not None:
        caps.append(Cap(id="agent_run", limit=per_run, per=["tag:run"], window="lifetime", idle="24h"))
    if per_thread is not None:
        caps.append(
            Cap(id="agent_thread", limit=per_thread, per=["session"], window="lifetime", idle="720h", required=True)
        )
    return caps
