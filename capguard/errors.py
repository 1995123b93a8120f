"""The exceptions that capguard raises.

    CapguardError
     ├── CapExceeded          (RuntimeError)   a cap refuses the call; nothing was spent
     ├── BackendUnavailable                   the ledger did not answer; never a refusal
     ├── IdempotencyMismatch  (ValueError)     an id came back with other arguments, or after its hold
     ├── IdentityMissing      (ValueError)     a cap counts per user and the call names none
     ├── PolicyError          (ValueError)     a policy that is refused, with every finding
     ├── UnknownModel         (LookupError)    no price, and the policy denies unknown models
     ├── UnknownReservation   (LookupError)    no reservation with this id is remembered
     └── MissingExtra         (ImportError)    an optional dependency is not installed

`CapExceeded` is a `RuntimeError` so that the retry policies of hosts, which skip those, do not hammer on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

if TYPE_CHECKING:
    from datetime import datetime

    from capguard.refusals import Refusal

Reason = Literal["exhausted", "in_flight", "too_big", "throttled"]


class CapguardError(Exception):
    """Base of everything that capguard raises on purpose."""


class CapExceeded(CapguardError, RuntimeError):
    """A cap refuses this call. The provider was not called and no meter moved.

    `cap` is the first refusing cap in policy order, `caps` are all of them. `reason` is `exhausted` (spent until the
    reset), `in_flight` (other calls hold the room), `too_big` (can never fit under this limit) or `throttled`.
    `retryable` is true only if every refusing cap is; `retry_after` is in seconds, None where waiting cannot help;
    `resets_at` is the latest reset among `caps`.
    """

    code = "budget_cap_exceeded"

    def __init__(self, caps: Sequence[Refusal]):
        if not caps:
            raise ValueError("CapExceeded needs at least one refusing cap")
        self.caps = tuple(caps)
        super().__init__(self._message())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.caps,)

    @property
    def cap(self) -> Refusal:
        return self.caps[0]

    @property
    def reason(self) -> Reason:
        return self.cap.reason

    @property
    def retryable(self) -> bool:
        return all(cap.retryable for cap in self.caps)

    @property
    def retry_after(self) -> float | None:
        waits = [cap.retry_after for cap in self.caps]
        known = [wait for wait in waits if wait is not None]
        return max(known) if len(known) == len(waits) else None

    @property
    def resets_at(self) -> datetime | None:
        ends = [cap.resets_at for cap in self.caps if cap.resets_at is not None]
        return max(ends, default=None)

    def _message(self) -> str:
        also = f" (and {len(self.caps) - 1} more)" if len(self.caps) > 1 else ""
        return f"cap {self.cap.id!r} refuses this call: {self.cap.explain()}{also}"


class BackendUnavailable(CapguardError):
    """The backend did not answer in time or answered that it cannot serve. It says nothing about any cap."""


class IdempotencyMismatch(CapguardError, ValueError):
    """An id that is remembered came back with other arguments, or after its call was released or had expired.

    Nothing changed.
    """


class IdentityMissing(CapguardError, ValueError):
    """A cap that applies counts per identity field which the call does not name, and the policy says deny."""


class UnknownModel(CapguardError, LookupError):
    """The model has no price and the policy says `unknown_model = "deny"`."""


class UnknownReservation(CapguardError, LookupError):
    """No reservation with this id is remembered: never made, or older than the retention."""


class MissingExtra(CapguardError, ImportError):
    """An optional dependency is needed and not installed; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a policy: where, what was found, and what is allowed there."""

    place: str
    found: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.place}: {self.found}; allowed: {self.allowed}"


class PolicyError(CapguardError, ValueError):
    """A policy document is refused. `findings` lists everything that is wrong, not just the first."""

    def __init__(self, findings: Sequence[Finding] | str):
        self.findings: tuple[Finding, ...] = () if isinstance(findings, str) else tuple(findings)
        lines = [findings] if isinstance(findings, str) else [str(finding) for finding in findings]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.findings or str(self),)


def missing_extra(what: str, extra: str, cause: ImportError | None = None) -> NoReturn:
    """Raise the one line that tells which extra provides `what`."""
    raise MissingExtra(f"{what} needs an extra that is not installed: pip install 'capguard[{extra}]'") from cause
