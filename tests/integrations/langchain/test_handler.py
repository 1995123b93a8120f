"""What the handler promises beside the table of paths: leaks, identity, caches, two handlers, the whole process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from decimal import Decimal

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage

from capguard import Cap, CapExceeded, Guard, Identity, capped, carry, identify
from capguard.integrations.langchain import (
    RETRYABLE,
    CapguardCallbackHandler,
    capped_langchain,
    install,
    uninstall,
)
from tests.integrations.langchain.paths import ASKED, BLOCKED, COST, POLICY, blocked, nothing_held
from tests.kit import kinds, last, spent


class Raises(BaseCallbackHandler):
    """A handler of somebody else that stops a call."""

    raise_error = True

    def __init__(self, at):
        self.at = at

    def __getattribute__(self, name):
        if name.startswith("on_") and name == object.__getattribute__(self, "at"):
            raise ValueError(name)
        return super().__getattribute__(name)


async def in_way(way, model, config):
    return model.invoke(ASKED, config) if way == "sync" else await model.ainvoke(ASKED, config)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
@pytest.mark.parametrize("at", ["on_chat_model_start", "on_llm_end"])
async def test_other_handler_raises(at, first, way, to_fake, guard, handler, config):
    """Whatever another handler does to a call, no hold is left."""
    handlers = [Raises(at), handler] if first else [handler, Raises(at)]
    with pytest.raises(ValueError, match=at):
        await in_way(way, to_fake(), {**config, "callbacks": handlers})
    assert await nothing_held(guard)


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_second_prompt_refused(way, to_fake, guard, config, fake):
    """Where one prompt of a generate is refused none is sent, and what the others held is free again, unbooked."""
    guard.override(user="u1", cap="monthly", limit="0.0008")
    prompts, model = [[HumanMessage(ASKED)]] * 2, to_fake()
    with pytest.raises(CapExceeded):
        _ = model.generate(prompts, **config) if way == "sync" else await model.agenerate(prompts, **config)
    assert await nothing_held(guard)
    assert (fake.provider.calls, spent(guard)) == (0, 0)


async def test_second_prompt_fails(to_fake, guard, config, fake):
    """Of a sync generate that breaks off, prompts that were answered are booked, those never sent are not."""
    fake.provider.set(fail_first=0)
    model, sent = to_fake(), []

    class Third(BaseCallbackHandler):
        def on_llm_error(self, error, **_):
            sent.append(fake.provider.calls)

    def failing(*args, **kwargs):
        fake.provider.set(fail_status=400 if fake.provider.calls == 1 else None)

    model.http_client.event_hooks["request"].append(failing)
    with pytest.raises(Exception, match="told to fail"):
        model.generate([[HumanMessage(ASKED)]] * 3, **{**config, "callbacks": [*config["callbacks"], Third()]})
    model.http_client.event_hooks["request"].clear()
    assert sent == [2]
    assert await nothing_held(guard)
    assert sorted(kinds(guard)) == ["release", "release", "reserve", "reserve", "reserve", "settle"]
    assert "uncertain" in next(entry for entry in guard.entries() if entry.kind == "settle").flags


@pytest.mark.parametrize("end", ["close", "drop", "aclose", "adrop", "events"])
@pytest.mark.parametrize("usage", [True, False])
async def test_abandoned_stream(end, usage, to_fake, guard, config, fake):
    """A stream that nobody reads to its end is booked by its input and what passed of it."""
    fake.provider.set(output_tokens=200, chunk_delay=0.005)
    model = to_fake(stream_usage=usage)
    if end in ("close", "drop"):
        chunks = model.stream(ASKED, config)
        for _ in range(3):
            next(chunks)
        if end == "close":
            chunks.close()
    else:
        chunks = model.astream_events(ASKED, config, version="v2") if end == "events" else model.astream(ASKED, config)
        for _ in range(4):
            await anext(chunks)
        if end == "aclose":
            await chunks.aclose()
    del chunks
    assert await nothing_held(guard)
    entry = last(guard)
    assert entry.cost > 0
    if end != "events":  # which reads on by itself, in a task of its own
        assert entry.cost < Decimal("0.004")  # the whole
        assert {"counted", "uncertain"} <= set(entry.flags)


async def test_step_with_a_time_out_is_no_end(to_fake, guard, config):
    """A stream whose steps run in tasks of their own is booked once, at its end."""
    chunks = to_fake().astream(ASKED, config)
    with contextlib.suppress(StopAsyncIteration):
        while True:
            await asyncio.create_task(anext(chunks))
    assert await nothing_held(guard)
    assert spent(guard) == Decimal(COST)


async def test_cancelled_while_streaming_inside(to_fake, guard, config, fake):
    """ainvoke of a model that streams underneath, cancelled half way, books what passed."""
    fake.provider.set(output_tokens=200, chunk_delay=0.2)
    begun = asyncio.Event()

    class Listens(BaseCallbackHandler):
        run_inline = True

        def on_llm_new_token(self, token, **_):
            _ = token and begun.set()

    listening = {**config, "callbacks": [*config["callbacks"], Listens()]}
    task = asyncio.create_task(to_fake(streaming=True, max_tokens=300).ainvoke(ASKED, listening))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await nothing_held(guard)
    assert {"counted", "uncertain"} <= set(last(guard).flags)
    assert 0 < spent(guard) < Decimal("0.004")


async def test_timed_out_in_a_task_that_lives_on(to_fake, guard, config, fake):
    """A time-out in the same task leaves no hold either."""
    fake.provider.set(latency=30)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await to_fake().ainvoke(ASKED, config)
    assert await nothing_held(guard)
    assert "uncertain" in last(guard).flags


async def test_reported_quantities(to_fake, guard, config, fake):
    """Cached and reasoning tokens are taken over; a dated name in the reply is not another model."""
    fake.provider.set(
        input_tokens=100, cached_tokens=40, output_tokens=20, reasoning_tokens=5, model_suffix="-2024-08-06"
    )
    to_fake().invoke(ASKED, config)
    entry = last(guard)
    usage = entry.body["facts"]["usage"]
    assert (usage["cache_read_tokens"], usage["reasoning_tokens"]) == (40, 5)
    assert (next(guard.entries()).model, usage["model"]) == ("big", "big-2024-08-06")


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_cache_hit_is_free(way, to_fake, guard, config, fake):
    """What LangChain answers from its cache costs nothing, though it reports the usage again."""
    from langchain_core.caches import InMemoryCache

    model = to_fake(cache=InMemoryCache())
    for _ in range(3):
        await in_way(way, model, config)
    assert fake.provider.calls == 1
    assert spent(guard) == Decimal(COST)
    assert "cache_hit" in last(guard).flags


async def test_two_handlers_charge_once(to_fake, guard, config, fake):
    """Two handlers of one Guard are one cap: also streamed, where both see every piece."""
    both = {**config, "callbacks": [*config["callbacks"], CapguardCallbackHandler(guard)]}
    to_fake().invoke(ASKED, both)
    assert kinds(guard) == ["reserve", "settle"]
    list(to_fake(stream_usage=False).stream(ASKED, config))
    alone = last(guard).cost
    list(to_fake(stream_usage=False).stream(ASKED, both))
    assert last(guard).cost == alone


async def test_two_guards_on_one_ledger_charge_once(to_fake, tmp_path):
    """The run's id is the idempotency key."""
    url = f"sqlite:///{tmp_path}/ledger.db?timeout=30"
    with Guard(url, policy=POLICY) as one, Guard(url, policy=POLICY) as other:
        handlers = [CapguardCallbackHandler(one), CapguardCallbackHandler(other)]
        run = uuid.uuid4()
        to_fake().invoke(ASKED, {"callbacks": handlers, "metadata": {"user_id": "u1"}, "run_id": run})
        assert [(entry.kind, entry.id) for entry in one.entries()] == [("reserve", str(run)), ("settle", str(run))]
        assert spent(one) == Decimal(COST)


