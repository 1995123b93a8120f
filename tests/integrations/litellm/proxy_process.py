"""The real LiteLLM proxy as a process on loopback, over the fake provider, with an authentication of the tests' own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import httpx
import openai

from capguard import Guard
from capguard.journal import Entry
from capguard.testing.provider import Served

ROOT = Path(__file__).parents[3]
START_S = 240

AUTH = """
from litellm.proxy._types import UserAPIKeyAuth

async def user_api_key_auth(request, api_key: str) -> UserAPIKeyAuth:
    user, plan, alias = (api_key.removeprefix("sk-").split("-") + ["", ""])[:3]
    return UserAPIKeyAuth(
        api_key=api_key, user_id=user or None, team_id="blue", key_alias=alias or None, metadata={"plan": plan}
    )
"""
"""A key says everything: `sk-<user>-<plan>-<alias>`."""


class Proxy(NamedTuple):
    """A proxy that runs: where it is reached, and the ledger and provider behind it."""

    url: str
    guard: Guard
    fake: Served

    def openai(self, key: str, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **{"max_retries": 0, **options})

    def anthropic(self, key: str, **options: Any) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url, api_key=key, **{"max_retries": 0, **options})

    def entries(self, user: str) -> list[Entry]:
        return list(self.guard.entries(user=user))

    def booked(self, user: str, calls: int = 1) -> list[Entry]:
        """What ended the calls of a user, once all `calls` have: the proxy books a stream just after its last byte."""
        until(lambda: len(_ends(self.entries(user))) >= calls)
        return _ends(self.entries(user))


def _ends(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.kind != "reserve"]


def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about within 10 s")


@contextmanager
def running(folder: Path, fake: Served, models: list[dict[str, Any]], policy: dict[str, Any]) -> Iterator[Proxy]:
    """Start the proxy with its YAML in `folder`, and end it, by its own process id."""
    url = f"sqlite:///{folder}/ledger.db?timeout=30"
    (folder / "proxy_auth.py").write_text(AUTH)
    (folder / "policy.json").write_text(json.dumps(policy))
    config = {
        "model_list": models,
        "router_settings": {"num_retries": 0, "fallbacks": [{"dead": ["cheap"]}, {"cheap-dead": ["big"]}]},
        "litellm_settings": {"callbacks": "capguard.integrations.litellm.proxy", "telemetry": False},
        "general_settings": {"master_key": "sk-master", "custom_auth": "proxy_auth.user_api_key_auth"},
        "capguard": {"url": url, "policy": "policy.json"},
    }
    (folder / "proxy.yaml").write_text(json.dumps(config))  # JSON is YAML too
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = "from litellm import run_server; run_server()"
    arguments = ["--config", str(folder / "proxy.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*_path(), str(ROOT), str(folder)])}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", command, *arguments], cwd=folder, env=environment, stdout=log, stderr=log
        ) as process,
    ):
        try:
            _wait(process, port, folder / "log")
            with Guard(url, policy=policy) as guard:
                yield Proxy(f"http://127.0.0.1:{port}", guard, fake)
        finally:
            process.kill()  # nothing of the tests is left to it, and an orderly end takes seconds


def _path() -> list[str]:
    return [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health/liveliness", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(f"the proxy did not start:\n{log.read_text()[-4000:]}")
