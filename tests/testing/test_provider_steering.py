"""The fake provider is steered and read from its own process and from others."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from capguard.testing.provider import Provider, Served, Settings, provider_app, serve
from capguard.testing.provider import app as provider_module

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"output_tokens": -1}, "output_tokens: -1 is refused; allowed: a whole number, 0 or more, or None"),
        ({"input_tokens": 1.5}, "input_tokens: 1.5"),
        ({"cached_tokens": None}, "cached_tokens: None"),
        ({"reasoning_tokens": True}, "reasoning_tokens: True"),
        ({"chunk_tokens": 0}, "chunk_tokens: 0"),
        ({"latency": float("inf")}, "latency: inf"),
        ({"chunk_delay": -0.1}, "chunk_delay: -0.1"),
        ({"fail_status": 200}, "fail_status: 200 is refused; allowed: a status from 400 to 599, or None"),
        ({"disconnect_after": "1"}, "disconnect_after: '1'"),
        ({"model_suffix": None}, "model_suffix: None"),
        ({"speed": 1}, "speed: no such setting; allowed: input_tokens, "),
    ],
)
def test_wrong_settings_are_refused(fake: Served, wrong: dict[str, Any], says: str):
    """With what is wrong and what is allowed, and nothing changes."""
    with pytest.raises(ValueError) as refused:
        fake.provider.set(**wrong)
    assert says in str(refused.value)
    assert fake.provider.settings == Settings()


def test_another_process_reads_and_steers(fake: Served, http: httpx.Client):
    """GET /calls, POST /settings and POST /reset do what `counts`, `set` and `reset` do."""
    root = fake.anthropic_url
    changed = http.post(f"{root}/settings", json={"input_tokens": 11, "fail_first": 1})
    assert (changed.status_code, changed.json()["input_tokens"]) == (200, 11)
    assert fake.provider.settings == Settings(input_tokens=11, fail_first=1)
    replies = [http.post(f"{fake.url}/chat/completions", json=CHAT) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [500, 200]
    assert replies[1].json()["usage"]["prompt_tokens"] == 11
    counts = {"calls": 2, "failed": 1, "by_path": {"/v1/chat/completions": 2}}
    assert http.get(f"{root}/calls").json() == counts == fake.provider.counts()
    assert http.post(f"{root}/reset").json() == {"calls": 0, "failed": 0, "by_path": {}}
    assert (fake.provider.settings, fake.provider.requests) == (Settings(), [])


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"speed": 1}', b'{"latency": -1}'])
def test_wrong_settings_over_http_are_a_400(fake: Served, body: bytes, http: httpx.Client):
    reply = http.post(f"{fake.anthropic_url}/settings", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]
    assert fake.provider.settings == Settings()


def test_requests_are_remembered_with_path_and_body_up_to_a_bound(fake: Served, http: httpx.Client):
    """What a client sent can be read back; a long test does not fill the memory."""
    http.post(f"{fake.url}/chat/completions", json=CHAT)
    http.post(f"{fake.url}/embeddings", content=b"?")
    assert [tuple(seen) for seen in fake.provider.requests] == [
        ("/v1/chat/completions", CHAT),
        ("/v1/embeddings", None),
    ]
    provider = Provider()
    for number in range(1500):
        provider.arrived("/v1/messages", {"number": number})
    assert (provider.calls, len(provider.requests)) == (1500, 1000)
    assert provider.requests[-1].body == {"number": 1499}


def test_parallel_calls_are_all_counted(fake: Served, oai: openai.OpenAI):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: oai.chat.completions.create(**CHAT), range(40)))
    assert fake.provider.calls == 40


def test_headers_replay_a_trace(oai: openai.OpenAI):
    """Each call says its own counts, whatever the settings of the server."""
    headers = {"x-fake-input-tokens": "374", "x-fake-output-tokens": "44", "x-fake-latency": "0"}
    reply = oai.chat.completions.create(**CHAT, extra_headers=headers)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (374, 44)


@pytest.mark.parametrize(
    ("settings", "headers", "waits"),
    [
        (Settings(latency=3.0), {}, [3.0]),
        (Settings(latency=3.0), {"x-fake-latency": "0.5"}, [0.5]),
        (Settings(latency=3.0, chunk_delay=2.0, output_tokens=10), {"stream": "yes"}, [3.0, 0, 2.0, 2.0, 2.0]),
        (Settings(), {}, [0]),
    ],
)
async def test_latency_comes_before_the_first_byte_and_the_delay_between_events(monkeypatch, settings, headers, waits):
    """The waits that the application asks of the loop; no test waits for them."""
    asked: list[float] = []

    async def noted(seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr(provider_module, "sleep", noted)
    transport = httpx.ASGITransport(provider_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://fake") as client:
        body = {**CHAT, "stream": "stream" in headers}
        await client.post("/v1/chat/completions", json=body, headers=headers)
    assert asked == waits


def test_leaving_the_block_ends_everything_even_with_a_call_in_flight():
    """That call is cut off with a 500, the thread ends and the port is free."""
    before = set(threading.enumerate())
    with ThreadPoolExecutor(1) as pool:
        with serve(Settings(latency=3600)) as fake:
            hanging = pool.submit(httpx.post, f"{fake.url}/chat/completions", json=CHAT, timeout=None)
            while not fake.provider.calls:
                threading.Event().wait(0.005)
        assert hanging.result(30).status_code == 500
    assert set(threading.enumerate()) <= before
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{fake.anthropic_url}/calls")


def test_it_runs_in_the_foreground(http: httpx.Client):
    """It prints its URL, serves, and ends quietly with status 0 when it is interrupted."""
    command = [sys.executable, "-W", "error", "-m", "capguard.testing.provider", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert http.post(f"{url}/chat/completions", json=CHAT).status_code == 200
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (0, "", "")


@pytest.mark.parametrize("port", ["taken", "70000", "-1"])
def test_a_port_that_cannot_be_had_is_named(fake: Served, port: str):
    taken = fake.anthropic_url.rsplit(":")[-1]
    command = [sys.executable, "-m", "capguard.testing.provider", f"--port={port if port != 'taken' else taken}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "allowed: a free port, 0 to 65535" in ended.stderr


@pytest.mark.parametrize("module", ["starlette", "uvicorn"])
def test_a_missing_package_names_the_extra(module: str):
    code = f"import sys; sys.modules[{module!r}] = None; import capguard.testing.provider"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert last == (
        "capguard.errors.MissingExtra: the fake provider needs an extra that is not installed: "
        "pip install 'capguard[demo]'"
    )
