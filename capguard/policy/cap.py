"""Caps as they are written: a cap, what it matches, and the change of a cap for one user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from capguard.errors import Finding
from capguard.ledger.windows import duration_ms
from capguard.policy.base import PolicyObject, written
from capguard.policy.caprules import cap_rules, merged
from capguard.policy.fields import (
    MATCHABLE,
    TAG,
    Action,
    Duration,
    Flag,
    Globs,
    Number,
    OpenOrClosed,
    Otherwise,
    Per,
    Text,
    Tokens,
    Wait,
    WindowText,
    is_field,
)


class Match(PolicyObject):
    """Which calls a cap counts: patterns (`*`, `?`, `[...]`) by field of the call or `tag:<name>`; all must match."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Globs]

    model: Globs | None = None
    user: Globs | None = None
    plan: Globs | None = None
    org: Globs | None = None
    team: Globs | None = None
    key_id: Globs | None = None
    feature: Globs | None = None
    session: Globs | None = None

    if TYPE_CHECKING:  # a pattern or a list of them

        def __init__(self, **patterns: Any) -> None: ...

    @property
    def patterns(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The fields that must match, each with its patterns, of which one must."""
        return tuple((name, globs) for name, globs in self if globs is not None)

    @classmethod
    def knows(cls, key: object) -> bool:
        return isinstance(key, str) and is_field(key, MATCHABLE)

    @classmethod
    def allowed_keys(cls) -> str:
        return f"{', '.join(MATCHABLE)} and {TAG}<name>"


class Cap(PolicyObject):
    """A limit in a unit, per some identity fields, over a window, with an action.

    `limit` is in `unit`: dollars for `usd` and `billed`. `to` and `otherwise` belong to `downgrade`, `min_output`
    (tokens) to `clamp`, `max_wait` (seconds) to `throttle`, `idle` (a duration) to `lifetime` windows. Raises
    `PolicyError` with every finding.
    """

    id: Text
    limit: Number
    unit: Text = "usd"
    per: Per = ("user",)
    window: WindowText = "monthly"
    action: Action = "block"
    to: Text | None = None
    otherwise: Otherwise = "pass"
    match: Match | None = None
    overage_only: Flag = False
    ignore_grants: Flag = False
    required: Flag = False
    public: Flag = False
    on_backend_error: OpenOrClosed | None = None
    min_output: Tokens = 64
    max_wait: Wait = Decimal(30)
    idle: Duration | None = None

    if TYPE_CHECKING:  # numbers come as int, str, float or Decimal, lists as any sequence

        def __init__(self, *, id: str, limit: Decimal | int | str | float, **fields: Any) -> None: ...

    @property
    def idle_ms(self) -> int | None:
        """Milliseconds without a call after which the meter of a `lifetime` cap is closed."""
        return None if self.idle is None else duration_ms(self.idle)

    @classmethod
    def rules(cls, data: Mapping[str, Any]) -> Iterator[Finding]:
        return cap_rules(data)


class CapChange(PolicyObject):
    """What `[users.X]` changes of the plan's cap with the same id, or a cap of its own when that has none.

    The fields are those of `Cap`; None means unchanged.
    """

    id: Text
    limit: Number | None = None
    unit: Text | None = None
    per: Per | None = None
    window: WindowText | None = None
    action: Action | None = None
    to: Text | None = None
    otherwise: Otherwise | None = None
    match: Match | None = None
    overage_only: Flag | None = None
    ignore_grants: Flag | None = None
    required: Flag | None = None
    public: Flag | None = None
    on_backend_error: OpenOrClosed | None = None
    min_output: Tokens | None = None
    max_wait: Wait | None = None
    idle: Duration | None = None

    if TYPE_CHECKING:

        def __init__(self, *, id: str, **fields: Any) -> None: ...

    def applied_to(self, cap: Cap | None) -> Cap:
        """`cap` with these changes; without one, these fields as a cap. Raises `PolicyError` if that is no cap.

        Fields that belong to the action that is replaced go with it.
        """
        return Cap(**merged(written(cap) if cap is not None else {}, written(self)))