async def test_two_guards_of_other_settings_charge_once(to_fake, tmp_path):
    """Neither raises for what the other has said of the same run."""
    url = f"sqlite:///{tmp_path}/ledger.db?timeout=30"
    with Guard(url, policy=POLICY) as one, Guard(url, policy=POLICY) as other:
        handlers = [CapguardCallbackHandler(one, user="u1"), CapguardCallbackHandler(other, user="u1", feature="chat")]
        config = {"callbacks": handlers, "run_id": uuid.uuid4()}
        for _ in range(2):
            to_fake().invoke(ASKED, config)
        assert kinds(one) == ["reserve", "settle"] * 2
        assert spent(one) == 2 * Decimal(COST)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("before", ["answered", "refused by the provider", "asked something else", "is still open"])
async def test_run_id_that_is_used_again(before, way, to_fake, guard, config, fake):
    """Another call under the run_id of an earlier one is charged for itself; it is neither free nor refused."""
    model, again = to_fake(), {**config, "run_id": uuid.uuid4()}
    stream = None
    if before == "refused by the provider":
        fake.provider.set(fail_first=1, fail_status=400)
        with pytest.raises(Exception, match="told to fail"):
            await in_way(way, model, again)
    elif before == "asked something else":
        model.invoke("Something else.", again)
    elif before == "is still open":
        stream = model.stream(ASKED, again)
        next(stream)
    else:
        await in_way(way, model, again)
    counted = spent(guard)
    await in_way(way, model, again)
    assert spent(guard) >= counted + Decimal(COST)
    if stream is not None:
        list(stream)
    assert await nothing_held(guard)
    assert kinds(guard).count("reserve") == 2
    assert len({entry.id for entry in guard.entries()}) == 2


