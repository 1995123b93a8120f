"""`capped_model`: the table of ways again, downgrades, tools and structured output kept; and `CappedEmbeddings`."""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.embeddings import Embeddings
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from capguard import Cap, CapExceeded, Guard, capped, identify
from capguard.integrations.langchain import CappedEmbeddings, capped_langchain, capped_model
from tests.integrations.langchain.paths import (
    ASKED,
    ASYNC,
    CHEAP,
    COST,
    NO_BIG,
    POLICY,
    TWICE,
    WAYS,
    blocked,
    nothing_held,
)
from tests.kit import kinds, last, spent

NAMED = {"metadata": {"user_id": "u1"}, "callbacks": []}
ON_CHAT = [way for way in WAYS if "text" not in way]
TO_SMALL = Cap(id="steer", limit=0, action="downgrade", to="small")

every_way = pytest.mark.parametrize("way", ON_CHAT)


class Weather(BaseModel):
    """The weather."""

    city: str


class Other(ChatOpenAI):
    """A chat model of another class."""


async def call(way, model, config=NAMED):
    reply = WAYS[way](model, ASKED, config)
    return await reply if asyncio.iscoroutine(reply) else reply


def models_asked(fake):
    return {seen.body["model"] for seen in fake.provider.requests}


@every_way
async def test_allowed(way, to_fake, guard, fake):
    """Held before and booked after, once, also where the handler is in force everywhere."""
    with capped_langchain(guard):
        await call(way, capped_model(to_fake(), guard))
    times = 2 if way in TWICE else 1
    assert (fake.provider.calls, kinds(guard).count("reserve")) == (times, times)
    assert spent(guard) == times * Decimal(COST)
    assert await nothing_held(guard)


@every_way
async def test_blocked(way, to_fake, guard, fake):
    """Nothing reaches the provider, whichever models there are, and the caller sees the cap."""
    with blocked(guard), pytest.raises(CapExceeded) as refused:
        await call(way, capped_model(to_fake(), guard, cheaper=to_fake("small")))
    assert (fake.provider.calls, refused.value.cap.id) == (0, "monthly")
    assert await nothing_held(guard)


@every_way
@pytest.mark.parametrize("cheaper", ["model", "name", "policy"])
async def test_downgraded(way, cheaper, to_fake, guard, fake):
    """The call goes on with the cheaper model, at its price: its own, one named, or where the policy leads."""
    options = {"cheaper": {"model": [to_fake("small")], "name": "small", "policy": ()}[cheaper]}
    caps = [TO_SMALL if cheaper == "policy" else NO_BIG]
    await call(way, capped_model(to_fake(), guard, caps=caps, **options))
    times = 2 if way in TWICE else 1
    assert models_asked(fake) == {"small"}
    assert (fake.provider.calls, spent(guard)) == (times, times * Decimal(CHEAP))
    assert await nothing_held(guard)


@every_way
async def test_provider_error(way, to_fake, guard, fake):
    """What the provider refuses costs nothing."""
    fake.provider.set(fail_status=400)
    with pytest.raises(Exception, match="told to fail"):
        await call(way, capped_model(to_fake(), guard))
    assert await nothing_held(guard)
    assert spent(guard) == 0


@pytest.mark.parametrize("way", [way for way in ON_CHAT if way in ASYNC])
async def test_cancelled(way, to_fake, guard, fake):
    """A cancelled call is booked at what was expected, a stream at what passed, at once."""
    fake.provider.set(latency=30)
    task = asyncio.create_task(call(way, capped_model(to_fake(), guard)))
    while not fake.provider.calls:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    fake.provider.set(latency=0)
    assert await nothing_held(guard)
    assert "uncertain" in last(guard).flags


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_abandoned(way, to_fake, guard, fake):
    """A stream that is closed early is booked by what passed."""
    fake.provider.set(output_tokens=200)
    model = capped_model(to_fake(), guard)
    if way == "sync":
        chunks = model.stream(ASKED, NAMED)
        _ = next(chunks), next(chunks)
        chunks.close()
    else:
        chunks = model.astream(ASKED, NAMED)
        _ = await anext(chunks), await anext(chunks)
        await chunks.aclose()
    assert await nothing_held(guard)
    assert {"counted", "uncertain"} <= set(last(guard).flags)
    assert 0 < last(guard).cost < Decimal("0.004")


