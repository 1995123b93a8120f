"""The policy document: its objects, the same as the tables of TOML, YAML and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, Field

from capguard.errors import Finding
from capguard.policy.base import PolicyObject
from capguard.policy.cap import Cap, CapChange, Match
from capguard.policy.caprules import amount_rule
from capguard.policy.checks import document_findings
from capguard.policy.fields import (
    Deadline,
    Flag,
    Number,
    OpenOrClosed,
    Per,
    Priority,
    Share,
    Text,
    Thresholds,
    Tokens,
    WindowText,
    Zone,
    readable,
)
from capguard.policy.rates import PriceRates, UnitRates, list_rules

__all__ = [
    "Alerts",
    "Cap",
    "CapChange",
    "EstimateDefaults",
    "Failure",
    "Grant",
    "Included",
    "Match",
    "Plan",
    "Policy",
    "PriceRates",
    "UnitRates",
    "UserPolicy",
]


class Included(PolicyObject):
    """The allowance of a plan, issued afresh each period, in `unit`: dollars for `usd` and `billed`."""

    amount: Number
    unit: Text = "usd"
    per: Per = ("user",)
    window: WindowText = "monthly"

    if TYPE_CHECKING:

        def __init__(self, *, amount: Decimal | int | str | float, **fields: Any) -> None: ...

    @classmethod
    def rules(cls, data: Mapping[str, Any]) -> Iterator[Finding]:
        return amount_rule("amount", data.get("unit", "usd"), data.get("amount"))


class Plan(PolicyObject):
    """A named set of caps, an included allowance, a price in USD.

    `billed` is what the plan's customers pay for a call: by the plan's own `prices` of models; for a model that is not
    among them, `usd` times `markup`.
    """

    price: Number | None = None
    included: Included | None = None
    caps: tuple[Cap, ...] = ()
    markup: Number | None = None
    prices: dict[Text, PriceRates] = Field(default_factory=dict)
    label: Text | None = None

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...

    @classmethod
    def rules(cls, data: Mapping[str, Any]) -> Iterator[Finding]:
        return list_rules(data.get("prices"))


class UserPolicy(PolicyObject):
    """What the document says of one user: the plan, changes of its caps by id, and caps of the user's own."""

    plan: Text | None = None
    caps: tuple[CapChange, ...] = ()

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...


class Grant(PolicyObject):
    """Credits in the unit of the user's plan, used after what is included: lower `priority` first, then expiry."""

    amount: Number
    id: Text | None = None
    until: AwareDatetime | None = None
    priority: Priority = 0

    if TYPE_CHECKING:

        def __init__(self, *, amount: Decimal | int | str | float, **fields: Any) -> None: ...

    @classmethod
    def rules(cls, data: Mapping[str, Any]) -> Iterator[Finding]:
        if readable(data.get("amount")) == 0:
            yield Finding("amount", "a grant of nothing", "more than 0")


class Alerts(PolicyObject):
    """At which shares of a limit an event is sent; 1 is the limit. Kept in rising order."""

    thresholds: Thresholds = (Decimal("0.5"), Decimal("0.8"), Decimal("0.95"), Decimal(1))

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...


class Failure(PolicyObject):
    """What holds while something is missing: the backend, a settle, a price, an identity.

    `offline_share` is of each meter's limit, `offline_allowance` USD in all, both per process and outage. `deadline` is
    in seconds. `ceiling` is the price at which models without a known one are held and charged.
    """

    backend: OpenOrClosed = "open"
    offline_share: Share = Decimal("0.02")
    offline_allowance: Number = Decimal(10)
    deadline: Deadline = Decimal("0.25")
    on_expiry: Literal["charge_expected", "release"] = "charge_expected"
    unknown_model: Literal["deny", "ceiling", "allow"] = "ceiling"
    ceiling: PriceRates = PriceRates(input=15, output=75)
    missing_identity: Literal["deny", "anonymous"] = "deny"

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...


class EstimateDefaults(PolicyObject):
    """What is held when a call does not say: `output` tokens where it names no output limit.

    `share` is the most of a cap's limit that one call holds for an output limit above what such calls usually need.
    `strict` puts the output that is held into the call as its output limit, so that it cannot cost more.
    """

    output: Tokens = 1024
    share: Share = Decimal("0.5")
    strict: Flag = False


class Policy(PolicyObject):
    """A whole policy. Raises `PolicyError` with every finding, those between its parts among them.

    `caps` apply to every call that matches; `users` by id; `downgrade` from patterns of models to a cheaper model;
    `curated_downgrades` adds the siblings that capguard knows where that table says nothing;
    `deployments` from names of one's own to the model behind them; `prices` by model; `units` by name, then by patterns
    of models.
    """

    timezone: Zone = "UTC"
    default_plan: Text | None = None
    plans: dict[Text, Plan] = Field(default_factory=dict)
    caps: tuple[Cap, ...] = ()
    users: dict[Text, UserPolicy] = Field(default_factory=dict)
    downgrade: dict[Text, Text] = Field(default_factory=dict)
    curated_downgrades: Flag = False
    deployments: dict[Text, Text] = Field(default_factory=dict)
    prices: dict[Text, PriceRates] = Field(default_factory=dict)
    units: dict[Text, dict[Text, UnitRates]] = Field(default_factory=dict)
    alerts: Alerts = Alerts()
    failure: Failure = Failure()
    estimate: EstimateDefaults = EstimateDefaults()

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...

    @classmethod
    def rules(cls, data: Mapping[str, Any]) -> Iterator[Finding]:
        return document_findings(data)
