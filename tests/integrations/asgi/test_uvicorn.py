"""Over real uvicorn processes and real HTTP: transparent, exact under load, and booked when clients go away."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from capguard.testing.provider import Served

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}  # Starlette lists a route's methods as a set


@pytest.fixture(scope="module")
def ports(provider: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ordinary application without the middleware, and twice with it on one ledger."""
    ledger = f"sqlite:///{tmp_path_factory.mktemp('asgi')}/ledger.db?timeout=30"
    wanted = {"without": "memory://", "with": ledger, "again": ledger}
    ports = {name: free_port() for name in wanted}
    with ExitStack() as stack:
        for name, url in wanted.items():
            way = "without" if name == "without" else "with"
            command = [
                sys.executable,
                "-m",
                "tests.integrations.asgi.ordinary",
                way,
                str(ports[name]),
                provider.url,
                url,
            ]
            state = {"CAPGUARD_STATE": str(tmp_path_factory.getbasetemp() / "uvicorn-state")}
            process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT | state)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        for port in ports.values():
            wait_for(port)
        yield ports


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing listens on {port}")


def at(port: int) -> str:
    return f"http://127.0.0.1:{port}"


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/echo?a=1&b=%20", {}),
    ("HEAD", "/pool", {}),
    ("POST", "/echo", {"content": b"\x00\xff" * 100_000}),
    ("PUT", "/echo", {"content": iter([b"one", b"two"])}),
    ("DELETE", "/echo", {}),
    ("OPTIONS", "/echo", {}),
    ("POST", "/json", {"json": {"a": [1]}}),
    ("POST", "/json", {"content": b"{not json"}),
    ("POST", "/json", {"content": b"\xff\xfe", "headers": {"content-type": "application/json; charset=latin-1"}}),
    ("GET", "/pool", {}),
    ("GET", "/events", {}),
    ("GET", "/redirect", {}),
    ("GET", "/file", {"headers": {"range": "bytes=0-9"}}),
    ("GET", "/background", {}),
    ("GET", "/state", {}),
    ("GET", "/fails", {}),
    ("GET", "/nowhere", {}),
    ("GET", "/mounted/echo?x", {}),
    ("GET", "/mounted/nowhere", {}),
]


def wire(port: int, method: str, path: str, options: dict[str, Any]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """An answer as it came, and in which pieces does not matter: status, headers in order, body."""
    if "content" in options and not isinstance(options["content"], bytes):
        options = {**options, "content": iter([b"one", b"two"])}
    with httpx.Client(base_url=at(port)) as http:
        answer = http.request(method, path, **options)
    place = str(port).encode()
    return answer.status_code, [(n, v.replace(place, b"PORT")) for n, v in answer.headers.raw], answer.content


@pytest.mark.parametrize(("method", "path", "options"), REQUESTS, ids=[f"{m} {p}" for m, p, _ in REQUESTS])
def test_transparent(method: str, path: str, options: dict[str, Any], ports: dict[str, int]):
    """Where nothing is refused, every answer is byte for byte what it was."""
    assert wire(ports["with"], method, path, options) == wire(ports["without"], method, path, options)


def test_transparent_for_websockets(ports: dict[str, int]):
    for name in ("with", "without"):
        with connect(f"ws://127.0.0.1:{ports[name]}/ws") as talk:
            talk.send("hello")
            assert talk.recv() == "HELLO"


@pytest.mark.parametrize(("servers", "user"), [(["with"], "one-process"), (["with", "again"], "two-processes")])
async def test_fifty_requests_room_for_four(servers: list[str], user: str, ports: dict[str, int], fake: Served):
    """Exactly four reach the provider, from one process or two; the others are told so."""
    fake.provider.set(input_tokens=10, output_tokens=100, latency=0.5)
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=60), timeout=60) as http:
        urls = [f"{at(ports[servers[number % len(servers)]])}/chat" for number in range(50)]
        answers = await asyncio.gather(*(http.get(url, headers={"x-user": user}) for url in urls))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(refused), fake.provider.calls) == (46, 4)
    reasons = {answer.json()["error"]["reason"] for answer in refused}
    assert reasons <= {"in_flight", "exhausted"}, "on a slow machine some come when the four have been booked"


@pytest.mark.parametrize("path", ["/stream", "/stream-sync"])
def test_a_client_that_goes_away(path: str, ports: dict[str, int], fake: Served):
    """In the middle of a stream: what was seen is booked soon after, flagged, and nothing stays held."""
    fake.provider.set(output_tokens=90, chunk_tokens=5, chunk_delay=0.05)
    user = path.strip("/")
    port = ports["with"]
    before = len(meter(port, user)["entries"])
    with httpx.stream("GET", f"{at(port)}{path}", headers={"x-user": user}) as answer:
        lines = answer.iter_lines()
        while "hold" not in next(lines):
            pass
    found: dict[str, Any] = {}
    for _ in range(200):
        found = meter(port, user)
        if len(found["entries"]) == before + 2 and not float(found["held"]):  # the two are read one after the other
            break
        time.sleep(0.05)
    kind, cost, *flags = found["entries"][-1]
    assert (kind, flags, float(found["held"])) == ("settle", ["counted", "uncertain"], 0)
    assert 0 < float(cost) < 0.002


def meter(port: int, user: str) -> Any:
    return httpx.get(f"{at(port)}/meter", params={"user": user}).json()
