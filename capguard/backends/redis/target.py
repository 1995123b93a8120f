"""Where a ledger's servers are: read from a URL, or from a client that the application has already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

Kind = Literal["server", "sentinel", "cluster"]

SCHEMES: Mapping[str, tuple[Kind, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
"""Every scheme: what it leads to, and whether by TLS."""

FORMS = (
    "redis://[user:password@]host[:6379][/db], rediss://... with TLS, "
    "redis+sentinel://[user:password@]host:26379,host:26379/service[/db], redis+cluster://host:7000,host:7001"
)

_SETTINGS = {
    "host", "port", "path", "db", "username", "password", "credential_provider", "client_name", "protocol",
    "socket_keepalive", "socket_keepalive_options", "socket_type",
}  # fmt: skip
"""What of a connection's settings is cloned, with those of TLS: time-outs, retries and decoding are capguard's own."""

_IN_URL = (
    "protocol", "client_name", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname",
)  # fmt: skip
_PORTS: Mapping[Kind, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True)
class Target:
    """Servers and how to speak to them. `service` is the name that sentinels know; the settings hold a password."""

    kind: Kind
    nodes: tuple[tuple[str, int], ...]
    tls: bool = False
    service: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """As a URL, without any password."""
        scheme = next(name for name, meant in SCHEMES.items() if meant == (self.kind, self.tls))
        hosts = ",".join(f"{host}:{port}" for host, port in self.nodes) or str(self.settings.get("path", ""))
        tail = f"/{self.service}" if self.service else f"/{self.settings.get('db', 0)}"
        return f"{scheme}://{hosts}{tail if self.kind != 'cluster' else ''}"


def read_url(url: str) -> tuple[Target, dict[str, str]]:
    """The target that a URL names, and the options in it that are not about connections. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{parts.scheme}://; allowed: {FORMS}")
    kind, tls = SCHEMES[parts.scheme]
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    settings: dict[str, Any] = {name: options.pop(name) for name in _IN_URL if name in options}
    if "protocol" in settings:
        settings["protocol"] = _number(settings["protocol"], "protocol", 2, 3)
    if "ssl_check_hostname" in settings:
        settings["ssl_check_hostname"] = settings["ssl_check_hostname"].lower() in ("1", "true", "yes")
    service = _path(parts, kind, settings)
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    settings |= {"username": unquote(name)} if name else {}
    settings |= {"password": unquote(password)} if password else {}
    return Target(kind, tuple(_node(host, kind) for host in hosts.split(",")), tls, service, settings), options


def _path(parts: SplitResult, kind: Kind, settings: dict[str, Any]) -> str:
    """The database goes into the settings; the service of sentinels is returned."""
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = path.pop(0) if kind == "sentinel" and path else ""
    if (kind == "sentinel" and not service) or len(path) > 1 or (kind == "cluster" and path):
        raise ValueError(f"the path of the {parts.scheme}:// URL is none of a ledger; allowed: {FORMS}")
    if path:
        settings["db"] = _number(path[0], "database", 0, 65535)
    return service


def _node(text: str, kind: Kind) -> tuple[str, int]:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(_PORTS[kind])
    return host.strip("[]") or "localhost", _number(port, "port", 1, 65535)


def _number(text: str, name: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise ValueError(f"the {name} in the URL is no number from {least} to {most}")  # it may be part of a password
    return int(text)


def read_client(client: Any) -> Target:
    """The target of a client that the application has: its settings are cloned, the client is not used."""
    if hasattr(client, "nodes_manager"):
        nodes = client.nodes_manager
        startup = tuple((node.host, int(node.port)) for node in nodes.startup_nodes.values())
        kwargs = nodes.connection_kwargs
        return _cloned(
            "cluster", startup, kwargs, "SSL" in str(kwargs.get("connection_class")) or bool(kwargs.get("ssl"))
        )
    pool = client.connection_pool
    kwargs, tls = pool.connection_kwargs, "SSL" in pool.connection_class.__name__
    if hasattr(pool, "sentinel_manager"):
        sentinels = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
        nodes_of = tuple((each["host"], int(each["port"])) for each in sentinels)
        return _cloned("sentinel", nodes_of, kwargs, tls, pool.service_name)
    node = () if "path" in kwargs else ((kwargs.get("host", "localhost"), int(kwargs.get("port", 6379))),)
    return _cloned("server", node, kwargs, tls)


def _cloned(
    kind: Kind, nodes: tuple[tuple[str, int], ...], kwargs: Mapping[str, Any], tls: bool, service: str = ""
) -> Target:
    kept = {
        name: value
        for name, value in kwargs.items()
        if value is not None and (name in _SETTINGS or name.startswith("ssl_")) and name not in ("host", "port")
    }
    return Target(kind, nodes, tls, service, kept)
