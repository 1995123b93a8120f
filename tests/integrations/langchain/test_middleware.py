"""`CapguardAgentMiddleware`: raise, end or downgrade; budgets of a run and of a thread; sync and async."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

pytest.importorskip("langchain.agents")

from langchain.agents import create_agent
from langchain.agents import middleware as theirs
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from capguard import Cap, CapExceeded, IdentityMissing
from capguard.integrations.langchain import (
    RETRYABLE,
    CapguardAgentMiddleware,
    CapguardCallbackHandler,
    capped_langchain,
    capped_model,
)
from tests.integrations.langchain.paths import ASKED, COST, NO_BIG, blocked, nothing_held
from tests.kit import kinds, last, spent

SAID: Any = {"messages": [("user", ASKED)]}

both = pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])


def config(thread="t1", **more):
    return {"metadata": {"user_id": "u1"}, "configurable": {"thread_id": thread}, **more}


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def run(way, agent, asked=SAID, said=None):
    """The last message."""
    said = said or config()
    if way == "invoke":
        return agent.invoke(asked, said)["messages"][-1]
    if way == "ainvoke":
        return (await agent.ainvoke(asked, said))["messages"][-1]
    if way == "stream":
        states = list(agent.stream(asked, said, stream_mode="values"))
    else:
        states = [state async for state in agent.astream(asked, said, stream_mode="values")]
    return states[-1]["messages"][-1]


@both
async def test_allowed(way, to_fake, guard, fake):
    """Each model call of an agent is held and booked, once, also where the handler is in force everywhere."""
    agent = create_agent(to_fake(), tools=[weather], middleware=[CapguardAgentMiddleware(guard)])
    await run(way, agent)
    with capped_langchain(guard):
        await run(way, agent)
    assert (fake.provider.calls, spent(guard)) == (2, 2 * Decimal(COST))
    assert kinds(guard) == ["reserve", "settle"] * 2
    assert await nothing_held(guard)


@both
async def test_error(way, to_fake, guard, fake):
    """A refusal is raised, past every retry."""
    retry = getattr(theirs, "ModelRetryMiddleware", None)  # langchain 1.0 has none
    retries = [retry(max_retries=2, retry_on=RETRYABLE, initial_delay=0)] if retry else []
    agent = create_agent(to_fake(), tools=[weather], middleware=[*retries, CapguardAgentMiddleware(guard)])
    with blocked(guard), pytest.raises(CapExceeded) as refused:
        await run(way, agent)
    assert (fake.provider.calls, refused.value.cap.id) == (0, "monthly")


@both
async def test_end(way, to_fake, guard, fake):
    """The agent finishes with a message that says why, and who reads it can tell it from an answer."""
    middleware = CapguardAgentMiddleware(
        guard, on_exceeded="end", message=lambda refused: f"Out of budget: {refused.cap.id}."
    )
    agent = create_agent(to_fake(), tools=[weather], middleware=[middleware])
    with blocked(guard):
        reply = await run(way, agent)
    assert (reply.content, fake.provider.calls) == ("Out of budget: monthly.", 0)
    assert reply.response_metadata["capguard"] == {"code": "budget_cap_exceeded", "cap": "monthly"}


@both
@pytest.mark.parametrize("by", ["cheaper", "policy", "policy and cheaper"])
async def test_downgrade(way, by, to_fake, guard, fake):
    """The agent goes on with the cheaper model, its tools kept, at the cheaper price."""
    to_small = Cap(id="steer", limit=0, action="downgrade", to="small")
    steered = {"on_exceeded": "error", "caps": [to_small]}
    if "cheaper" in by:
        steered["cheaper"] = to_fake("small", temperature=0.5)
    options = (
        {"on_exceeded": "downgrade", "cheaper": to_fake("small"), "caps": [NO_BIG]} if by == "cheaper" else steered
    )
    agent = create_agent(to_fake(), tools=[weather], middleware=[CapguardAgentMiddleware(guard, **options)])
    await run(way, agent)
    (seen,) = fake.provider.requests
    assert (seen.body["model"], seen.body["tools"][0]["function"]["name"]) == ("small", "weather")
    assert seen.body.get("temperature") == (0.5 if by == "policy and cheaper" else None)
    assert spent(guard) == Decimal("0.00005")


async def test_nothing_cheap_enough(to_fake, guard, fake):
    """Where even the cheapest does not fit, the refusal is raised."""
    middleware = CapguardAgentMiddleware(guard, on_exceeded="downgrade", cheaper=to_fake("small"))
    agent = create_agent(to_fake(), middleware=[middleware])
    with blocked(guard), pytest.raises(CapExceeded):
        await run("ainvoke", agent)
    assert fake.provider.calls == 0


@both
async def test_tool_rounds_and_the_budget_of_a_run(way, to_fake, guard, fake):
    """An agent in a loop of tools ends at its run's budget; the next run has its own."""
    fake.provider.set(tool_rounds=50, output_tokens=20)
    middleware = CapguardAgentMiddleware(guard, on_exceeded="end", per_run="0.01")
    agent = create_agent(to_fake(), tools=[weather], middleware=[middleware], checkpointer=InMemorySaver())
    for number in (1, 2):
        before = fake.provider.calls
        reply = await run(way, agent, said=config(thread=f"t{number}"))
        assert "budget" in reply.content
        assert fake.provider.calls - before >= 2
    runs = {entry.body["identity"]["tag:run"] for entry in guard.entries() if entry.kind == "reserve"}
    assert len(runs) == 2
    assert spent(guard) <= Decimal("0.02")


