"""The real LiteLLM proxy on loopback over a fake provider, driven by the official clients of OpenAI and Anthropic.

    python examples/litellm_proxy/run.py

Needs `litellm[proxy]`; no key, no database, no cost. The proxy takes some ten seconds to start.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai

from capguard import Guard
from capguard.testing.provider import Served, Settings, serve

HERE = Path(__file__).parent
MESSAGES: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
PATIENCE_S = 240


@contextmanager
def proxy(fake: Served, ledger: str) -> Iterator[str]:
    """The proxy as a process; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "OPENAI_URL": fake.url,
        "ANTHROPIC_URL": fake.anthropic_url,
        "PROVIDER_KEY": "any",
        "CAPGUARD_URL": ledger,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [sys.executable, "-c", "from litellm import run_server; run_server()"]
    command += ["--config", str(HERE / "proxy.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait(process, f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health/liveliness", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    sys.exit("the proxy did not start: is litellm[proxy] installed?")


def ask(client: openai.OpenAI, who: str) -> None:
    """One question over OpenAI's API."""
    try:
        reply = client.chat.completions.with_raw_response.create(model="big", messages=MESSAGES, max_tokens=100)
    except openai.RateLimitError as refused:
        print(f"{who}: 429 {refused.type}: {refused.body['message']}")  # type: ignore[index]
        return
    served = reply.headers.get("x-capguard-downgraded", "openai/gpt-4o")
    print(f"{who}: {served} answered, ${reply.headers['x-capguard-remaining']} left")


def claude(client: anthropic.Anthropic, who: str) -> None:
    """One question over Anthropic's API, streamed."""
    try:
        words = list(client.messages.create(model="claude", messages=MESSAGES, max_tokens=100, stream=True))
        print(f"{who}: claude streamed {len(words)} events")
    except anthropic.RateLimitError as refused:
        print(f"{who}: 429 {refused.body['error']['type']}: {refused.body['error']['message']}")  # type: ignore[index]


def main() -> None:
    """A free user meets the cap, a paying one is sent to the cheaper model."""
    with tempfile.TemporaryDirectory() as folder, serve(Settings(input_tokens=10, output_tokens=100)) as fake:
        ledger = f"sqlite:///{folder}/ledger.db"
        with proxy(fake, ledger) as url:
            ann = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-ann-free")
            eve = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-eve-pro")
            for _ in range(3):
                ask(ann, "ann on free")
            claude(anthropic.Anthropic(base_url=url, api_key="sk-ann-free"), "ann on free")
            for _ in range(2):
                ask(eve, "eve on pro")
            claude(anthropic.Anthropic(base_url=url, api_key="sk-eve-pro"), "eve on pro")
        with Guard(ledger, policy=str(HERE / "policy.toml")) as guard:
            held = sum(
                guard.status(user=user, plan=plan).caps["monthly"].held
                for user, plan in (("ann", "free"), ("eve", "pro"))
            )
            print(f"{fake.provider.calls} calls reached the provider, ${held} is still held")


if __name__ == "__main__":
    main()
