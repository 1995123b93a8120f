"""The ids of the calls that a wrapper charges, so that a callback of the same process leaves them alone."""

from __future__ import annotations

from typing import Final

from capguard.integrations.litellm.bounded import Bounded

COVERED: Final = Bounded[None](100_000)
"""One for the process, as LiteLLM's callbacks are: it hands a call's id to every hook, also long after the call."""
