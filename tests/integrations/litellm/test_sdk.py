"""The rest of what the SDK wrapper promises: who calls, caches, clamps, layers, images, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import litellm
import openai
import pytest

from capguard import CapExceeded, Guard, IdentityMissing, capped, identify
from capguard.default import default_is
from capguard.integrations.litellm import CappedLiteLLM, host
from capguard.integrations.litellm.bounded import Bounded
from capguard.integrations.litellm.failures import nothing_billed
from capguard.integrations.openai import cap
from capguard.testing.provider import Served
from tests.integrations.litellm.paths import MESSAGES, PRICES, TARGETS, every_target, inside, router_to
from tests.kit import held, kinds, last, spent

Opened = Callable[..., Guard]

POLICY: dict[str, Any] = {"prices": PRICES, "caps": [{"id": "monthly", "limit": 5}]}


@pytest.fixture
def fake(fake: Served) -> Served:
    fake.provider.set(input_tokens=10, output_tokens=20)
    return fake


def chat(fake: Served, **more: Any) -> dict[str, Any]:
    ask = {"model": "openai/big", "messages": MESSAGES, "max_tokens": 20, "max_retries": 0}
    return {**ask, "api_base": fake.url, "api_key": "any", **more}


@pytest.mark.parametrize(
    ("said", "user", "plan"),
    [
        ({"identity": {"user": "i", "plan": "p"}, "user": "u", "metadata": {"capguard": {"user": "m"}}}, "i", "p"),
        ({"user": "u", "metadata": {"capguard": {"user": "m", "plan": "q"}}}, "u", "q"),
        ({"metadata": {"capguard": {"user": "m"}}}, "m", "context"),
        ({"litellm_metadata": {"capguard": {"user": "m"}}}, "m", "context"),
        ({"metadata": {"user": "not ours"}}, "context", "context"),
        ({}, "context", "context"),
    ],
)
def test_who_calls(said: dict[str, Any], user: str, plan: str, fake: Served, opened: Opened):
    """`identity=` over `user=` over metadata over `identify`, field by field."""
    plans = {name: {"caps": []} for name in ("p", "q", "context")}
    guard = opened({**POLICY, "plans": plans})
    with identify(user="context", plan="context"):
        CappedLiteLLM(guard).completion(**chat(fake), **said)
    reserve = next(guard.entries())
    assert (reserve.user, reserve.body["identity"]["plan"]) == (user, plan)


def test_nobody_calls(fake: Served, opened: Opened):
    """A cap per user applies and nobody is named: nothing is sent."""
    with pytest.raises(IdentityMissing):
        CappedLiteLLM(opened(POLICY)).completion(**chat(fake))
    assert fake.provider.calls == 0


def test_the_guard_of_the_process(fake: Served, opened: Opened):
    """Without one of its own, the wrapper uses that of `configure`."""
    guard = opened(POLICY)
    with default_is(guard):
        CappedLiteLLM().completion(**chat(fake, user="u1"))
    assert spent(guard) == Decimal("0.0005")


@pytest.mark.parametrize("stream", [False, True])
def test_cache_hits_cost_nothing(stream: bool, fake: Served, opened: Opened, monkeypatch: pytest.MonkeyPatch):
    """What LiteLLM's cache answers is booked at 0 and flagged, so that it is counted apart."""
    from litellm.caching.caching import Cache

    monkeypatch.setattr(litellm, "cache", Cache(type="local"))
    guard = opened(POLICY)
    capped_litellm = CappedLiteLLM(guard)
    for _ in range(2):
        reply = capped_litellm.completion(**chat(fake, user="u1", stream=stream))
        if stream:
            assert list(reply)
    assert fake.provider.calls == 1
    assert kinds(guard) == ["reserve", "settle"] * 2
    assert (last(guard).cost, last(guard).amounts["tokens"], last(guard).flags) == (0, 0, ("cache_hit",))
    assert (spent(guard), held(guard)) == (Decimal("0.0005"), 0)


@pytest.mark.parametrize(
    ("function", "ask", "limit"),
    [
        ("completion", {"messages": MESSAGES, "max_tokens": 1000}, "max_tokens"),
        ("completion", {"messages": MESSAGES, "max_completion_tokens": 1000}, "max_completion_tokens"),
        ("completion", {"messages": MESSAGES}, "max_tokens"),
        ("text_completion", {"prompt": "Say something.", "max_tokens": 1000}, "max_tokens"),
        ("responses", {"input": "Say something.", "max_output_tokens": 1000}, "max_output_tokens"),
        ("responses", {"input": "Say something."}, "max_output_tokens"),
    ],
)
@every_target
def test_clamped(target: str, function: str, ask: dict[str, Any], limit: str, fake: Served, opened: Opened):
    """The output limit is lowered to what fits, under the name that the function knows."""
    if function == "responses":
        pytest.importorskip("mcp", reason="LiteLLM's responses need litellm[proxy]")
    guard = opened({"prices": PRICES, "caps": [{"id": "monthly", "limit": "0.003", "action": "clamp"}]})
    own = CappedLiteLLM(guard)
    to = {"api_base": fake.url, "api_key": "any", "user": "u1"}
    if target == "router":
        getattr(own.router(router_to(fake)), function)(model="big", user="u1", **ask)
    else:
        getattr(own, function)(model="openai/big", **to, **ask)
    body = fake.provider.requests[-1].body
    assert 64 <= body[limit] < 150
    assert body.keys() & {"max_tokens", "max_completion_tokens", "max_output_tokens"} == {limit}


