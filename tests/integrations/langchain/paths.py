"""The ways through LangChain, each with what it is called on, as one table that every outcome is tried with."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from capguard import Cap, Guard
from capguard.integrations.langchain import RETRYABLE
from tests.kit import held

POLICY: dict[str, Any] = {
    "prices": {
        "big": {"input": 10, "output": 20},
        "small": {"input": 1, "output": 2},
        "embed": {"input": 100, "output": 0},
    },
    "caps": [{"id": "monthly", "limit": 5}],
    "plans": {"free": {}, "pro": {}},
}
BLOCKED = {**POLICY, "caps": [{"id": "monthly", "limit": 0}]}
COST = "0.0005"
"""10 tokens in, 20 out, of `big`."""

CHEAP = "0.00005"
"""The same of `small`."""

NO_BIG = Cap(id="no-big", limit=0, match={"model": "big"})

ASKED = "Say something."


async def _events(target: Any, asked: Any, config: Any) -> list[Any]:
    return [event async for event in target.astream_events(asked, config, version="v2")]


async def _astream(target: Any, asked: Any, config: Any) -> list[Any]:
    return [chunk async for chunk in target.astream(asked, config)]


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    return {"callbacks": config["callbacks"], "metadata": config["metadata"]}


WAYS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "invoke": lambda target, asked, config: target.invoke(asked, config),
    "ainvoke": lambda target, asked, config: target.ainvoke(asked, config),
    "stream": lambda target, asked, config: list(target.stream(asked, config)),
    "astream": _astream,
    "batch": lambda target, asked, config: target.batch([asked, asked], config),
    "abatch": lambda target, asked, config: target.abatch([asked, asked], config),
    "astream_events": _events,
    "generate": lambda target, asked, config: target.generate([[HumanMessage(asked)]] * 2, **_flat(config)),
    "agenerate": lambda target, asked, config: target.agenerate([[HumanMessage(asked)]] * 2, **_flat(config)),
    "text": lambda target, asked, config: target.generate([asked, asked], **_flat(config)),
    "atext": lambda target, asked, config: target.agenerate([asked, asked], **_flat(config)),
}
"""How it is called."""

TWICE = {"batch", "abatch", "generate", "agenerate"}
ASYNC = {"ainvoke", "astream", "abatch", "astream_events", "agenerate", "atext"}


def _chain(make: Any) -> Any:
    return ChatPromptTemplate.from_messages([("human", "{asked}")]) | make() | StrOutputParser()


def _agent(make: Any) -> Any:
    agents = pytest.importorskip("langchain.agents")
    return agents.create_agent(make(), tools=[])


def _graph(make: Any) -> Any:
    graph = pytest.importorskip("langgraph.graph")
    model = make()

    async def answered(state: Any) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    from langchain_core.runnables import RunnableLambda
    from langgraph.types import RetryPolicy

    node = RunnableLambda(lambda state: {"messages": [model.invoke(state["messages"])]}, answered)
    built = graph.StateGraph(graph.MessagesState)
    built.add_node("model", node, retry_policy=RetryPolicy(initial_interval=0.01, max_attempts=2))
    return built.add_edge(graph.START, "model").compile()


def _text(make: Any) -> Any:
    import langchain_openai

    return make(of=langchain_openai.OpenAI, max_tokens=20)


class Target(NamedTuple):
    """What is called: how it is made of a model, and how its question is put. `tries` it makes of a failure."""

    make: Callable[[Any], Any]
    asks: Any = ASKED
    tries: int = 1


TARGETS = {
    "model": Target(lambda make: make()),
    "chain": Target(_chain, {"asked": ASKED}),
    "agent": Target(_agent, {"messages": [("user", ASKED)]}),
    "graph": Target(_graph, {"messages": [("user", ASKED)]}, tries=2),
    "fallback": Target(lambda make: make().with_fallbacks([make(temperature=0.5)]), tries=2),
    "retry": Target(
        lambda make: make().with_retry(
            retry_if_exception_type=RETRYABLE, stop_after_attempt=2, wait_exponential_jitter=False
        ),
        tries=2,
    ),
    "llm": Target(_text),
}
_GENERATE = {"generate", "agenerate"}
_TEXT = {"text", "atext"}


class Path(NamedTuple):
    """One way on one target."""

    way: str
    on: str

    def __str__(self) -> str:
        return f"{self.on}-{self.way}"

    @property
    def calls(self) -> int:
        """How many calls reach the provider. A text model sends both prompts in one."""
        return 2 if self.way in TWICE else 1

    @property
    def reports(self) -> bool:
        """Whether it reports its usage: text models that stream do not."""
        return self.on != "llm" or "stream" not in self.way

    @property
    def tries(self) -> int:
        """How often a call that fails is tried. Streams are not retried."""
        streams = self.on == "retry" and self.way in ("stream", "astream", "astream_events")
        return 1 if streams else TARGETS[self.on].tries

    async def run(self, make: Any, config: Any) -> Any:
        target = TARGETS[self.on]
        reply = WAYS[self.way](target.make(make), target.asks, config)
        return await reply if asyncio.iscoroutine(reply) else reply

    @property
    def reads_no_further(self) -> bool:
        """Whether nobody goes on reading behind a reader that stops: events, chains and the threads of a graph do."""
        return self.way != "astream_events" and self.on not in ("agent", "graph", "chain")

    async def begin(self, make: Any, config: Any) -> None:
        """Read the first pieces of a stream, and no more."""
        target = TARGETS[self.on]
        built, mode = target.make(make), {"stream_mode": "messages"} if self.on in ("agent", "graph") else {}
        if self.way == "stream":
            chunks = built.stream(target.asks, config, **mode)
            _ = [next(chunks) for _ in range(3)]
            return
        if self.way == "astream":
            chunks = built.astream(target.asks, config, **mode)
            _ = [await anext(chunks) for _ in range(3)]
        else:
            chunks = built.astream_events(target.asks, config, version="v2")
            while not (await anext(chunks))["event"].endswith("_model_stream"):
                pass
        await chunks.aclose()


PATHS = [
    Path(way, on)
    for on in TARGETS
    for way in WAYS
    if (way in _TEXT) == (on == "llm") and (way not in _GENERATE or on == "model")
]
PATHS += [Path(way, "llm") for way in ("invoke", "ainvoke", "stream", "astream")]

every_path = pytest.mark.parametrize("path", PATHS, ids=str)
every_stream = pytest.mark.parametrize("path", [path for path in PATHS if "stream" in path.way], ids=str)
every_wrapper = pytest.mark.parametrize("path", [path for path in PATHS if path.on not in ("model", "llm")], ids=str)
every_async = pytest.mark.parametrize("path", [path for path in PATHS if path.way in ASYNC], ids=str)


async def nothing_held(guard: Guard, user: str = "u1") -> bool:
    """Whether no hold is left, once everything that went on in the background has come to its end."""
    for _ in range(500):
        guard.flush()
        if held(guard, user=user) == 0:
            return True
        gc.collect()
        await asyncio.sleep(0.01)
    return False


@contextlib.contextmanager
def blocked(guard: Guard) -> Any:
    """Within the block the user's cap has no room left."""
    guard.override(user="u1", cap="monthly", limit=0)
    yield
    guard.clear_override(user="u1", cap="monthly")
