"""The application of the demo: what one writes around a call, with OpenAI's SDK."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import openai

from capguard.cli.demo.traffic import MAX_TOKENS, MODEL, Ask, asked_price, policy_file
from capguard.errors import CapguardError
from capguard.guard import Guard
from capguard.pricing.tokens import warm

_SECONDS_PER_TOKEN = 0.0008  # the provider's latency, pressed together as the trace's minutes are
_OVERHEAD = 8  # tokens around a text: the message, its role, the start of the reply
_WORDS = ("a", "hold", "before", "each", "call", "and", "the", "real", "cost", "booked", "after", "it")


class Desk:
    """A Guard and a client, shared by the threads of one process."""

    def __init__(self, ledger: str, provider: str):
        http = openai.DefaultHttpxClient(trust_env=False)  # a proxy of the environment has no business on loopback
        self._client = openai.OpenAI(base_url=f"{provider}/v1", api_key="none", max_retries=0, http_client=http)
        self._guard = Guard(ledger, policy=policy_file())

    def __enter__(self) -> Desk:
        """Load what the first call would wait for: vocabulary, prices, the SDK's lazy parts, a connection."""
        warm(MODEL)
        asked_price()
        _ = self._client.chat.completions
        self._guard.status(user="nobody")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._client.close()
        self._guard.close()

    def serve(self, ask: Ask) -> None:
        """One call. Raises CapExceeded where a cap refuses, CapguardError where the provider fails."""
        try:
            self._call(ask)
        except openai.OpenAIError as error:
            raise CapguardError(f"the provider failed: {error}") from error

    def _call(self, ask: Ask) -> None:
        """What an application writes: reserve, call, settle."""
        messages: Any = [{"role": "user", "content": text_of(ask.input_tokens)}]
        with self._guard.call(
            id=ask.id, user=ask.user, plan=ask.plan, model=MODEL, messages=messages, max_tokens=MAX_TOKENS
        ) as call:
            reply = self._client.chat.completions.create(messages=messages, **call.params, extra_headers=_told(ask))
            call.settle(reply)


def text_of(tokens: int) -> str:
    """A text that makes a prompt of about so many tokens."""
    return " ".join(_WORDS[at % len(_WORDS)] for at in range(max(1, tokens - _OVERHEAD)))


def _told(ask: Ask) -> dict[str, str]:
    """The fake provider is told what the trace says: how many tokens came in, how many go out, how long it takes."""
    return {
        "x-fake-input-tokens": str(ask.input_tokens),
        "x-fake-output-tokens": str(ask.output_tokens),
        "x-fake-latency": f"{ask.output_tokens * _SECONDS_PER_TOKEN:.3f}",
    }