async def test_stream_without_usage(to_fake, guard):
    """It is counted, never nothing."""
    list(capped_model(to_fake(stream_usage=False), guard).stream(ASKED, NAMED))
    assert last(guard).flags == ("counted",)
    assert last(guard).cost > Decimal("0.0004")


@pytest.mark.parametrize("cheaper", ["same class", "other class"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream"])
async def test_keeps_tools(way, cheaper, to_fake, guard, fake):
    """The cheaper model gets the tools too."""
    small = to_fake("small", of=ChatOpenAI if cheaper == "same class" else Other, max_tokens=20)
    model = capped_model(to_fake(), guard, cheaper=small, caps=[NO_BIG]).bind_tools([Weather], tool_choice="any")
    await call(way, model)
    (seen,) = fake.provider.requests
    assert (seen.body["model"], seen.body["tools"][0]["function"]["name"]) == ("small", "Weather")
    assert seen.body["tool_choice"] == "required"


@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_keeps_structured_output(method, include_raw, to_fake, guard, fake):
    """Whichever way the model gives structured output, its call is capped and may be downgraded."""
    fake.provider.set(output_tokens=10)
    model = capped_model(to_fake(), guard, cheaper="small", caps=[NO_BIG])
    shaped = model.with_structured_output(Weather, method=method, include_raw=include_raw)
    with contextlib.suppress(ValueError):  # the fake provider's words are no JSON
        reply = await shaped.ainvoke("Say it in JSON.", NAMED)
        assert not include_raw or reply["raw"].response_metadata["model_name"] == "small"
    assert models_asked(fake) == {"small"}
    assert spent(guard) > 0
    assert await nothing_held(guard)


async def test_structured_output_by_tools(to_fake, guard, fake):
    """With a cheaper model of another kind, by tools, which every kind understands."""
    model = capped_model(to_fake(), guard, cheaper=to_fake("small", of=Other), caps=[NO_BIG])
    await model.with_structured_output(Weather, include_raw=True).ainvoke(ASKED, NAMED)
    (seen,) = fake.provider.requests
    assert (seen.body["model"], seen.body["tools"][0]["function"]["name"]) == ("small", "Weather")


async def test_clamp(to_fake, guard, fake):
    """A clamp lowers the output limit that the provider is sent."""
    cap = Cap(id="short", limit="0.003", action="clamp", min_output=1)
    capped_model(to_fake(max_tokens=1000), guard, caps=[cap]).invoke(ASKED, NAMED)
    (seen,) = fake.provider.requests
    assert 1 <= seen.body["max_completion_tokens"] < 150


async def test_in_a_chain(to_fake, guard, fake):
    """It is a chat model among others, named as the one inside."""
    model = capped_model(to_fake(), guard, user="u1")
    assert (model | StrOutputParser()).invoke(ASKED).startswith("a hold before")
    assert model.model_name == "big"
    assert spent(guard) == Decimal(COST)


async def test_other_handlers_hear_of_it(to_fake, guard):
    """The callbacks of the model inside go on, with its name."""
    heard = []

    class Listens(BaseCallbackHandler):
        def on_chat_model_start(self, *_, metadata, **__):
            heard.append(metadata["ls_model_name"])

        def on_llm_end(self, response, **_):
            heard.append(response.generations[0][0].message.usage_metadata["output_tokens"])

    capped_model(to_fake(callbacks=[Listens()]), guard, user="u1").invoke(ASKED)
    assert heard == ["big", 20]


async def test_cache_hit_is_not_even_reserved(to_fake, guard, fake):
    """What the cache answers is answered also where the cap is spent."""
    model = capped_model(to_fake(cache=InMemoryCache()), guard)
    model.invoke(ASKED, NAMED)
    with blocked(guard):
        assert model.invoke(ASKED, NAMED).content
    assert (fake.provider.calls, kinds(guard)[:2], spent(guard)) == (1, ["reserve", "settle"], Decimal(COST))


async def test_model_of_one_call(to_fake, guard, fake):
    """A model's name that the call says is held, booked and called."""
    capped_model(to_fake(), guard).invoke(ASKED, NAMED, model="small")
    assert (models_asked(fake), spent(guard)) == ({"small"}, Decimal(CHEAP))


async def test_model_without_a_name(guard):
    """A model that tells neither its name nor its usage is booked by its text, at the ceiling."""
    model = capped_model(GenericFakeChatModel(messages=iter([AIMessage("Nothing to say.")] * 9)), guard, user="u1")
    model.invoke(ASKED)
    assert {"counted", "ceiling"} <= set(last(guard).flags)
    assert spent(guard) > 0


async def test_inside_a_capped_function(to_fake, guard):
    """Layers charge once."""

    @capped(guard, user="user", model="model")
    async def answer(user, model="big", max_tokens=20):
        return (await capped_model(to_fake(), guard).ainvoke(ASKED)).content

    await answer("u1")
    assert spent(guard) == Decimal(COST)


async def test_fifty_at_once(to_fake, guard, fake):
    """Fifty parallel calls on room for four: exactly four reach the provider."""
    fake.provider.set(latency=0.3)
    one = guard.reserve(user="u1", model="big", messages=[HumanMessage(ASKED)], max_tokens=20)
    guard.release(one)
    guard.override(user="u1", cap="monthly", limit=one.held * 4)
    model = capped_model(to_fake(), guard)
    replies = await asyncio.gather(*(model.ainvoke(ASKED, NAMED) for _ in range(50)), return_exceptions=True)
    assert [isinstance(reply, CapExceeded) for reply in replies].count(True) == 46
    assert fake.provider.calls == 4


@pytest.mark.parametrize("way", ["embed_documents", "embed_query", "aembed_documents", "aembed_query"])
async def test_embeddings(way, to_fake, guard, fake):
    """Held before, counted after; refused before anything is sent; free where the provider fails."""
    inner = to_fake("embed", of=OpenAIEmbeddings, check_embedding_ctx_length=False)
    embeddings = CappedEmbeddings(inner, guard)
    asked = "A text to embed." if "query" in way else ["A text to embed."] * 2

    async def embed():
        vectors = getattr(embeddings, way)(asked)
        return await vectors if asyncio.iscoroutine(vectors) else vectors

    with identify(user="u1"):
        assert len(await embed()) == (8 if "query" in way else 2)
        assert last(guard).flags == ("counted",)
        before = spent(guard)
        assert before > 0
        fake.provider.set(fail_status=400)
        with pytest.raises(Exception, match="told to fail"):
            await embed()
        with blocked(guard), pytest.raises(CapExceeded):
            await embed()
    assert (spent(guard), fake.provider.calls) == (before, 2)
    assert await nothing_held(guard)


async def test_embeddings_by_another_name(guard):
    """The model may be named for its price."""

    class Local(Embeddings):
        def embed_documents(self, texts):
            return [[1.0] for _ in texts]

        def embed_query(self, text):
            return [1.0]

    CappedEmbeddings(Local(), guard, model="embed", user="u1").embed_query("Something.")
    assert next(iter(guard.entries())).model == "embed"


async def test_sqlite_in_an_event_loop(to_fake, tmp_path, fake):
    """An async call asks the ledger in a thread of its own."""
    with Guard(f"sqlite:///{tmp_path}/ledger.db?timeout=30", policy=POLICY) as guard:
        model = capped_model(to_fake(), guard, user="u1")
        await asyncio.gather(*(model.ainvoke(ASKED) for _ in range(5)))
        assert spent(guard) == 5 * Decimal(COST)
