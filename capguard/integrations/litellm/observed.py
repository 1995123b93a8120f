"""Sync calls, which a callback only learns of when they are over: booked for what they cost, over a limit or not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from capguard.arguments import read_request
from capguard.call import Call
from capguard.errors import CapguardError
from capguard.guard import Guard
from capguard.identity import Identity
from capguard.integrations.litellm import host
from capguard.integrations.litellm.functions import FUNCTIONS
from capguard.pricing.fields import get
from capguard.pricing.responses import read_usage
from capguard.pricing.usage import Usage

log = logging.getLogger("capguard")


def is_sync(kwargs: Mapping[str, Any]) -> bool:
    """Whether an event tells of a sync function."""
    return kwargs.get("call_type") in FUNCTIONS


def book(guard: Guard, kwargs: Mapping[str, Any], reply: Any, identity: Identity) -> None:
    """Book a call that was made without asking. What is beyond a limit is overrun."""
    usage = read_usage(reply) or _told_by_litellm(kwargs)
    asks = {"model": host.full_name(kwargs), "identity": identity, "usage": Usage(requests=0)}
    try:
        call = Call(guard, read_request(asks, rewritable=False))
        call.begin()  # of nothing: every cap has room for it
        if kwargs.get("cache_hit") is True:
            call.answered_from_cache()
        elif usage is not None:
            call.settle(usage=usage)
        else:
            log.error("capguard: %s: a sync call of %s reported no usage; its cost is not known", call.id, call.model)
        call.finish()
    except (CapguardError, ValueError) as error:
        log.error("capguard: a sync call of %s is not booked: %s", kwargs.get("model"), error)


def arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What an event tells of the arguments that name the caller."""
    params, optional = kwargs.get("litellm_params") or {}, kwargs.get("optional_params") or {}
    user = kwargs.get("user") or optional.get("user")
    return {**params, "user": user or None}


def _told_by_litellm(kwargs: Mapping[str, Any]) -> Usage | None:
    """The tokens that LiteLLM counted for its own log, where the reply tells none."""
    told = kwargs.get("standard_logging_object")
    counted = {"input_tokens": get(told, "prompt_tokens"), "output_tokens": get(told, "completion_tokens")}
    return Usage(**counted) if told and any(counted.values()) else None
