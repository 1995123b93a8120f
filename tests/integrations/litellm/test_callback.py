"""The callback: async calls of the SDK and of a Router are capped with no call site changed."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import litellm
import openai
import pytest

from capguard import BackendUnavailable, CapExceeded, Guard, IdentityMissing, capped, identify
from capguard.integrations.litellm import CapguardCallback, CappedLiteLLM
from capguard.integrations.litellm.refusals import lasting
from capguard.testing import ManualClock
from capguard.testing.provider import Served
from tests.integrations.litellm.paths import DOWNGRADE, MESSAGES, PRICES, Path, every_async, router_to
from tests.kit import held, kinds, last, spent

Opened = Callable[..., Guard]

POLICY: dict[str, Any] = {"prices": PRICES, "caps": [{"id": "monthly", "limit": 5}]}
TIGHT: dict[str, Any] = {"prices": PRICES, "caps": [{"id": "monthly", "limit": "0.0000001"}]}
DOWN: dict[str, Any] = {
    "prices": PRICES,
    "caps": [{"id": "down", "limit": "0.0000001", "action": "downgrade"}],
    "downgrade": DOWNGRADE,
}
CALL: dict[str, Any] = {"model": "openai/big", "messages": MESSAGES, "max_tokens": 20, "user": "u1"}


@pytest.fixture
def fake(fake: Served) -> Served:
    fake.provider.set(input_tokens=10, output_tokens=20, chunk_tokens=5)
    return fake


class Bare:
    """LiteLLM's own functions, towards the fake provider."""

    def __init__(self, fake: Served):
        self._to = {"api_base": fake.url, "api_key": "any", "max_retries": 0}

    def __getattr__(self, name: str) -> Any:
        return lambda *, model, **kwargs: getattr(litellm, name)(model=f"openai/{model}", **self._to, **kwargs)


TARGETS: dict[str, Callable[[Served], Any]] = {"sdk": Bare, "router": router_to}
every_target = pytest.mark.parametrize("target", TARGETS)


def installed(guard: Guard) -> CapguardCallback:
    callback = CapguardCallback(guard)
    litellm.callbacks = [callback]
    return callback


@every_target
@every_async
async def test_allowed(target: str, path: Path, fake: Served, opened: Opened):
    """A plain call is booked when it returns; a stream when LiteLLM tells of its end. Once."""
    guard = opened(POLICY)
    callback = installed(guard)
    assert await path.run(TARGETS[target](fake))
    if path.stream:
        await callback.aflush()
    assert fake.provider.calls == 1
    assert kinds(guard) == ["reserve", "settle"]
    assert (last(guard).user, held(guard)) == ("u1", 0)
    assert abs(last(guard).cost - Decimal(path.cost)) <= Decimal("0.0003"), "without usage a stream is counted"


@every_target
@every_async
async def test_blocked(target: str, path: Path, fake: Served, opened: Opened):
    """The caller sees a CapExceeded, one call is refused once, and `num_retries` does not step over it."""
    guard = opened(TIGHT)
    installed(guard)
    denied: list[Any] = []
    guard.on("denied", denied.append)
    with pytest.raises(CapExceeded) as refused:
        await path.run(TARGETS[target](fake), num_retries=2)
    assert refused.value.cap.id == "monthly"
    assert (fake.provider.calls, kinds(guard), len(denied)) == (0, [], 1)


@every_target
@every_async
async def test_downgraded(target: str, path: Path, fake: Served, opened: Opened):
    """The hook puts the cheaper model in."""
    guard = opened(DOWN)
    callback = installed(guard)
    await path.run(TARGETS[target](fake))
    await callback.aflush()
    assert [seen.body["model"] for seen in fake.provider.requests] == [path.cheaper]
    assert (next(guard.entries()).model, held(guard, "down")) == (f"openai/{path.cheaper}", 0)


@every_target
@every_async
async def test_failed(target: str, path: Path, fake: Served, opened: Opened, clock: ManualClock):
    """What the provider refused is released before the caller sees the error."""
    fake.provider.set(fail_status=500)
    guard = opened(POLICY)
    installed(guard)
    with pytest.raises(openai.APIError):
        await path.run(TARGETS[target](fake))
    if str(path) == "atext_completion-stream":  # of which LiteLLM tells no hook: its expiry ends it
        clock.advance(minutes=5)
        assert guard.check(**CALL)
        assert (kinds(guard), held(guard)) == (["reserve", "expire"], 0)
        return
    assert (kinds(guard), held(guard)) == (["reserve", "release"], 0)


