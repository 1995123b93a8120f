"""What a plugin can add to capguard. Packages register under the entry-point group `capguard`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from capguard.backends.base import Backend, Clock
    from capguard.events import Event
    from capguard.pricing.counters import TokenCounter
    from capguard.pricing.sources import PriceSource

GROUP = "capguard"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec(firstresult=True)
def capguard_backend(url: object, namespace: str, clock: Clock) -> Backend | None:
    """Open the backend behind `url`; None for a scheme that this plugin does not serve.

    `url` is text, or a client object that an application has made already.
    """


@hookspec(firstresult=True)
def capguard_prices(source: str) -> PriceSource | None:
    """The price list that `Guard(prices=source)` names; None for a name that this plugin does not know."""


@hookspec(firstresult=True)
def capguard_token_counter(model: str) -> TokenCounter | None:
    """What counts the tokens of `model`; None for models that capguard shall count. Asked once for each model."""


@hookspec
def capguard_event(event: Event) -> None:
    """Told of every event, after the fact, in the thread of the call. What it raises is logged and counted."""
