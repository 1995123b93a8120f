"""The ways to call LiteLLM, sync and async, plain and streamed, as one table that every outcome is tried with."""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version
from typing import Any, NamedTuple

import litellm
import pytest

from capguard import Guard
from capguard.integrations.litellm import CappedLiteLLM, host
from capguard.testing.provider import Served

MODELS = {
    "big": {"input": 10, "output": 20},
    "small": {"input": 1, "output": 2},
    "embed": {"input": 100, "output": 0},
    "embed-small": {"input": 10, "output": 0},
    "paint": {"request": 0.002},
    "paint-small": {"request": 0.0005},
}
PRICES = {f"openai/{name}": rates for name, rates in MODELS.items()}
DOWNGRADE = {"big": "small", "embed": "embed-small", "paint": "paint-small"}
MESSAGES = [{"role": "user", "content": "Say something."}]


class Path(NamedTuple):
    """One function, called one way. It costs `cost` on the fake provider's 10 tokens in, 20 out; `cheap` downgraded."""

    name: str
    model: str
    asks: dict[str, Any]
    cost: str
    cheap: str
    stream: bool = False

    @property
    def is_async(self) -> bool:
        return self.name.startswith("a")

    def __str__(self) -> str:
        return self.name + ("-stream" if self.stream else "")

    @property
    def cheaper(self) -> str:
        return DOWNGRADE[self.model]

    @property
    def tries(self) -> int:
        """At most: most versions drop `max_retries=0` of these, so that the OpenAI SDK tries a failure three times."""
        return 3 if self.model in ("embed", "paint") else 1

    async def begin(self, target: Any, **more: Any) -> Any:
        """Call it; a stream comes back unread."""
        if "responses" in self.name:
            pytest.importorskip("mcp", reason="LiteLLM's responses need litellm[proxy]")
        streams = {"stream": True} if self.stream else {}
        reply = getattr(target, self.name)(**self.asks, **streams, **{"model": self.model, "user": "u1", **more})
        return await reply if inspect.isawaitable(reply) else reply

    async def run(self, target: Any, **more: Any) -> Any:
        """Call it and read a stream to its end."""
        reply = await self.begin(target, **more)
        if not self.stream:
            return reply
        return [chunk async for chunk in reply] if self.is_async else list(reply)


_CHAT: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 20}
_TEXT: dict[str, Any] = {"prompt": "Say something.", "max_tokens": 20}
_RESPONSES: dict[str, Any] = {"input": "Say something.", "max_output_tokens": 20}
_TOKENS = ("0.0005", "0.00005")

_SYNC = (
    Path("completion", "big", _CHAT, *_TOKENS),
    Path("completion", "big", _CHAT, *_TOKENS, stream=True),
    Path("text_completion", "big", _TEXT, *_TOKENS),
    Path("text_completion", "big", _TEXT, *_TOKENS, stream=True),
    Path("responses", "big", _RESPONSES, *_TOKENS),
    Path("responses", "big", _RESPONSES, *_TOKENS, stream=True),
    Path("embedding", "embed", {"input": ["Say something."]}, "0.001", "0.0001"),
    Path("image_generation", "paint", {"prompt": "Something."}, "0.002", "0.0005"),
)
PATHS = [*_SYNC, *(path._replace(name=f"a{path.name}") for path in _SYNC)]
STREAMS = [path for path in PATHS if path.stream]
ASYNC = [path for path in PATHS if path.is_async]

every_path = pytest.mark.parametrize("path", PATHS, ids=str)
every_stream = pytest.mark.parametrize("path", STREAMS, ids=str)
every_async = pytest.mark.parametrize("path", ASYNC, ids=str)


def older(than: str) -> bool:
    """Whether the LiteLLM under test comes before a version."""
    found, wanted = (tuple(map(int, text.split(".")[:3])) for text in (version("litellm"), than))
    return found < wanted


class Sdk:
    """LiteLLM's functions under caps, towards the fake provider."""

    def __init__(self, guard: Guard, fake: Served):
        self._capped = CappedLiteLLM(guard)
        self._to = {"api_base": fake.url, "api_key": "any", "max_retries": 0}

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._capped, name)
        return lambda *, model, **kwargs: function(model=f"openai/{model}", **self._to, **kwargs)


def router_to(fake: Served, **settings: Any) -> litellm.Router:
    """A Router with a group and a deployment for every model."""
    params = {"api_base": fake.url, "api_key": "any", "max_retries": 0}
    groups = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", **params}} for name in MODELS]
    return litellm.Router(model_list=groups, **{"num_retries": 0, **settings})


def routed(guard: Guard, fake: Served) -> Any:
    """A Router under caps."""
    return CappedLiteLLM(guard).router(router_to(fake))


TARGETS = {"sdk": Sdk, "router": routed}
inside = pytest.mark.skipif(older(host.OLDEST_INSIDE), reason="a Router or callback needs a newer LiteLLM")
"""For tests of a Router or a callback."""
every_target = pytest.mark.parametrize("target", ["sdk", pytest.param("router", marks=inside)])


async def settle_down() -> None:
    """Let what LiteLLM put aside for later run."""
    for _ in range(3):
        await asyncio.sleep(0)