async def test_budget_of_a_thread(to_fake, guard, fake):
    """All runs of one thread share a budget, another thread has its own; no thread is refused, not let off."""
    middleware = CapguardAgentMiddleware(guard, per_thread="0.0013")
    agent = create_agent(to_fake(), middleware=[middleware])
    await run("ainvoke", agent)
    await run("ainvoke", agent)
    with pytest.raises(CapExceeded) as refused:
        await run("ainvoke", agent)
    assert refused.value.cap.id == "agent_thread"
    await run("ainvoke", agent, said=config(thread="t2"))
    with pytest.raises(IdentityMissing):
        await run("ainvoke", agent, said={"metadata": {"user_id": "u1"}})


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize(
    ("settings", "said", "context", "user"),
    [
        ({}, {"metadata": {"user_id": "a"}, "configurable": {"user_id": "b"}}, {"user_id": "c"}, "a"),
        ({}, {"configurable": {"user_id": "b"}}, {"user_id": "c"}, "b"),
        ({}, {}, {"user_id": "c"}, "c"),
        ({"user": "d"}, {"metadata": {"user_id": "a"}}, {}, "d"),
        ({"metadata": {"user": "account"}}, {"metadata": {"account": "e"}}, {}, "e"),
    ],
)
async def test_identity(way, settings, said, context, user, to_fake, guard):
    """Said here, over the config's metadata, over its configurable, over the run's context."""
    agent = create_agent(to_fake(), middleware=[CapguardAgentMiddleware(guard, **settings)], context_schema=dict)
    if way == "invoke":
        agent.invoke(SAID, said, context=context)
    else:
        await agent.ainvoke(SAID, said, context=context)
    assert next(iter(guard.entries())).body["identity"]["user"] == user


async def test_cancelled(to_fake, guard, fake):
    """A cancelled run leaves no hold."""
    fake.provider.set(latency=30)
    agent = create_agent(to_fake(), middleware=[CapguardAgentMiddleware(guard)])
    task = asyncio.create_task(run("ainvoke", agent))
    while not fake.provider.calls:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await nothing_held(guard)
    assert "uncertain" in last(guard).flags


async def test_provider_error(to_fake, guard, fake):
    """What the provider refuses is not booked; a fallback's call is held by itself."""
    fake.provider.set(fail_first=1, fail_status=500)
    fallback = theirs.ModelFallbackMiddleware(to_fake("small"))
    agent = create_agent(to_fake(), middleware=[fallback, CapguardAgentMiddleware(guard)])
    await run("ainvoke", agent)
    assert kinds(guard) == ["reserve", "release", "reserve", "settle"]
    assert spent(guard) == Decimal("0.00005")


async def test_structured_answer(to_fake, guard, fake):
    """A schema of the answer goes to the cheaper model too, and counts as input."""

    class Answer(BaseModel):
        """The answer."""

        city: str

    middleware = CapguardAgentMiddleware(guard, on_exceeded="downgrade", cheaper=to_fake("small"), caps=[NO_BIG])
    from langchain.agents.structured_output import ToolStrategy

    fake.provider.set(tool_rounds=1)
    agent = create_agent(to_fake(), middleware=[middleware], response_format=ToolStrategy(Answer, handle_errors=False))
    with pytest.raises(Exception, match="Answer"):  # the fake provider calls it without the city
        await agent.ainvoke(SAID, config())
    (seen,) = fake.provider.requests
    assert (seen.body["model"], seen.body["tools"][0]["function"]["name"]) == ("small", "Answer")
    assert await nothing_held(guard)


async def test_around_a_capped_model(to_fake, guard, fake):
    """Layers charge once, whichever there are."""
    handler = CapguardCallbackHandler(guard)
    agent = create_agent(capped_model(to_fake(), guard), middleware=[CapguardAgentMiddleware(guard)])
    await run("ainvoke", agent, said=config(callbacks=[handler]))
    assert (fake.provider.calls, kinds(guard)) == (1, ["reserve", "settle"])
    assert spent(guard) == Decimal(COST)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"on_exceeded": "stop"}, "allowed: error, end, downgrade"),
        ({"on_exceeded": "downgrade"}, "needs cheaper="),
        ({"per_run": "much"}, "limit"),
        ({"usr": "ann"}, "unknown field 'usr'"),
    ],
)
def test_settings_that_do_not_go_together(settings, why, guard):
    """They are refused at once, with what is allowed."""
    with pytest.raises(ValueError, match=why):
        CapguardAgentMiddleware(guard, **settings)
