"""What a user may see of caps: those that count per user, by id and reset; amounts only where the cap is public.

Provider cost is the seller's margin: by default neither a limit nor a sum goes out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from capguard.policy.document import Policy
from capguard.policy.resolve import every_cap
from capguard.states import CapState

StateT = TypeVar("StateT", bound=CapState)

_ENFORCING = ("block", "clamp", "throttle")


def users_own(caps: Iterable[StateT]) -> list[StateT]:
    """The caps that count per user. The others are nobody's business."""
    return [cap for cap in caps if "user" in cap.scope]


def is_public(cap: CapState, policy: Policy) -> bool:
    """Whether its amounts may be shown: every cap of this id in the policy says so, and there is one."""
    written = [each.public for each in every_cap(policy) if each.id == cap.id]
    return any(written) and all(said is not False for said in written)


def amounts(cap: CapState, policy: Policy) -> dict[str, Any]:
    """The amounts of a public cap, as text in its unit; of another one nothing."""
    if not is_public(cap, policy):
        return {}
    shown = cap.to_dict()
    return {name: shown[name] for name in ("unit", "limit", "remaining")}


def tightest(caps: Iterable[CapState]) -> CapState | None:
    """Of the user's own caps that can refuse, the one that is used most."""
    enforcing = [cap for cap in users_own(caps) if cap.action in _ENFORCING]
    return max(enforcing, key=lambda cap: cap.fraction, default=None)
