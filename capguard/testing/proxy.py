"""A proxy on loopback that passes bytes on, until a test wants to see what a broken network does."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal

Fault = Literal["reset", "black hole", "delay", "half-open"]
"""`reset`: the server has answered, and the connection is reset instead of it. `black hole`: the answer never comes.
`delay`: it comes late. `half-open`: the command never reaches the server, and nobody says so."""

_CHUNK = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Passes what comes to `port` on to the port `target` of this machine, for as long as its block lasts.

    With `tls` it speaks TLS to its clients, and plain to the server. `happened` counts the faults since `fail`.
    """

    def __init__(self, target: int, *, tls: ssl.SSLContext | None = None):
        self.port = 0
        self.happened = 0
        self._target, self._tls = target, tls
        self._plan: _Plan | None = None
        self._links: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Proxy:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="capguard-proxy", daemon=True)
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def fail(self, fault: Fault, *, on: bytes = b"", times: int = 1, seconds: float = 0) -> None:
        """Do this to the next commands that contain `on`, so many of them; `seconds` are those of a delay."""
        self.happened = 0
        self._plan = _Plan(fault, on, times, seconds)

    def heal(self) -> None:
        """Do nothing to commands any more. Connections that a fault has met stay as they are."""
        self._plan = None

    def accept(self) -> None:
        """Accept connections, again after `refuse`."""
        self._do(self._listen())

    def refuse(self) -> None:
        """Reset all connections, and accept none any more."""
        self._do(self._end())

    def _do(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.ensure_future(self._link(reader, writer))
        self._links.add(task)
        await asyncio.wait([task])
        self._links.discard(task)

    async def _link(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection. When one of its two ends goes, the other goes too."""
        met = _Met()
        there = None
        try:
            answers, there = await asyncio.open_connection("127.0.0.1", self._target)
            ways = (
                asyncio.create_task(self._to(there, reader, met)),
                asyncio.create_task(self._from(answers, writer, met)),
            )
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            met.fault = "reset"  # no server: the client is told at once
        finally:
            _close(writer, reset=met.fault == "reset")
            if there is not None:
                _close(there)

    async def _to(self, server: StreamWriter, commands: StreamReader, met: _Met) -> None:
        while command := await commands.read(_CHUNK):
            self._meets(command, met)
            if met.fault != "half-open":
                server.write(command)
                await server.drain()

    async def _from(self, replies: StreamReader, client: StreamWriter, met: _Met) -> None:
        while reply := await replies.read(_CHUNK):
            if met.fault == "reset":
                return
            if met.fault == "black hole":
                continue
            if met.fault == "delay":
                await asyncio.sleep(met.seconds)
                met.fault = None
            client.write(reply)
            await client.drain()

    def _meets(self, command: bytes, met: _Met) -> None:
        plan = self._plan
        if plan is not None and plan.times and plan.on in command:
            plan.times -= 1
            met.fault, met.seconds = plan.fault, plan.seconds
            self.happened += 1


@dataclass(slots=True)
class _Plan:
    """What is to be done to how many of which commands."""

    fault: Fault
    on: bytes
    times: int
    seconds: float


@dataclass(slots=True)
class _Met:
    """What a connection has met."""

    fault: Fault | None = None
    seconds: float = 0


def _close(writer: StreamWriter, *, reset: bool = False) -> None:
    sock = writer.get_extra_info("socket")
    if reset and sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.transport.abort()
    else:
        writer.close()
