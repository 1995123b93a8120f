"""Hard spending caps for applications that call language models.

Every call is a two-phase transfer: *reserve* holds its estimated cost against every cap that applies, all or none, in
one atomic step over all processes; *settle* replaces the hold by what it really cost; *release* drops it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from capguard._version import __version__

if TYPE_CHECKING:
    from capguard.decorator import capped, current_call
    from capguard.default import configure
    from capguard.errors import (
        BackendUnavailable,
        CapExceeded,
        CapguardError,
        IdempotencyMismatch,
        IdentityMissing,
        MissingExtra,
        PolicyError,
        UnknownModel,
        UnknownReservation,
    )
    from capguard.guard import Guard
    from capguard.identity import Identity, carry, identify
    from capguard.policy.document import Cap, Grant, Plan, Policy
    from capguard.pricing.usage import Usage

_HOMES = {
    "capguard.decorator": ("capped", "current_call"),
    "capguard.default": ("configure",),
    "capguard.errors": (
        "BackendUnavailable",
        "CapExceeded",
        "CapguardError",
        "IdempotencyMismatch",
        "IdentityMissing",
        "MissingExtra",
        "PolicyError",
        "UnknownModel",
        "UnknownReservation",
    ),
    "capguard.guard": ("Guard",),
    "capguard.identity": ("Identity", "carry", "identify"),
    "capguard.policy.document": ("Cap", "Grant", "Plan", "Policy"),
    "capguard.pricing.usage": ("Usage",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BackendUnavailable",
    "Cap",
    "CapExceeded",
    "CapguardError",
    "Grant",
    "Guard",
    "IdempotencyMismatch",
    "Identity",
    "IdentityMissing",
    "MissingExtra",
    "Plan",
    "Policy",
    "PolicyError",
    "UnknownModel",
    "UnknownReservation",
    "Usage",
    "__version__",
    "capped",
    "carry",
    "configure",
    "current_call",
    "identify",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that `import capguard` stays light."""
    if name not in _HOME:
        raise AttributeError(f"module 'capguard' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
