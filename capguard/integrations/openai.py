"""OpenAI's client under caps.

client = cap(OpenAI(), guard)
with identify(user="ada"):
    client.chat.completions.create(model="gpt-4o", messages=messages)      # CapExceeded, or the reply as ever
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar, Unpack

from capguard.integrations.sdk.client import cap_client
from capguard.integrations.sdk.endpoint import Api, Endpoint

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

    from capguard.arguments import IdentityArgs
    from capguard.guard import Guard

ClientT = TypeVar("ClientT", bound="OpenAI | AsyncOpenAI")

API = Api(
    package="openai",
    clients="an openai.OpenAI or AsyncOpenAI, those for Azure among them",
    endpoints=(
        Endpoint(
            "/chat/completions",
            {"messages": "messages", "tools": "tools", "n": "n", "system": "response_format"},
            limits=("max_tokens", "max_completion_tokens"),
            usage_on_request=True,
        ),
        Endpoint("/completions", {"prompt": "prompt", "n": "n"}, limits=("max_tokens",), usage_on_request=True),
        Endpoint(
            "/responses",
            {"input": "input", "system": "instructions", "tools": "tools"},
            limits=("max_output_tokens",),
        ),
        Endpoint("/responses/compact", {"input": "input", "system": "instructions"}),
        Endpoint("/embeddings", {"input": "input"}),
        Endpoint("/images/generations", {"prompt": "prompt", "n": "n"}, draws=True),
        Endpoint("/images/edits", {"prompt": "prompt", "n": "n"}, draws=True),
        Endpoint("/images/variations", {"n": "n"}, draws=True),
        Endpoint("/audio/speech", {"input": "input", "system": "instructions"}),
        Endpoint("/audio/transcriptions", {"prompt": "prompt"}),
        Endpoint("/audio/translations", {"prompt": "prompt"}),
    ),
    unmetered=("/batches", "/fine_tuning", "/realtime", "/threads", "/videos", "/evals", "/chatkit"),
)
"""https://platform.openai.com/docs/api-reference; the paths are those of openai-python 2.54."""


def cap(
    client: ClientT,
    guard: Guard | None = None,
    *,
    on_stream_exceeded: Literal["finish", "cut"] = "finish",
    **who: Unpack[IdentityArgs],
) -> ClientT:
    """A copy of `client`, of the same type, whose calls are held before they are sent and booked by what comes back.

    Chat completions, completions, responses, embeddings, images and audio, plain and streamed, with `parse`, `stream`,
    `with_raw_response` and `with_streaming_response`. `CapExceeded` comes before anything is sent, and no retry of the
    SDK sees it; the SDK's own retries are one call. A downgrade puts the cheaper model into the request. Streams are
    made to report their usage; the chunk that carries it is hidden from who did not ask for it.

    `who` binds an identity: `cap(client, guard, user="ada")` takes some 30 us and shares the connections. Fields that
    are not bound come from `identify`. Without `guard`, the process's own holds (`configure`). A stream that outgrows
    its hold and may not have more is let finish and booked in full (`finish`), or ended there (`cut`).

    Raises TypeError for what is no client of OpenAI's, ValueError for an identity that can name nobody.
    """
    return cap_client(API, client, guard, on_stream_exceeded, who)
