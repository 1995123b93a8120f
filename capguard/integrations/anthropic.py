"""Anthropic's client under caps.

client = cap(Anthropic(), guard)
with identify(user="ada"):
    client.messages.create(model="claude-sonnet-4-6", max_tokens=500, messages=messages)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar, Unpack

from capguard.integrations.sdk.client import cap_client
from capguard.integrations.sdk.endpoint import Api, Endpoint

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic

    from capguard.arguments import IdentityArgs
    from capguard.guard import Guard

ClientT = TypeVar("ClientT", bound="Anthropic | AsyncAnthropic")

API = Api(
    package="anthropic",
    clients="an anthropic.Anthropic or AsyncAnthropic",
    endpoints=(
        Endpoint(
            "/v1/messages",
            {"messages": "messages", "system": "system", "tools": "tools"},
            limits=("max_tokens",),
        ),
    ),
    unmetered=("/v1/messages/batches", "/v1/complete", "/v1/sessions"),
)
"""https://docs.anthropic.com/en/api; the paths are those of anthropic-sdk-python 2.12. Counting tokens is free."""


def cap(
    client: ClientT,
    guard: Guard | None = None,
    *,
    on_stream_exceeded: Literal["finish", "cut"] = "finish",
    **who: Unpack[IdentityArgs],
) -> ClientT:
    """A copy of `client`, of the same type, whose messages are held before they are sent and booked by what comes back.

    Plain and streamed, `messages` and `beta.messages`, with `parse`, `stream`, `with_raw_response` and
    `with_streaming_response`. `CapExceeded` comes before anything is sent, and no retry of the SDK sees it; the SDK's
    own retries are one call. A downgrade puts the cheaper model into the request.

    `who` binds an identity: `cap(client, guard, user="ada")` takes some 100 us and shares the connections. Fields that
    are not bound come from `identify`. Without `guard`, the process's own holds (`configure`). A stream that outgrows
    its hold and may not have more is let finish and booked in full (`finish`), or ended there (`cut`).

    Raises TypeError for what is no client of Anthropic's, ValueError for an identity that can name nobody.
    """
    return cap_client(API, client, guard, on_stream_exceeded, who)
