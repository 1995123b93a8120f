"""Retries and fallbacks: each attempt is held at its own model's price, and is an entry of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import litellm
import openai
import pytest

from capguard import CapExceeded, Guard
from capguard.integrations.litellm import CappedLiteLLM
from capguard.testing.provider import Served, serve
from tests.integrations.litellm.paths import MESSAGES, PRICES, inside
from tests.kit import held, kinds, last

Opened = Callable[..., Guard]

POLICY = {"prices": PRICES, "caps": [{"id": "monthly", "limit": 5}]}
ROOM_FOR_SMALL = {"prices": PRICES, "caps": [{"id": "monthly", "limit": "0.0001"}]}
ASK: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 20, "user": "u1"}
SMALL = Decimal("0.00005")


@pytest.fixture(scope="module")
def second() -> Iterator[Served]:
    with serve() as served:
        yield served


@pytest.fixture
def dead(second: Served) -> Served:
    """Another provider, that fails."""
    second.provider.reset()
    second.provider.set(fail_status=500)
    return second


@pytest.fixture
def fake(fake: Served) -> Served:
    fake.provider.set(input_tokens=10, output_tokens=20)
    return fake


def to(provider: Served, model: str) -> dict[str, Any]:
    return {"model": f"openai/{model}", "api_base": provider.url, "api_key": "any", "max_retries": 0}


def router(fake: Served, dead: Served, **settings: Any) -> litellm.Router:
    params = {
        "dead": to(dead, "big"),
        "cheap": to(fake, "small"),
        "cheap-dead": to(dead, "small"),
        "dear": to(fake, "big"),
    }
    groups = [{"model_name": name, "litellm_params": each} for name, each in params.items()]
    return litellm.Router(model_list=groups, **{"num_retries": 0, "retry_after": 0, **settings})


async def run(way: str, capped: Any, **kwargs: Any) -> Any:
    """Sync or async, plain or streamed."""
    stream = {"stream": True} if "stream" in way else {}
    if way.startswith("async"):
        reply = await capped.acompletion(**kwargs, **stream)
        return [chunk async for chunk in reply] if stream else reply
    reply = capped.completion(**kwargs, **stream)
    return list(reply) if stream else reply


every_way = pytest.mark.parametrize("way", ["sync", "async", "sync stream", "async stream"])


def models(guard: Guard) -> list[tuple[str, str | None]]:
    """Every attempt: how it ended, and the model that it was held at."""
    entries = list(guard.entries())
    held_at = {entry.id: entry.model for entry in entries if entry.kind == "reserve"}
    return [(entry.kind, held_at[entry.id]) for entry in entries if entry.kind != "reserve"]


@every_way
async def test_sdk_fallback(way: str, fake: Served, dead: Served, opened: Opened):
    """The dead model's hold is dropped; the fallback that answers is booked at its own price."""
    guard = opened(POLICY)
    assert await run(
        way, CappedLiteLLM(guard), **to(dead, "big"), **ASK, fallbacks=[to(dead, "big"), to(fake, "small")]
    )
    assert models(guard) == [("release", "openai/big")] * 2 + [("settle", "openai/small")]
    assert (last(guard).cost, held(guard)) == (SMALL, 0)
    assert (dead.provider.calls, fake.provider.calls) == (2, 1)


@every_way
async def test_sdk_fallback_to_a_dear_model_is_gated(way: str, fake: Served, dead: Served, opened: Opened):
    """A fallback does not slip past the cap that its price would break."""
    guard = opened(ROOM_FOR_SMALL)
    with pytest.raises(CapExceeded):
        await run(way, CappedLiteLLM(guard), **to(dead, "small"), **ASK, fallbacks=[to(fake, "big")])
    assert (dead.provider.calls, fake.provider.calls) == (1, 0)
    assert kinds(guard) == ["reserve", "release"]


@every_way
async def test_sdk_refusal_ends_the_call(way: str, fake: Served, opened: Opened):
    """A cap is no failure: a fallback that would fit is not tried. Where a cheaper model may serve, a cap says so."""
    with pytest.raises(CapExceeded):
        await run(way, CappedLiteLLM(opened(ROOM_FOR_SMALL)), **to(fake, "big"), **ASK, fallbacks=[to(fake, "small")])
    assert fake.provider.calls == 0


@every_way
async def test_sdk_all_fail(way: str, dead: Served, opened: Opened):
    """The last model's own error comes out, and nothing is held or booked."""
    guard = opened(POLICY)
    with pytest.raises(openai.InternalServerError):
        await run(way, CappedLiteLLM(guard), **to(dead, "big"), **ASK, fallbacks=[to(dead, "small")])
    assert models(guard) == [("release", "openai/big"), ("release", "openai/small")]


def test_sdk_a_prompt_that_is_too_long_goes_to_the_larger_model(fake: Served, opened: Opened):
    """`context_window_fallback_dict` is followed, under caps."""
    guard = opened(POLICY)
    too_long = {"mock_response": litellm.ContextWindowExceededError("too long", "big", "openai")}
    larger = {"openai/big": "openai/small"}
    with pytest.raises(litellm.ContextWindowExceededError):  # the mock fails again: what counts is who was held
        CappedLiteLLM(guard).completion(**to(fake, "big"), **ASK, **too_long, context_window_fallback_dict=larger)
    assert [model for _, model in models(guard)] == ["openai/big", "openai/small"]


