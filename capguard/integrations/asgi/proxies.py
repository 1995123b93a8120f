"""An identity that a reverse proxy vouches for: from its headers, and from nobody else's."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from capguard.identity import FIELDS, NOBODY, Identity
from capguard.integrations.asgi.protocol import Scope


class TrustedHeaders:
    """`{"user": "x-user-id"}`, read where the connection comes from a trusted proxy, exactly one value each.

    Raises ValueError for headers without proxies, unknown fields, and proxies that are no address or network.
    """

    def __init__(self, headers: Mapping[str, str] | None, proxies: Iterable[str] | None):
        self._headers = {field: name.lower().encode("ascii") for field, name in (headers or {}).items()}
        if unknown := sorted(set(self._headers) - set(FIELDS)):
            raise ValueError(f"trusted_headers: unknown field {', '.join(unknown)}; allowed: {', '.join(FIELDS)}")
        if isinstance(proxies, str):
            raise ValueError(f"trusted_proxies: {proxies!r} is one text; allowed: a list of addresses and networks")
        self._proxies = [_network(each) for each in proxies or ()]
        if self._headers and not self._proxies:
            raise ValueError(
                "trusted_headers need trusted_proxies, the addresses that may send them: anybody can write a header"
            )

    def identity(self, scope: Scope) -> Identity:
        """What the headers say; nobody where they come from elsewhere. Raises ValueError for odd values."""
        if not self._headers or not self._trusts(scope.get("client")):
            return NOBODY
        named: dict[str, Any] = {field: _only(scope, name) for field, name in self._headers.items()}
        return Identity(**named)

    def _trusts(self, client: tuple[str, int] | None) -> bool:
        try:
            address = ipaddress.ip_address(client[0]) if client else None
        except ValueError:
            return False
        return address is not None and any(address in network for network in self._proxies)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as refused:
        raise ValueError(f"trusted_proxies: {refused}; allowed: addresses and networks, as 10.0.0.0/8") from None


def _only(scope: Scope, name: bytes) -> str | None:
    """The one value of a header, as plain text: which of two would hold, or in which encoding, is nobody's guess."""
    values = [value for header, value in scope.get("headers", ()) if header.lower() == name]
    if not values:
        return None
    if len(values) > 1:
        raise ValueError(f"header {name.decode()}: {len(values)} values; allowed: one")
    try:
        return bytes(values[0]).decode("ascii")
    except UnicodeDecodeError:
        raise ValueError(f"header {name.decode()}: allowed: ASCII characters") from None