def test_usage_that_nobody_asked_for_is_not_shown(fake: Served, opened: Opened):
    """A stream is made to report its usage; the extra chunk reaches only those who asked for it."""
    guard = opened(POLICY)
    own, asks = CappedLiteLLM(guard), {"stream_options": {"include_usage": True}}
    plain = list(own.completion(**chat(fake, user="u1", stream=True)))
    theirs = list(litellm.completion(**chat(fake, stream=True)))
    assert [chunk.choices[0].delta.content for chunk in plain] == [chunk.choices[0].delta.content for chunk in theirs]
    assert not any(getattr(chunk, "usage", None) for chunk in plain)
    asked = list(own.completion(**chat(fake, user="u1", stream=True, **asks)))
    assert asked[-1].usage.completion_tokens == 20
    assert isinstance(own.completion(**chat(fake, user="u1", stream=True)), litellm.CustomStreamWrapper)


def test_images_by_the_piece(fake: Served, opened: Opened):
    """`n` images are held and booked at `n` times the price of a request."""
    guard = opened(POLICY)
    ask = {"prompt": "x", "model": "openai/paint", "n": 3, "api_base": fake.url, "api_key": "any", "user": "u1"}
    CappedLiteLLM(guard).image_generation(**ask)
    assert [entry.cost for entry in guard.entries()] == [Decimal("0.006")] * 2


