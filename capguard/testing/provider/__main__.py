"""`python -m capguard.testing.provider --port N`: a fake provider in the foreground, until it is interrupted."""

from __future__ import annotations

import argparse
import contextlib
import sys

import uvicorn

from capguard.testing.provider.app import provider_app
from capguard.testing.provider.server import listening, quiet, root_url


def main() -> None:
    """Print the base URL for OpenAI's clients as one line, then serve."""
    parser = argparse.ArgumentParser(prog="python -m capguard.testing.provider", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="the loopback port; 0, the default, takes a free one")
    port = parser.parse_args().port
    try:
        sock = listening(port)
    except (OSError, OverflowError) as refused:
        parser.error(f"--port {port}: {refused}; allowed: a free port, 0 to 65535")
    sys.stdout.write(f"{root_url(sock)}/v1\n")
    sys.stdout.flush()
    with sock, contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(quiet(provider_app())).run(sockets=[sock])


if __name__ == "__main__":
    main()
