"""What a caller says about one call, checked: the arguments that call, reserve, check and the adapters share."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypedDict

from capguard.identity import Box, Identity, checked_name, context, identity_of
from capguard.ledger import units
from capguard.ledger.ids import minted, shard_of
from capguard.policy.document import Cap
from capguard.pricing.names import bare
from capguard.pricing.price import SERVICES
from capguard.pricing.prompt import Prompt
from capguard.pricing.usage import Usage

OUTPUT_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""The names under which hosts take the output limit; whichever the caller used comes back in `params`."""

_REASONS = re.compile(r"o[134](?:-|$)|gpt-5")  # OpenAI refuses max_tokens there

NO_NEEDS: frozenset[str] = frozenset()

MAX_ID = 200
MAX_TTL_S = 24 * 3600


class IdentityArgs(TypedDict, total=False):
    """Who is calling."""

    user: str | None
    plan: str | None
    org: str | None
    team: str | None
    key_id: str | None
    feature: str | None
    session: str | None
    tags: Mapping[str, str]
    identity: Identity | None


class CallArgs(IdentityArgs, total=False):
    """One call: `model` and what it is asked, or a `cost`, a `usage`, an `amount` of a `unit` that is known already."""

    model: str | None
    messages: Any
    prompt: Any
    input: Any
    system: Any
    tools: Any
    max_tokens: int | None
    max_completion_tokens: int | None
    max_output_tokens: int | None
    n: int | None
    service_tier: str | None
    cost: Any
    usage: Usage | None
    amount: Any
    unit: str
    caps: Sequence[Cap]
    id: str | None
    ttl: float | None


class Request(NamedTuple):
    """The checked arguments of one call, with the identity that the context completes."""

    id: str
    fingerprint: str
    identity: Identity
    model: str | None
    prompt: Prompt
    output_limit: tuple[str, int] | None
    n: int
    known: Mapping[str, int] | Usage | None
    caps: tuple[Cap, ...]
    ttl_ms: int | None
    rewritable: bool = True
    service: str | None = None

    @property
    def needs(self) -> frozenset[str]:
        """What the model must be able to do: `tools`, `vision`."""
        tools = {"tools"} if self.prompt.tools else set()
        images = {"vision"} if self.prompt.content.images else set()
        return frozenset(tools | images)

    def limit_name(self, model: str | None) -> str:
        """The caller's own name for the output limit, else the one that the model's API takes."""
        if self.output_limit is not None:
            return self.output_limit[0]
        if self.prompt.input is not None:
            return "max_output_tokens"
        return "max_completion_tokens" if _REASONS.match(bare(model or "")) else "max_tokens"

    @property
    def choices(self) -> int:
        """How many replies, each as long as the output limit allows, the call asks for."""
        return self.n * self.prompt.replies


def read_request(
    arguments: Mapping[str, Any],
    *,
    rewritable: bool = True,
    draws: bool = False,
    now_ms: int | None = None,
    shard_by: str = "",
) -> Request:
    """Check the arguments of one call and complete its identity from the context. Raises ValueError, TypeError.

    An id that is minted carries `now_ms`, by default the time of the system, and where the books are apart the shard.
    `draws`: the call asks for images.
    """
    if unknown := arguments.keys() - _ARGUMENTS:
        allowed = ", ".join(CallArgs.__annotations__)
        raise TypeError(f"unknown argument {', '.join(sorted(map(repr, unknown)))}; allowed: {allowed}")
    box = context()
    identity = read_identity(arguments, box)
    model = arguments.get("model")
    if model is not None:
        checked_name(model, "model")
    prompt = Prompt(**{name: arguments[name] for name in _PROMPT if name in arguments}, draws=draws)
    known = _known(arguments)
    if model is None and known is None and not prompt:
        raise ValueError("a call needs a model, or messages, prompt or input, or a cost, usage or amount")
    given = arguments.get("id")
    return Request(
        id=mint_id(now_ms, shard_of(getattr(identity, shard_by)) if shard_by else None)
        if given is None
        else checked_id(given),
        fingerprint="" if given is None else fingerprint(arguments, identity),
        identity=identity,
        model=model,
        prompt=prompt,
        output_limit=_output_limit(arguments),
        n=_n(arguments.get("n")),
        known=known,
        caps=_caps(box, arguments.get("caps")),
        ttl_ms=ttl_ms(arguments.get("ttl")),
        rewritable=rewritable,
        service=_service(arguments.get("service_tier")),
    )


