"""What a policy becomes under CAPGUARD_DISABLED: its prices and plans without anything that refuses a call."""

from __future__ import annotations

from capguard.policy.document import Plan, Policy

_ANY = "(disabled)"


def without_refusals(policy: Policy) -> Policy:
    """`policy` without caps, where unknown models, plans and callers pass as well."""
    plans = {name: plan.model_copy(update={"caps": ()}) for name, plan in policy.plans.items()}
    lenient = {"unknown_model": "allow", "missing_identity": "anonymous"}
    return policy.model_copy(
        update={
            "caps": (),
            "users": {},
            "plans": {_ANY: Plan(), **plans},
            "default_plan": policy.default_plan or _ANY,
            "failure": policy.failure.model_copy(update=lenient),
        }
    )
