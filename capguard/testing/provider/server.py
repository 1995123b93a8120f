"""Running the fake provider on loopback, in a thread of this process or in the foreground."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette

from capguard.testing.provider.app import provider_app
from capguard.testing.provider.settings import Settings
from capguard.testing.provider.state import Provider

_START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Served:
    """A fake provider that runs: where it is reached, and its state."""

    anthropic_url: str
    provider: Provider

    @property
    def url(self) -> str:
        """The base URL for OpenAI's clients; Anthropic's take `anthropic_url`."""
        return f"{self.anthropic_url}/v1"


@contextmanager
def serve(settings: Settings | None = None) -> Iterator[Served]:
    """Run a fake provider on a free loopback port, in a background thread, until the block is left.

    Calls still in flight then get one second. Raises RuntimeError if the server does not start.
    """
    app = provider_app(settings)
    with listening(0) as sock:
        server = _Server(quiet(app))
        thread = threading.Thread(target=server.run, args=([sock],), name="capguard-fake-provider", daemon=True)
        thread.start()
        try:
            if not server.ready.wait(_START_SECONDS):
                raise RuntimeError(f"the fake provider did not start within {_START_SECONDS} s")
            yield Served(root_url(sock), app.state.provider)
        finally:
            server.should_exit = True
            thread.join()


def listening(port: int) -> socket.socket:
    """A socket that listens on loopback; port 0 takes a free one. Raises OSError where the port is taken."""
    sock = socket.create_server(("127.0.0.1", port), backlog=2048)
    # asyncio sets TCP_NODELAY only on a socket that names its protocol; without it each reply waits 40 ms.
    return socket.socket(sock.family, sock.type, socket.IPPROTO_TCP, fileno=sock.detach())


def root_url(sock: socket.socket) -> str:
    """Where `sock` is reached, without a path."""
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


def quiet(app: Starlette) -> uvicorn.Config:
    """A configuration that logs nothing: a dropped connection is asked for here, not an error."""
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config):
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
