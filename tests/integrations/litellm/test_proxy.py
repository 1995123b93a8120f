"""The real proxy process, driven by the official clients of OpenAI and Anthropic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import uuid4

import anthropic
import openai
import pytest

from capguard.testing.provider import Served, serve
from tests.integrations.litellm.proxy_process import Proxy, running, until

for needed in ("fastapi", "mcp", "apscheduler", "websockets"):
    pytest.importorskip(needed, reason="the proxy needs litellm[proxy]")

pytestmark = pytest.mark.timeout(400)

POLICY: dict[str, Any] = {
    "failure": {"deadline": 10},  # a machine that is busy with other tests is no store that is away
    "default_plan": "free",
    "prices": {
        "openai/gpt-big": {"input": 10, "output": 20},
        "openai/gpt-small": {"input": 1, "output": 2},
        "openai/embed": {"input": 100, "output": 0},
        "openai/embed-small": {"input": 10, "output": 0},
        "openai/paint": {"request": 0.002},
        "openai/paint-small": {"request": 0.0002},
        "anthropic/claude-big": {"input": 10, "output": 20},
        "anthropic/claude-small": {"input": 1, "output": 2},
    },
    "downgrade": {"gpt-big": "gpt-small", "paint": "paint-small", "embed": "embed-small", "claude-big": "claude-small"},
    "plans": {
        "free": {"caps": [{"id": "monthly", "limit": 5}]},
        "tiny": {"caps": [{"id": "monthly", "limit": "0.0000001"}]},
        "cheap": {"caps": [{"id": "monthly", "limit": "0.0001"}]},
        "down": {"caps": [{"id": "down", "limit": "0.0000001", "action": "downgrade"}]},
        "four": {"caps": [{"id": "four", "limit": 4, "unit": "requests"}]},
        "one": {"caps": [{"id": "one", "limit": "0.0007"}]},
        "keys": {"caps": [{"id": "key", "limit": "0.0007", "per": ["key_id"]}]},
    },
}
MESSAGES: list[Any] = [{"role": "user", "content": "Say something."}]


def deployments(fake: Served, dead: Served) -> list[dict[str, Any]]:
    def entry(group: str, model: str, provider: Served) -> dict[str, Any]:
        base = provider.anthropic_url if model.startswith("anthropic/") else provider.url
        params = {"model": model, "api_base": base, "api_key": "any", "max_retries": 0}
        return {"model_name": group, "litellm_params": params}

    return [
        entry("big", "openai/gpt-big", fake),
        entry("cheap", "openai/gpt-small", fake),
        entry("embed", "openai/embed", fake),
        entry("embed-cheap", "openai/embed-small", fake),
        entry("paint", "openai/paint", fake),
        entry("paint-cheap", "openai/paint-small", fake),
        entry("claude", "anthropic/claude-big", fake),
        entry("claude-cheap", "anthropic/claude-small", fake),
        entry("dead", "openai/gpt-big", dead),
        entry("cheap-dead", "openai/gpt-small", dead),
    ]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with serve() as fake, serve() as dead:
        dead.provider.set(fail_status=500)
        with running(tmp_path_factory.mktemp("proxy"), fake, deployments(fake, dead), POLICY) as started:
            yield started


@pytest.fixture
def fake(proxy: Proxy) -> Served:
    proxy.fake.provider.reset()
    proxy.fake.provider.set(input_tokens=10, output_tokens=20, chunk_tokens=5)
    return proxy.fake


@pytest.fixture
def user() -> str:
    """Somebody new, whom no other test has charged."""
    return f"u{uuid4().hex[:12]}"


class Way(NamedTuple):
    """A route of the proxy, as a client calls it; `cost` for 10 tokens in, 20 out."""

    name: str
    model: str
    cost: str
    call: Callable[..., Any]
    stream: bool = False

    def __str__(self) -> str:
        return self.name

    def run(self, proxy: Proxy, key: str, model: str | None = None, **options: Any) -> Any:
        """Call it; a stream is read to its end."""
        client = proxy.anthropic if self.name.startswith("messages") else proxy.openai
        streams = {"stream": True} if self.stream else {}
        reply = self.call(client(key, **options), model=model or self.model, **streams)
        return list(reply) if self.stream else reply


def chat(client: openai.OpenAI, **kwargs: Any) -> Any:
    return client.chat.completions.create(messages=MESSAGES, max_tokens=20, **kwargs)


def responses(client: openai.OpenAI, **kwargs: Any) -> Any:
    return client.responses.create(input="Say something.", max_output_tokens=20, **kwargs)


def embeddings(client: openai.OpenAI, **kwargs: Any) -> Any:
    return client.embeddings.create(input="Say something.", **kwargs)


def images(client: openai.OpenAI, **kwargs: Any) -> Any:
    return client.images.generate(prompt="Something.", **kwargs)


def text(client: openai.OpenAI, **kwargs: Any) -> Any:
    return client.completions.create(prompt="Say something.", max_tokens=20, **kwargs)


def messages(client: anthropic.Anthropic, **kwargs: Any) -> Any:
    return client.messages.create(messages=MESSAGES, max_tokens=20, **kwargs)


WAYS = [
    Way("chat", "big", "0.0005", chat),
    Way("chat-stream", "big", "0.0005", chat, stream=True),
    Way("responses", "big", "0.0005", responses),
    Way("responses-stream", "big", "0.0005", responses, stream=True),
    Way("embeddings", "embed", "0.001", embeddings),
    Way("images", "paint", "0.002", images),
    Way("text", "big", "0.0005", text),
    Way("text-stream", "big", "0.0005", text, stream=True),
    Way("messages", "claude", "0.0005", messages),
    Way("messages-stream", "claude", "0.0005", messages, stream=True),
    Way("messages-openai", "big", "0.0005", messages),
    Way("messages-openai-stream", "big", "0.0005", messages, stream=True),
]
every_way = pytest.mark.parametrize("way", WAYS, ids=str)
every_stream = pytest.mark.parametrize("way", [way for way in WAYS if way.stream], ids=str)


@every_way
def test_allowed(way: Way, proxy: Proxy, fake: Served, user: str):
    """One call reaches the provider; it is booked at what it cost, for the user that the proxy authenticated."""
    assert way.run(proxy, f"sk-{user}-free")
    (ended,) = proxy.booked(user)
    assert (fake.provider.calls, ended.kind, ended.cost, ended.flags) == (1, "settle", Decimal(way.cost), ())
    assert proxy.guard.status(user=user).caps["monthly"].held == 0


@every_way
def test_blocked(way: Way, proxy: Proxy, fake: Served, user: str):
    """A 429 in the shape of the client's own API, and no client tries again."""
    with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)) as refused:
        way.run(proxy, f"sk-{user}-tiny", max_retries=3)
    answer = refused.value.response
    body: Any = answer.json()
    assert (answer.headers["x-should-retry"], "retry-after" in answer.headers) == ("false", False)
    if way.name.startswith("messages"):
        assert (body["type"], body["error"]["type"]) == ("error", "rate_limit_error")
    else:
        assert body["error"]["type"] == "budget_cap_exceeded"
        assert (body["error"]["param"], body["error"]["code"]) == ("monthly", "429")
    assert body["error"]["message"] == "budget cap 'monthly' refuses this call: too_big"
    assert fake.provider.calls == 0
    assert proxy.entries(user) == []
    assert sum(line.count for line in proxy.guard.log() if line.user == user) == 1