def test_sdk_global_fallbacks_are_refused(fake: Served, opened: Opened, monkeypatch: pytest.MonkeyPatch):
    """LiteLLM would run them inside one call, past the caps."""
    monkeypatch.setattr(litellm, "model_fallbacks", ["small"])
    with pytest.raises(ValueError, match=r"litellm.model_fallbacks: cannot be capped; allowed: fallbacks="):
        CappedLiteLLM(opened(POLICY)).completion(**to(fake, "big"), **ASK)


@every_way
async def test_sdk_num_retries(way: str, fake: Served, opened: Opened):
    """Retries within LiteLLM are one booking: what failed before was not billed."""
    fake.provider.set(fail_first=1)
    guard = opened(POLICY)
    assert await run(way, CappedLiteLLM(guard), **(to(fake, "small") | {"max_retries": None}), **ASK, num_retries=2)
    assert fake.provider.calls == 2
    assert kinds(guard) == ["reserve", "settle"]
    assert (last(guard).cost, held(guard)) == (SMALL, 0)


@every_way
@inside
async def test_router_retries(way: str, fake: Served, dead: Served, opened: Opened):
    """Every attempt of the Router is held anew; those that failed are dropped."""
    fake.provider.set(fail_first=2)
    guard = opened(POLICY)
    capped = CappedLiteLLM(guard).router(router(fake, dead, num_retries=2))
    assert await run(way, capped, model="cheap", **ASK)
    assert models(guard) == [("release", "openai/small")] * 2 + [("settle", "openai/small")]
    assert (fake.provider.calls, held(guard)) == (3, 0)


@every_way
@inside
async def test_router_fallback(way: str, fake: Served, dead: Served, opened: Opened):
    """The group that answers is booked at the price of its own deployment."""
    guard = opened(POLICY)
    capped = CappedLiteLLM(guard).router(router(fake, dead, fallbacks=[{"dead": ["cheap"]}]))
    assert await run(way, capped, model="dead", **ASK)
    assert models(guard) == [("release", "openai/big"), ("settle", "openai/small")]
    assert (last(guard).cost, held(guard)) == (SMALL, 0)


@every_way
@inside
async def test_router_fallback_to_a_dear_model_is_gated(way: str, fake: Served, dead: Served, opened: Opened):
    """The refusal comes out as it is, and nothing dear is called."""
    guard = opened(ROOM_FOR_SMALL)
    capped = CappedLiteLLM(guard).router(router(fake, dead, fallbacks=[{"cheap-dead": ["dear"]}]))
    with pytest.raises(CapExceeded) as refused:
        await run(way, capped, model="cheap-dead", **ASK)
    assert type(refused.value) is CapExceeded
    assert fake.provider.calls == 0


@every_way
@inside
async def test_router_refusal_ends_the_call(way: str, fake: Served, dead: Served, opened: Opened):
    """No retry, no fallback, and no deployment is cooled down for the others."""
    guard = opened(ROOM_FOR_SMALL)
    theirs = router(fake, dead, num_retries=3, fallbacks=[{"dear": ["cheap"]}])
    denied: list[Any] = []
    guard.on("denied", denied.append)
    with pytest.raises(CapExceeded):
        await run(way, CappedLiteLLM(guard).router(theirs), model="dear", **ASK)
    assert len(denied) == 1
    assert await run(way, theirs, model="dear", **ASK), "others still reach the deployment"
    assert fake.provider.calls == 1


@inside
async def test_router_downgrade_without_such_a_deployment(
    fake: Served, dead: Served, opened: Opened, caplog: pytest.LogCaptureFixture
):
    """Where no deployment serves the cheaper model, the cap lets the call pass, and says so once."""
    down = {"id": "down", "limit": "0.0000001", "action": "downgrade"}
    guard = opened({"prices": PRICES, "caps": [down], "downgrade": {"big": "tiny"}})
    capped = CappedLiteLLM(guard).router(router(fake, dead))
    for _ in range(2):
        assert await capped.acompletion(model="dear", **ASK)
    assert [seen.body["model"] for seen in fake.provider.requests] == ["big", "big"]
    assert caplog.text.count("no deployment of the Router serves openai/tiny") == 1
    assert held(guard, "down") == 0


@inside
def test_router_called_in_a_running_loop(fake: Served, dead: Served, opened: Opened):
    """Sync calls work in async code too, and know who calls."""
    import asyncio

    from capguard import identify

    guard = opened(POLICY)
    capped = CappedLiteLLM(guard).router(router(fake, dead))
    ask = {name: value for name, value in ASK.items() if name != "user"}

    async def main() -> None:
        with identify(user="u2"):
            assert capped.completion(model="cheap", **ask)

    asyncio.run(main())
    assert last(guard).user == "u2"


@inside
@pytest.mark.parametrize("where", ["model_info", "litellm_params"])
def test_router_prices_a_deployment_by_its_base_model(where: str, fake: Served, opened: Opened):
    """A deployment may bear any name at its host."""
    guard = opened(POLICY)
    entry: dict[str, Any] = {"model_name": "mine", "litellm_params": to(fake, "our-own-name"), "model_info": {}}
    entry[where]["base_model"] = "openai/big"
    CappedLiteLLM(guard).router(litellm.Router(model_list=[entry])).completion(model="mine", **ASK)
    assert [seen.body["model"] for seen in fake.provider.requests] == ["our-own-name"]
    assert (models(guard), last(guard).cost) == ([("settle", "openai/big")], Decimal("0.0005"))
