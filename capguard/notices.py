"""What a decision has to say beside its answer: one log line for every cap that warned, steered or only watched."""

from __future__ import annotations

import logging

from capguard.results import Decision, Refusal

log = logging.getLogger("capguard")


def tell(call_id: str, decision: Decision) -> None:
    """Log what the caps said that did not refuse."""
    for cap in decision.passed:
        level = logging.INFO if cap.action == "dry_run" else logging.WARNING
        log.log(level, "capguard: %s: cap %r %s: %s", call_id, cap.id, _said(cap, decision), cap.explain())


def unknown_plan(plan: str, instead: str | None) -> None:
    """Log that a plan is not in the policy."""
    log.warning("capguard: plan %r is not in the policy, default_plan %r holds", plan, instead)


def _said(cap: Refusal, decision: Decision) -> str:
    if cap.action == "dry_run":
        return "would have blocked (dry_run)"
    if cap.action == "downgrade":
        return f"led to {decision.model}"
    return "warns"