@every_way
def test_downgraded(way: Way, proxy: Proxy, fake: Served, user: str):
    """The group that serves the cheaper model takes the call, at its own price."""
    way.run(proxy, f"sk-{user}-down")
    (ended,) = proxy.booked(user)
    assert fake.provider.requests[0].body["model"].endswith("-small")
    assert ended.cost == Decimal(way.cost) / 10


@every_way
def test_failed(way: Way, proxy: Proxy, fake: Served, user: str):
    """What the provider refused is released, and nothing is held."""
    fake.provider.set(fail_status=400)
    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)):
        way.run(proxy, f"sk-{user}-free")
    assert {ended.kind for ended in proxy.booked(user)} == {"release"}
    assert proxy.guard.status(user=user).caps["monthly"].held == 0


@every_stream
def test_disconnected(way: Way, proxy: Proxy, fake: Served, user: str):
    """A client that leaves in the middle is charged for its input and what was on its way, flagged."""
    fake.provider.set(chunk_delay=0.2, output_tokens=2000)
    client = proxy.anthropic if way.name.startswith("messages") else proxy.openai
    stream = way.call(client(f"sk-{user}-free"), model=way.model, stream=True)
    for _ in range(4):
        next(stream)
    stream.close()
    (ended,) = proxy.booked(user)
    assert (ended.kind, "uncertain" in ended.flags) == ("settle", True)
    assert 0 < ended.cost < Decimal("0.04")
    assert proxy.guard.status(user=user).caps["monthly"].held == 0