@every_target
@pytest.mark.parametrize("how", ["abandoned", "cancelled"])
async def test_left_alone(target: str, how: str, fake: Served, opened: Opened, clock: ManualClock):
    """LiteLLM tells nobody of a stream that its reader leaves, nor of a cancelled call: their expiry books them."""
    guard = opened(POLICY)
    installed(guard)
    bare = TARGETS[target](fake)
    call = {**CALL, "model": "big"}
    if how == "abandoned":
        stream = await bare.acompletion(**call, stream=True)
        await anext(stream)
        await stream.aclose()
    else:
        fake.provider.set(latency=30)
        task = asyncio.create_task(bare.acompletion(**call))
        while not fake.provider.calls:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert held(guard) > 0
    clock.advance(minutes=5)
    assert guard.check(**CALL)
    assert (held(guard), spent(guard) > 0) == (0, True)


@pytest.mark.parametrize("stream", [False, True])
@every_target
async def test_fifty_at_once_on_room_for_four(target: str, stream: bool, fake: Served, opened: Opened):
    """Exactly four reach the provider, and the deployment stays warm for others."""
    guard = opened({"prices": PRICES, "caps": [{"id": "monthly", "limit": 4, "unit": "requests"}]})
    callback = installed(guard)
    bare = TARGETS[target](fake)

    async def one() -> bool:
        try:
            reply = await bare.acompletion(**{**CALL, "model": "big"}, stream=stream, num_retries=2)
            return bool([chunk async for chunk in reply] if stream else reply)
        except CapExceeded:
            return False

    assert sum(await asyncio.gather(*(one() for _ in range(50)))) == 4
    await callback.aflush()
    assert (fake.provider.calls, held(guard)) == (4, 0)
    assert await bare.acompletion(**{**CALL, "model": "big", "user": "u2"})


async def test_failures_are_retried_within_the_hold(fake: Served, opened: Opened):
    """LiteLLM's own retry would step past the hook: the provider's client does it instead."""
    fake.provider.set(fail_first=2)
    guard = opened(POLICY)
    installed(guard)
    assert await litellm.acompletion(**CALL, api_base=fake.url, api_key="any", num_retries=2)
    assert fake.provider.calls == 3
    assert (kinds(guard), last(guard).cost) == (["reserve", "settle"], Decimal("0.0005"))


async def test_no_retry_goes_past_the_hold(fake: Served, opened: Opened):
    """Once the client's own retries are used up, LiteLLM does not try again without the hook."""
    fake.provider.set(fail_first=3)
    guard = opened(POLICY)
    installed(guard)
    with pytest.raises(openai.InternalServerError):
        await litellm.acompletion(**CALL, api_base=fake.url, api_key="any", num_retries=2)
    assert fake.provider.calls == 3
    assert (kinds(guard), held(guard)) == (["reserve", "release"], 0)


async def test_router_retries_are_held_one_by_one(fake: Served, opened: Opened):
    """Each attempt passes the hook."""
    fake.provider.set(fail_first=1)
    guard = opened(POLICY)
    installed(guard)
    assert await router_to(fake, num_retries=1, retry_after=0).acompletion(**{**CALL, "model": "big"})
    assert kinds(guard) == ["reserve", "release", "reserve", "settle"]


@pytest.mark.parametrize("name", ["completion", "embedding", "text_completion", "image_generation"])
def test_sync_calls_are_booked_and_said_to_be_out_of_reach(
    name: str, fake: Served, opened: Opened, caplog: pytest.LogCaptureFixture
):
    """No callback can block them: they are booked, over the limit too, and the log says once how to cap them."""
    path = next(path for path in _sync_paths() if path.name == name)
    guard = opened(TIGHT)
    callback = installed(guard)
    with caplog.at_level(logging.WARNING, "capguard"):
        for _ in range(2):
            asyncio.run(path.run(Bare(fake)))
    _until(lambda: kinds(guard).count("settle") == 2)
    assert (fake.provider.calls, held(guard)) == (2, 0)
    assert caplog.text.count("cannot block sync calls") == 1
    assert "CappedLiteLLM" in caplog.text
    if name in ("completion", "embedding"):
        assert spent(guard) == 2 * Decimal(path.cost)
    assert callback.guard is guard


def test_sync_responses_come_past_the_hook(fake: Served, opened: Opened):
    """LiteLLM runs them through its async function: they are held and booked."""
    guard = opened(POLICY)
    installed(guard)
    path = next(path for path in _sync_paths() if path.name == "responses" and not path.stream)
    asyncio.run(path.run(Bare(fake)))
    _until(lambda: "settle" in kinds(guard))
    assert (kinds(guard), held(guard)) == (["reserve", "settle"], 0)


