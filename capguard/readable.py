"""Times and amounts as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from capguard.ledger.windows import FOREVER_MS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(ms: int) -> datetime | None:
    """Milliseconds since the epoch as an aware datetime; None for never."""
    return None if ms >= FOREVER_MS else _EPOCH + timedelta(milliseconds=ms)


def plain(amount: Decimal) -> str:
    """An amount as text for JSON: 0.000000001, never 1E-9."""
    return format(amount, "f")