@pytest.mark.parametrize("way", [way for way in WAYS if way.name in ("chat", "messages")], ids=str)
def test_a_client_that_does_not_wait(way: Way, proxy: Proxy, fake: Served, user: str):
    """Its call goes on behind the proxy, and is booked at what it cost."""
    fake.provider.set(latency=1)
    with pytest.raises((openai.APITimeoutError, anthropic.APITimeoutError)):
        way.run(proxy, f"sk-{user}-free", timeout=0.3)
    (ended,) = proxy.booked(user)
    assert (ended.kind, ended.cost) == ("settle", Decimal(way.cost))
    assert proxy.guard.status(user=user).caps["monthly"].held == 0


def test_a_stream_that_outgrows_its_hold_asks_for_more(proxy: Proxy, fake: Served, user: str):
    """As everywhere: the provider went on beyond the call's limit."""
    fake.provider.set(output_tokens=200)
    assert WAYS[1].run(proxy, f"sk-{user}-free")
    assert proxy.booked(user)[-1].cost == Decimal("0.0041")
    assert "extend" in [entry.kind for entry in proxy.entries(user)]


@every_way
def test_headers_of_every_reply(way: Way, proxy: Proxy, fake: Served, user: str):
    """In every API, plain and streamed."""
    seen: list[Any] = []
    sdk = anthropic if way.name.startswith("messages") else openai
    with sdk.DefaultHttpxClient(event_hooks={"response": [seen.append]}) as http:
        way.run(proxy, f"sk-{user}-free", http_client=http)
        way.run(proxy, f"sk-{user}-down", http_client=http)
    free, down = (answer.headers for answer in seen)
    assert 0 < Decimal(free["x-capguard-remaining"]) < 5
    assert "x-capguard-downgraded" not in free
    assert down["x-capguard-downgraded"].endswith("-small")


def test_headers(proxy: Proxy, fake: Served, user: str):
    """Replies say what is left, and which model served in the place of the one asked for."""
    reply = proxy.openai(f"sk-{user}-free").chat.completions.with_raw_response.create(
        model="big", messages=MESSAGES, max_tokens=20
    )
    assert reply.headers["x-capguard-remaining"] == "4.9995"
    assert "x-capguard-downgraded" not in reply.headers
    reply = proxy.openai(f"sk-{user}-down").chat.completions.with_raw_response.create(model="big", messages=MESSAGES)
    assert reply.headers["x-capguard-downgraded"] == "openai/gpt-small"


@pytest.mark.parametrize("stream", [False, True])
def test_fifty_at_once_on_room_for_four(stream: bool, proxy: Proxy, fake: Served, user: str):
    """Exactly four reach the provider, the rest are told 429."""
    client = proxy.openai(f"sk-{user}-four")

    def one(_: int) -> bool:
        try:
            reply = chat(client, model="big", stream=stream)
            return bool(list(reply) if stream else reply)
        except openai.RateLimitError:
            return False

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(one, range(50))) == 4
    assert (fake.provider.calls, len(proxy.booked(user, 4))) == (4, 4)


def test_when_to_come_again(proxy: Proxy, fake: Served, user: str):
    """Where another call holds the room, waiting helps: Retry-After, and no word against a retry."""
    fake.provider.set(latency=2)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(chat, proxy.openai(f"sk-{user}-one"), model="big")
        until(lambda: fake.provider.calls == 1)
        with pytest.raises(openai.RateLimitError) as refused:
            chat(proxy.openai(f"sk-{user}-one"), model="big")
        assert first.result()
    assert refused.value.response.headers["retry-after"] == "1"
    assert "x-should-retry" not in refused.value.response.headers