@pytest.mark.parametrize("strict_first", [True, False])
async def test_two_guards_one_refuses(strict_first, to_fake, guard, handler, config):
    """A call that one of two Guards refuses holds nothing with the other."""
    with Guard("memory://", policy=BLOCKED) as strict:
        handlers = [CapguardCallbackHandler(strict), handler]
        with pytest.raises(CapExceeded):
            to_fake().invoke(ASKED, {**config, "callbacks": handlers if strict_first else handlers[::-1]})
    assert await nothing_held(guard)
    assert spent(guard) == 0


@pytest.mark.parametrize(
    ("settings", "metadata", "context", "expected"),
    [
        ({}, {"user_id": "a", "plan": "pro", "thread_id": "t"}, {}, {"user": "a", "plan": "pro", "session": "t"}),
        ({}, {"user_id": 7, "session_id": "s", "thread_id": "t"}, {}, {"user": "7", "session": "s"}),
        ({}, {"user_id": uuid.UUID(int=7)}, {}, {"user": str(uuid.UUID(int=7))}),
        ({}, {"user_id": "a", "capguard": {"user": "b", "tags": {"env": "x"}}}, {}, {"user": "b", "tag:env": "x"}),
        ({}, {"user_id": "a", "plan": "free"}, {"user": "c"}, {"user": "c", "plan": "free"}),
        ({"user": "d"}, {"user_id": "a"}, {"user": "c"}, {"user": "d"}),
        (
            {"metadata": {"user": "account", "tag:env": ("e", "env")}},
            {"account": "f", "env": "p"},
            {},
            {"user": "f", "tag:env": "p"},
        ),
        ({"metadata": {"session": None}}, {"user_id": "a", "thread_id": "t"}, {}, {"user": "a"}),
    ],
)
async def test_identity(settings, metadata, context, expected, to_fake, guard):
    """Fixed over context over the config's metadata; the keys are a setting."""
    handler = CapguardCallbackHandler(guard, **settings)
    with identify(Identity(**context)):
        to_fake().invoke(ASKED, {"callbacks": [handler], "metadata": metadata})
    named = next(iter(guard.entries())).body["identity"]
    assert {name: value for name, value in named.items() if value is not None} == expected


def test_unknown_field(guard):
    """A mapping for a field that does not exist is refused at once."""
    with pytest.raises(ValueError, match="'usr' is no field; allowed: user"):
        CapguardCallbackHandler(guard, metadata={"usr": "user_id"})
    with pytest.raises(ValueError, match="unknown field 'usr'"):
        CapguardCallbackHandler(guard, usr="ann")


async def test_nobody_named(to_fake, guard, handler, fake):
    """A call that names no user is refused, not booked to nobody."""
    with pytest.raises(Exception, match="user"):
        to_fake().invoke(ASKED, {"callbacks": [handler]})
    assert fake.provider.calls == 0


async def test_caps_of_a_handler(to_fake, guard, config, fake):
    """Caps that are given to a handler hold for its calls."""
    own = CapguardCallbackHandler(guard, caps=[Cap(id="mine", limit="0.0008", window="daily")])
    model = to_fake()
    model.invoke(ASKED, {**config, "callbacks": [own]})
    with pytest.raises(CapExceeded) as refused:
        model.invoke(ASKED, {**config, "callbacks": [own]})
    assert refused.value.cap.id == "mine"
    model.invoke(ASKED, config)


async def test_beside_an_inline_handler(to_fake, guard, config, fake):
    """LangChain's async text models forget other handlers where one is inline, as its tracer is: never ours."""
    from langchain_openai import OpenAI

    class Inline(BaseCallbackHandler):
        run_inline = True

    beside = {**config, "callbacks": [Inline(), *config["callbacks"]]}
    with blocked(guard), pytest.raises(CapExceeded):
        await to_fake(of=OpenAI, max_tokens=20).agenerate([ASKED], **beside)
    assert fake.provider.calls == 0


async def test_clamp_refuses(to_fake, guard, config, fake):
    """A callback cannot lower an output limit, so a clamp that would have to refuses; one that fits lets pass."""
    own = CapguardCallbackHandler(guard, caps=[Cap(id="short", limit="0.003", action="clamp", min_output=1)])
    to_fake(max_tokens=20).invoke(ASKED, {**config, "callbacks": [own]})
    with pytest.raises(CapExceeded) as refused:
        to_fake(max_tokens=1000).invoke(ASKED, {**config, "callbacks": [own]})
    assert (refused.value.cap.id, fake.provider.calls) == ("short", 1)
    assert await nothing_held(guard)
    assert spent(guard) == Decimal(COST)