def test_nested_layers_charge_once(fake: Served, opened: Opened):
    """A capped function that calls the wrapper: one reservation, booked by the reply."""
    guard = opened(POLICY)
    own = CappedLiteLLM(guard)

    @capped(guard, user="user", model="model")
    def answer(user: str, model: str = "openai/big") -> Any:
        return own.completion(**chat(fake, model=model))

    assert answer("u1")
    assert (kinds(guard), spent(guard), held(guard)) == (["reserve", "settle"], Decimal("0.0005"), 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_capped_client_inside_charges_once(stream: bool, fake: Served, opened: Opened):
    """LiteLLM that is handed a client under caps: two layers, one reservation."""
    guard = opened(POLICY)
    with openai.OpenAI(base_url=fake.url, api_key="any", max_retries=0) as bare:
        ask = {"model": "openai/big", "messages": MESSAGES, "max_tokens": 20, "user": "u1", "stream": stream}
        reply = CappedLiteLLM(guard).completion(**ask, client=cap(bare, guard))
        assert list(reply) if stream else reply
    assert (fake.provider.calls, kinds(guard)) == (1, ["reserve", "settle"])
    assert (spent(guard), held(guard)) == (Decimal("0.0005"), 0)


@every_target
def test_a_stream_that_outgrows_its_hold_asks_for_more(target: str, fake: Served, opened: Opened):
    """As everywhere: the provider went on beyond the call's limit."""
    fake.provider.set(output_tokens=200)
    guard = opened(POLICY)
    ask = {"model": "big", "messages": MESSAGES, "max_tokens": 20, "user": "u1", "stream": True}
    assert list(TARGETS[target](guard, fake).completion(**ask))
    assert kinds(guard)[0] == "reserve"
    assert set(kinds(guard)[1:-1]) == {"extend"}
    assert (spent(guard), held(guard)) == (Decimal("0.0041"), 0)


@inside
def test_positional_arguments(fake: Served, opened: Opened):
    """As LiteLLM takes them."""
    guard = opened(POLICY)
    more = {"api_base": fake.url, "api_key": "any", "user": "u1"}
    assert CappedLiteLLM(guard).completion("openai/big", MESSAGES, **more)
    assert CappedLiteLLM(guard).router(router_to(fake)).completion("big", MESSAGES, user="u1")
    assert kinds(guard) == ["reserve", "settle"] * 2
    with pytest.raises(TypeError, match="got model twice"):
        CappedLiteLLM(guard).completion("openai/big", model="openai/big")


@pytest.mark.parametrize(
    "make", [CappedLiteLLM, pytest.param(lambda guard: CappedLiteLLM(guard).router(router_to_none()), marks=inside)]
)
def test_what_is_not_capped_is_not_there(make: Callable[[Guard], Any], opened: Opened):
    """A call that would go past every cap is an error, not a hole."""
    with pytest.raises(AttributeError, match="capped are completion, text_completion"):
        make(opened(POLICY)).speech(model="tts-1", input="x", voice="alloy")


def router_to_none() -> litellm.Router:
    return litellm.Router(model_list=[])


def test_bad_arguments_say_what_is_allowed(fake: Served, opened: Opened):
    """Before anything is sent."""
    own = CappedLiteLLM(opened(POLICY))
    for wrong, message in (
        ({"max_tokens": "many"}, "max_tokens: 'many' is refused; allowed: a whole number"),
        ({"user": 7}, "user: int is not text"),
        ({"identity": {"usr": "x"}}, "identity: unknown field 'usr'"),
    ):
        with pytest.raises(ValueError, match=message):
            own.completion(**{**chat(fake, user="u1"), **wrong})
    assert fake.provider.calls == 0


def test_a_function_that_vanished_is_loud(opened: Opened, monkeypatch: pytest.MonkeyPatch):
    """A LiteLLM without what the caps hang on is refused when the wrapper is made, not when a bill comes."""
    monkeypatch.setattr(litellm, "embedding", None)
    with pytest.raises(RuntimeError, match=r"the package of litellm [\d.]+ has no embedding, which capguard's caps"):
        CappedLiteLLM(opened(POLICY))


@inside
def test_a_hook_that_vanished_is_loud(opened: Opened, monkeypatch: pytest.MonkeyPatch):
    from litellm.integrations.custom_logger import CustomLogger

    from capguard.integrations.litellm import CapguardCallback

    monkeypatch.setattr(CustomLogger, "async_log_success_event", None)
    monkeypatch.delattr(CapguardCallback, "async_log_success_event")
    with pytest.raises(RuntimeError, match=r"CustomLogger of litellm .* has no async_log_success_event"):
        CapguardCallback(opened(POLICY))


@inside
def test_a_router_without_its_engine_is_loud(opened: Opened):
    with pytest.raises(RuntimeError, match=r"the Router of litellm .* has no async_get_available_deployment"):
        CappedLiteLLM(opened(POLICY)).router(object())


def test_a_litellm_that_calls_past_the_caps_is_refused(opened: Opened, monkeypatch: pytest.MonkeyPatch):
    """Older ones retry past a callback, and repeat a Router's broken stream without end."""
    from capguard.integrations.litellm import CapguardCallback

    monkeypatch.setattr(host, "version", lambda _: "1.105.0")
    for make in (CapguardCallback, lambda guard: CappedLiteLLM(guard).router(router_to_none())):
        with pytest.raises(
            RuntimeError, match=r"litellm 1.105.0 makes calls that no cap can see; allowed: litellm 1.106"
        ):
            make(opened(POLICY))


def behind(error: Exception, *chain: BaseException) -> Exception:
    """`error` as LiteLLM raises it: with what happened before in its context."""
    current: BaseException = error
    for each in chain:
        current.__context__ = each
        current = each
    return error


def disguised() -> Exception:
    return litellm.InternalServerError("x", "openai", "m")


def api_status(status: int) -> Exception:
    import httpx

    response = httpx.Response(status, request=httpx.Request("POST", "http://x"))
    return openai.APIStatusError("x", response=response, body=None)


def network(name: str) -> Exception:
    import httpx

    made: Exception = getattr(httpx, name)("x")
    return made


@pytest.mark.parametrize(
    ("error", "unbilled"),
    [
        (behind(disguised(), api_status(500)), True),
        (behind(disguised(), network("ConnectError")), True),
        (behind(disguised(), openai.APIConnectionError(request=None), network("ConnectTimeout")), True),  # type: ignore[arg-type]
        (behind(disguised(), openai.APIConnectionError(request=None), network("RemoteProtocolError")), False),  # type: ignore[arg-type]
        (behind(litellm.Timeout("x", "m", "openai"), network("ReadTimeout")), False),
        (behind(litellm.Timeout("x", "m", "openai"), network("ConnectTimeout")), True),
        (behind(litellm.APIConnectionError("x", "openai", "m"), ValueError("garbage in a reply")), False),
        (litellm.APIConnectionError("x", "openai", "m"), False),
        (disguised(), False),
        (litellm.BadRequestError("no such provider", "m", "x"), True),
        (litellm.Timeout("x", "m", "openai"), False),
        (api_status(429), True),
        (ValueError("theirs"), False),
    ],
    ids=str,
)
def test_what_an_error_proves(error: Exception, unbilled: bool):
    """LiteLLM gives status 500 to dropped and to refused connections: what is behind it decides."""
    assert nothing_billed(error) is unbilled


def test_a_cap_is_no_provider_error(fake: Served, opened: Opened):
    """CapExceeded is none of the classes that LiteLLM's users retry on."""
    guard = opened({"prices": PRICES, "caps": [{"id": "monthly", "limit": "0.0000001"}]})
    with pytest.raises(CapExceeded) as refused:
        CappedLiteLLM(guard).completion(**chat(fake, user="u1"))
    assert not isinstance(refused.value, openai.OpenAIError)


def test_what_is_remembered_is_bounded():
    """Only the last ones are remembered, and each is given away once."""
    kept = Bounded[int](most=2)
    assert [kept.put(each, number) for number, each in enumerate("abc")] == [[], [], ["a"]]
    assert [kept.get(each) for each in "abc"] == [None, 1, 2]
    assert ([kept.take("b"), kept.take("b")], len(kept)) == ([1, None], 1)