def only_identity(arguments: Mapping[str, Any]) -> Identity:
    """The identity of a verb that takes nothing else. Raises ValueError, TypeError."""
    if unknown := arguments.keys() - IdentityArgs.__annotations__.keys():
        allowed = ", ".join(IdentityArgs.__annotations__)
        raise TypeError(f"unknown argument {', '.join(sorted(map(repr, unknown)))}; allowed: {allowed}")
    return read_identity(arguments)


def read_identity(arguments: Mapping[str, Any], box: Box | None = None) -> Identity:
    """Explicit fields over an `identity=` over the context's."""
    named = {name: arguments[name] for name in _IDENTITY if arguments.get(name) is not None}
    inherited = (box or context()).identity
    given = arguments.get("identity")
    if given is not None:
        inherited = identity_of(given).over(inherited)
    return Identity(**named).over(inherited) if named else inherited


def mint_id(now_ms: int | None = None, shard: int | None = None) -> str:
    """A new id that carries `now_ms`, by default the time of the system, and a shard."""
    return minted(time.time_ns() // 1_000_000 if now_ms is None else now_ms, os.urandom(10), shard)


def checked_id(value: object) -> str:
    """An idempotency key of the caller: 1 to 200 characters, as names are."""
    checked_name(value, "id")
    assert isinstance(value, str)
    if len(value) > MAX_ID:
        raise ValueError(f"id: {len(value)} characters; allowed: 1 to {MAX_ID}")
    return value


def fingerprint(arguments: Mapping[str, Any], identity: Identity) -> str:
    """A digest of what the caller asked, not of what was estimated: it tells a repeat from another call."""
    asked = {name: value for name, value in arguments.items() if name not in _NOT_ASKED and value is not None}
    text = json.dumps([asked, identity.to_dict()], sort_keys=True, default=repr, ensure_ascii=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


_ARGUMENTS = frozenset(CallArgs.__annotations__)
_IDENTITY = ("user", "plan", "org", "team", "key_id", "feature", "session", "tags")
_PROMPT = ("messages", "prompt", "input", "system", "tools")
_NOT_ASKED = {"id", "ttl", "caps", "identity", *_IDENTITY}


def _known(arguments: Mapping[str, Any]) -> Mapping[str, int] | Usage | None:
    """What the caller knows already: a usage, or amounts in integer parts."""
    cost, usage, amount = arguments.get("cost"), arguments.get("usage"), arguments.get("amount")
    if sum(each is not None for each in (cost, usage, amount)) > 1:
        raise ValueError("cost, usage and amount say the same thing: give one of them")
    if usage is not None:
        if not isinstance(usage, Usage):
            raise ValueError(f"usage: {type(usage).__name__} is not a capguard.Usage")
        return usage
    if cost is not None:
        return {"usd": units.parse("usd", cost, "cost")}
    if amount is not None:
        unit = checked_name(arguments.get("unit", "usd"), "unit")
        return {unit: units.parse(unit, amount, "amount")}
    return None


def _caps(box: Box, given: object) -> tuple[Cap, ...]:
    if given is None and not box.caps:
        return ()
    caps = (*box.caps, *(given if isinstance(given, (list, tuple)) else () if given is None else (given,)))
    for cap in caps:
        if not isinstance(cap, Cap):
            raise ValueError(f"caps: {type(cap).__name__} is not a capguard.Cap; allowed: a list of Caps")
    return caps


def _output_limit(arguments: Mapping[str, Any]) -> tuple[str, int] | None:
    given = [(name, arguments[name]) for name in OUTPUT_LIMITS if arguments.get(name) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(name for name, _ in given)} say the same thing: give one of them")
    if not given:
        return None
    name, value = given[0]
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"{name}: {value!r:.60} is refused; allowed: a whole number of tokens, 0 or more")
    return name, value


def _n(value: object) -> int:
    if value is None:
        return 1
    if type(value) is not int or not 1 <= value <= 1024:
        raise ValueError(f"n: {value!r:.60} is refused; allowed: 1 to 1024")
    return value


def _service(value: object) -> str | None:
    """The tier of service that has prices of its own; others, as `auto`, are held as the standard one."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"service_tier: {value!r:.60} is refused; allowed: {', '.join(SERVICES)}, or another text")
    return value if value in SERVICES else None


def tier_in(request: Mapping[str, Any]) -> dict[str, Any]:
    """The tier of service that a request to a provider asks for, as an argument of `reserve`."""
    tier = request.get("service_tier")
    return {"service_tier": tier} if isinstance(tier, str) else {}


def ttl_ms(value: object) -> int | None:
    """A time to live, seconds as a caller gives them, in milliseconds."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_TTL_S:
        raise ValueError(f"ttl: {value!r:.60} is refused; allowed: seconds, more than 0, at most {MAX_TTL_S}")
    return max(1, int(value * 1000))
