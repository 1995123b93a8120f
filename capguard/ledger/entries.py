"""What the entry that made a reservation says, in every journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capguard.ledger.caps import Leg
from capguard.ledger.outcomes import Made


def body_of(made: Made, shares: tuple[int, ...], ttl_ms: int) -> dict[str, Any]:
    """The body: what was made, what it put on each meter, and for how long it was to be held."""
    return {**made._asdict(), "shares": shares, "ttl_ms": ttl_ms}


def read_body(body: Mapping[str, Any]) -> tuple[Made, tuple[int, ...]]:
    """What was made and what it put on each meter, out of such a body, which may come from JSON."""
    fields = {name: value for name, value in body.items() if name not in ("shares", "ttl_ms")}
    fields["legs"] = tuple([Leg(*leg) for leg in fields["legs"]])
    fields["sources"] = tuple([Leg(*leg) for leg in fields["sources"]])
    fields["thresholds"] = tuple(fields["thresholds"])
    return Made(**fields), tuple(body["shares"])