async def test_on_a_model(to_fake, guard, handler):
    """A handler may belong to a model."""
    with identify(user="u1"):
        to_fake(callbacks=[handler]).invoke(ASKED)
    assert spent(guard) == Decimal(COST)


async def test_everywhere(to_fake, guard, fake):
    """Within the block every model is capped, once, in tasks and threads of LangChain's; outside of it none is."""
    model = to_fake()
    with capped_langchain(guard, user="u1") as handler:
        model.invoke(ASKED)
        await model.ainvoke(ASKED, {"callbacks": []})
        model.batch([ASKED, ASKED], {"callbacks": [handler]})
        await asyncio.gather(model.ainvoke(ASKED), asyncio.to_thread(model.invoke, ASKED))
        thread = threading.Thread(target=carry(lambda: model.invoke(ASKED)))
        thread.start()
        thread.join()
    model.invoke(ASKED)
    assert fake.provider.calls == 8
    assert spent(guard) == 7 * Decimal(COST)


async def test_installed(to_fake, guard, fake):
    """`install` covers every thread of the process; an explicit handler goes before it; `uninstall` ends it."""
    model = to_fake()
    install(guard, user="u1")
    thread = threading.Thread(target=lambda: model.invoke(ASKED))
    thread.start()
    thread.join()
    model.invoke(ASKED, {"callbacks": [CapguardCallbackHandler(guard, user="u2")]})
    assert (spent(guard), spent(guard, user="u2")) == (Decimal(COST), Decimal(COST))
    uninstall()
    model.invoke(ASKED)
    assert kinds(guard).count("reserve") == 2


async def test_inside_a_capped_function(to_fake, guard, config):
    """A function with `@capped` around it is charged once, by the model in it; a second call is charged by itself."""

    @capped(guard, user="user", model="model")
    def answer(user, model="big", max_tokens=20):
        return [to_fake().invoke(ASKED, config).content for _ in range(2)]

    answer("u1")
    assert spent(guard) == 2 * Decimal(COST)
    assert await nothing_held(guard)


async def test_plain_retry_calls_nobody(to_fake, guard, config, fake):
    """Even a retry that knows nothing of caps sends nothing; with RETRYABLE it does not even wait."""
    tries = []
    guard.on("denied", tries.append)
    with blocked(guard):
        for types in ((Exception,), RETRYABLE):
            model = to_fake().with_retry(retry_if_exception_type=types, wait_exponential_jitter=False)
            with pytest.raises(CapExceeded):
                model.invoke(ASKED, config)
    assert (len(tries), fake.provider.calls) == (4, 0)


async def test_fallback_to_a_cheaper_model(to_fake, guard, config, fake):
    """`with_fallbacks` is a downgrade: each leg is held by itself."""
    handler = CapguardCallbackHandler(guard, caps=[Cap(id="big", limit=0, match={"model": "big"})])
    model = to_fake().with_fallbacks([to_fake("small")], exceptions_to_handle=(CapExceeded,))
    reply = model.invoke(ASKED, {**config, "callbacks": [handler]})
    assert reply.response_metadata["model_name"] == "small"
    assert [seen.body["model"] for seen in fake.provider.requests] == ["small"]
    assert spent(guard) == Decimal("0.00005")


async def test_batch_returns_refusals(to_fake, guard, config, fake):
    """`return_exceptions` lists what was refused beside what was answered."""
    guard.override(user="u1", cap="monthly", limit="0.0008")
    replies = to_fake().batch([ASKED] * 3, {**config, "max_concurrency": 1}, return_exceptions=True)
    assert [isinstance(reply, CapExceeded) for reply in replies] == [False, True, True]
    assert fake.provider.calls == 1


@pytest.mark.parametrize("handlers", [1, 2])
async def test_fifty_at_once(handlers, to_fake, guard, handler, fake):
    """Fifty parallel calls on room for four: exactly four reach the provider."""
    fake.provider.set(latency=0.3)
    model = to_fake()
    config = {"callbacks": [handler, CapguardCallbackHandler(guard)][:handlers], "metadata": {"user_id": "u1"}}
    held_each = guard.reserve(user="u1", model="big", messages=[HumanMessage(ASKED)], max_tokens=20)
    guard.release(held_each)
    guard.override(user="u1", cap="monthly", limit=held_each.held * 4)
    replies = await asyncio.gather(*(model.ainvoke(ASKED, config) for _ in range(50)), return_exceptions=True)
    refused = [reply for reply in replies if isinstance(reply, CapExceeded)]
    assert (len(refused), fake.provider.calls) == (46, 4)
    assert await nothing_held(guard)