def _sync_paths() -> list[Path]:
    from tests.integrations.litellm.paths import PATHS

    return [path for path in PATHS if not path.is_async]


def _until(true: Callable[[], bool]) -> None:
    """LiteLLM books sync calls in a thread of its own."""
    import time

    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("nothing was booked within 10 s")


@pytest.mark.parametrize("stream", [False, True])
async def test_callback_and_wrapper_charge_once(stream: bool, fake: Served, opened: Opened):
    """Whoever comes first: the wrapper's calls are not the callback's."""
    guard = opened(POLICY)
    callback = installed(guard)
    capped_litellm = CappedLiteLLM(guard)
    to = {"api_base": fake.url, "api_key": "any"}
    reply = await capped_litellm.acompletion(**CALL, **to, stream=stream)
    if stream:
        assert [chunk async for chunk in reply]
    assert await capped_litellm.router(router_to(fake)).acompletion(**{**CALL, "model": "big"})
    await callback.aflush()
    assert kinds(guard) == ["reserve", "settle"] * 2
    assert (spent(guard), held(guard)) == (Decimal("0.001"), 0)


async def test_an_outer_layer_is_taken_over(fake: Served, opened: Opened):
    """A function that is capped and calls LiteLLM, with the callback installed, is charged once."""
    guard = opened(POLICY)
    installed(guard)

    @capped(guard, user="user", model="model")
    async def answer(user: str, model: str = "openai/big") -> Any:
        return await litellm.acompletion(**{**CALL, "model": model}, api_base=fake.url, api_key="any")

    assert await answer("u1")
    assert kinds(guard) == ["reserve", "settle"]
    assert (spent(guard), held(guard)) == (Decimal("0.0005"), 0)


async def test_who_calls(fake: Served, opened: Opened):
    """The context is seen, `user=` and metadata win over it."""
    guard = opened(POLICY)
    installed(guard)
    to = {**CALL, "api_base": fake.url, "api_key": "any"}
    nobody = {name: value for name, value in to.items() if name != "user"}
    with identify(user="u2"):
        await litellm.acompletion(**to)
        await litellm.acompletion(**nobody)
        await litellm.acompletion(**nobody, metadata={"capguard": {"user": "u3"}})
    assert [entry.user for entry in guard.entries() if entry.kind == "settle"] == ["u1", "u2", "u3"]


async def test_a_call_without_a_user_is_refused(fake: Served, opened: Opened):
    """Other refusals stop the call as well, and keep their class."""
    guard = opened(POLICY)
    installed(guard)
    nobody = {name: value for name, value in CALL.items() if name != "user"}
    with pytest.raises(IdentityMissing):
        await litellm.acompletion(**nobody, api_base=fake.url, api_key="any", num_retries=2)
    assert fake.provider.calls == 0


async def test_positional_arguments(fake: Served, opened: Opened, caplog: pytest.LogCaptureFixture):
    """They are read; a model that is given by position cannot be rewritten: the cap lets it pass and says so once."""
    guard = opened(DOWN)
    installed(guard)
    for _ in range(2):
        await litellm.acompletion("openai/big", MESSAGES, user="u1", api_base=fake.url, api_key="any")
    assert [seen.body["model"] for seen in fake.provider.requests] == ["big", "big"]
    assert caplog.text.count("by position") == 1


def test_a_lasting_refusal_is_what_it_was(opened: Opened):
    """The same class, also after pickling; LiteLLM's retry leaves an ImportError alone."""
    with pytest.raises(CapExceeded) as refused:
        opened(TIGHT).reserve(**CALL)
    for error in (refused.value, BackendUnavailable("away"), IdentityMissing("who?")):
        made: Any = lasting(error)
        assert isinstance(made, type(error))
        assert isinstance(made, ImportError)
        again = pickle.loads(pickle.dumps(made))
        assert (type(again), str(again), again.status_code) == (type(made), str(error), 422)
    assert lasting(refused.value).caps == refused.value.caps  # type: ignore[attr-defined]


async def test_cache_hits(fake: Served, opened: Opened, monkeypatch: pytest.MonkeyPatch):
    """What LiteLLM's cache answers costs nothing and is flagged."""
    from litellm.caching.caching import Cache

    monkeypatch.setattr(litellm, "cache", Cache(type="local"))
    guard = opened(POLICY)
    callback = installed(guard)
    for _ in range(2):
        await litellm.acompletion(**CALL, api_base=fake.url, api_key="any")
        await asyncio.sleep(0.05)
        await callback.aflush()
    assert fake.provider.calls == 1
    assert (last(guard).cost, last(guard).flags, held(guard)) == (0, ("cache_hit",), 0)
