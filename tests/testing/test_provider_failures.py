"""The fake provider fails when it is told to, in the shape that the official clients understand."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx
import openai
import pytest

from capguard.testing.provider import Served

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
ASK: dict[str, Any] = {"model": "claude-sonnet-4", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("status", "name", "oai_type", "claude_type"),
    [
        (400, "BadRequestError", "invalid_request_error", "invalid_request_error"),
        (401, "AuthenticationError", "invalid_request_error", "authentication_error"),
        (403, "PermissionDeniedError", "invalid_request_error", "permission_error"),
        (404, "NotFoundError", "invalid_request_error", "not_found_error"),
        (429, "RateLimitError", "requests", "rate_limit_error"),
        (500, "InternalServerError", "server_error", "api_error"),
        (529, "InternalServerError", "server_error", "overloaded_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_status_becomes_the_error_of_the_client(
    fake: Served, oai: openai.OpenAI, claude: anthropic.Anthropic, status, name, oai_type, claude_type, stream
):
    """Each status is raised as its own class, with the body as the provider shapes it."""
    fake.provider.set(fail_status=status)
    with pytest.raises(getattr(openai, name)) as of_openai:
        oai.chat.completions.create(**CHAT, stream=stream)
    assert (of_openai.value.status_code, of_openai.value.type) == (status, oai_type)
    with pytest.raises(anthropic.APIStatusError) as of_anthropic:
        claude.messages.create(**ASK, stream=stream)
    assert of_anthropic.value.status_code == status
    assert of_anthropic.value.body["error"]["type"] == claude_type
    assert fake.provider.counts() == {
        "calls": 2,
        "failed": 2,
        "by_path": {"/v1/chat/completions": 1, "/v1/messages": 1},
    }


@pytest.mark.parametrize(("fail_status", "seen"), [(None, 500), (503, 503)])
def test_fail_first_fails_that_many_and_then_succeeds(
    fake: Served, oai: openai.OpenAI, fail_status, seen, http: httpx.Client
):
    fake.provider.set(fail_first=2, fail_status=fail_status)
    statuses = [http.post(f"{fake.url}/chat/completions", json=CHAT).status_code for _ in range(4)]
    assert statuses == [seen, seen, 200, 200]
    fake.provider.set(fail_first=1)
    assert http.post(f"{fake.url}/chat/completions", json=CHAT).status_code == seen


def test_a_retrying_client_gets_through_and_every_attempt_is_counted(fake: Served):
    fake.provider.set(fail_first=1, fail_status=429)
    with openai.OpenAI(base_url=fake.url, api_key="any", max_retries=1) as client:
        client.chat.completions.create(**CHAT)
    assert fake.provider.counts()["calls"] == 2


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/chat/completions", b"{", "not a JSON object"),
        ("/chat/completions", b"[]", "not a JSON object"),
        ("/chat/completions", b"\xff", "not a JSON object"),
        ("/chat/completions", b'{"model": "m"}', "messages: required"),
        ("/chat/completions", b'{"model": 5, "messages": []}', "model: 5"),
        ("/chat/completions", b'{"model": "m", "messages": [], "max_tokens": 0}', "max_tokens: 0"),
        ("/chat/completions", b'{"model": "m", "messages": [], "max_tokens": true}', "max_tokens: True"),
        ("/chat/completions", b'{"model": "m", "messages": [], "n": 0}', "n: 0"),
        ("/embeddings", b'{"model": "m"}', "input: required"),
        ("/embeddings", b'{"model": "m", "input": "x", "dimensions": 0.5}', "dimensions: 0.5"),
        ("/responses", b"{}", "model, input: required"),
        ("/messages", b'{"model": "m", "messages": []}', "max_tokens: required"),
    ],
)
def test_a_bad_request_is_refused_with_what_is_wrong(
    fake: Served, path: str, body: bytes, says: str, http: httpx.Client
):
    """What the real provider would refuse is a 400 that names the field; it reached the provider and is counted."""
    reply = http.post(fake.url + path, content=body)
    assert (reply.status_code, fake.provider.calls) == (400, 1)
    assert says in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        ({"x-fake-status": "429"}, 429, "429"),
        ({"x-fake-status": "soon"}, 400, "x-fake-status: 'soon'"),
        ({"x-fake-status": "302"}, 400, "fail_status: 302"),
        ({"x-fake-latency": "nan"}, 400, "latency: nan"),
        ({"x-fake-input-tokens": "-1"}, 400, "input_tokens: -1"),
        ({"x-fake-output-tokens": "1.5"}, 400, "x-fake-output-tokens: '1.5'"),
    ],
)
def test_headers_that_fail_a_call(fake: Served, headers, status, says, http: httpx.Client):
    reply = http.post(f"{fake.url}/chat/completions", json=CHAT, headers=headers)
    assert reply.status_code == status
    assert says in reply.json()["error"]["message"]


def test_a_status_of_200_in_a_header_succeeds_and_uses_up_no_failure(fake: Served, http: httpx.Client):
    fake.provider.set(fail_first=1, fail_status=503)
    url = f"{fake.url}/chat/completions"
    good = http.post(url, json=CHAT, headers={"x-fake-status": "200"})
    assert [good.status_code, *(http.post(url, json=CHAT).status_code for _ in range(2))] == [200, 503, 200]