@pytest.mark.parametrize("way", [way for way in WAYS if way.model == "big" and way.name != "text-stream"], ids=str)
def test_fallback(way: Way, proxy: Proxy, fake: Served, user: str):
    """The dead deployment's hold is dropped; the fallback is held and booked at its own price."""
    assert way.run(proxy, f"sk-{user}-free", model="dead")
    ended = proxy.booked(user, 2)
    assert [(each.kind, each.cost) for each in ended] == [("release", 0), ("settle", Decimal("0.00005"))]


def test_a_text_stream_has_no_fallback(proxy: Proxy, fake: Served, user: str):
    """LiteLLM's Router tells of the dead deployment instead, with and without caps: its hold is dropped."""
    with pytest.raises(openai.InternalServerError):
        text(proxy.openai(f"sk-{user}-free"), model="dead", stream=True)
    assert [ended.kind for ended in proxy.booked(user)] == ["release"]
    assert proxy.guard.status(user=user).caps["monthly"].held == 0


def test_streams_show_no_usage_that_was_not_asked_for(proxy: Proxy, fake: Served, user: str):
    """They are made to report it for their booking."""
    client = proxy.openai(f"sk-{user}-free")
    for asked, shown in (({}, []), ({"stream_options": {"include_usage": True}}, [30])):
        chunks = list(text(client, model="big", stream=True, **asked))
        assert [each.usage.total_tokens for each in chunks if each.usage and each.usage.total_tokens] == shown


def test_fallback_to_a_dear_model_is_gated(proxy: Proxy, fake: Served, user: str):
    """It does not slip past the cap that it would break; LiteLLM then tells of the failure that came first."""
    with pytest.raises(openai.InternalServerError):
        chat(proxy.openai(f"sk-{user}-cheap"), model="cheap-dead")
    assert fake.provider.calls == 0
    assert {ended.kind for ended in proxy.booked(user)} == {"release"}


def test_a_request_cannot_name_another_user(proxy: Proxy, fake: Served, user: str):
    """Neither the body's `user`, nor metadata, nor headers, nor a chosen call id count."""
    mark = {
        "capguard": {"user": "victim"},
        "capguard_call": "x",
        "capguard_request": "x",
        "user_api_key_user_id": "victim",
    }
    for _ in range(2):
        proxy.openai(f"sk-{user}-free").chat.completions.create(
            model="big",
            messages=MESSAGES,
            max_tokens=20,
            user="victim",
            extra_body={"metadata": mark, "litellm_metadata": mark},
            extra_headers={"x-litellm-end-user-id": "victim", "x-litellm-call-id": "always-the-same"},
        )
    assert [ended.kind for ended in proxy.booked(user, 2)] == ["settle"] * 2
    assert proxy.entries("victim") == []


def test_a_key_that_is_rotated_stays_the_same(proxy: Proxy, fake: Served, user: str):
    """A key is known by its alias: a new secret has the old one's meter."""
    alias = f"alias{user}"
    chat(proxy.openai(f"sk-{user}-keys-{alias}"), model="big")
    with pytest.raises(openai.RateLimitError):
        chat(proxy.openai(f"sk-other{user}-keys-{alias}"), model="big")


def test_a_key_without_a_user_is_refused(proxy: Proxy, fake: Served):
    """A cap per user applies and nobody is named: 400, and no retry."""
    with pytest.raises(openai.BadRequestError) as refused:
        chat(proxy.openai("sk--free", max_retries=2), model="big")
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert fake.provider.calls == 0


def test_an_unknown_model_leaves_nothing_held(proxy: Proxy, fake: Served, user: str):
    """The proxy's own refusal, after the hold, drops it."""
    with pytest.raises(openai.APIStatusError):
        chat(proxy.openai(f"sk-{user}-free"), model="no-such-model")
    assert proxy.guard.status(user=user).caps["monthly"].held == 0
