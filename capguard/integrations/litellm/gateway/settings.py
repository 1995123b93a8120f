"""How the proxy's caps are set up: the environment, then the `capguard:` keys of the proxy's YAML."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from capguard.errors import missing_extra

KEYS = ("url", "policy", "namespace", "trust")
TRUSTED = ("user", "headers")
DEFAULT_URL = "sqlite:///capguard.db"


class Settings(NamedTuple):
    """Where the ledger and the policy are, and what of a request is believed.

    Without `policy` the published one of the backend holds. `trust` lists what may name the user instead of the key:
    `user` (the body's `user`), `headers` (`x-litellm-end-user-id`, `x-capguard-feature`, `x-capguard-session`).
    """

    url: str = DEFAULT_URL
    policy: Path | None = None
    namespace: str = "default"
    trust: tuple[str, ...] = ()

    @classmethod
    def read(cls, environ: Mapping[str, str], config: Path | None) -> Settings:
        """CAPGUARD_URL, _POLICY, _NAMESPACE and _TRUST, over the keys in `config`. Raises ValueError for others."""
        found = _in_yaml(config) | {key: value for key in KEYS if (value := environ.get(f"CAPGUARD_{key.upper()}"))}
        trust = found.get("trust") or ()
        trusted = tuple(each.strip() for each in trust.split(",")) if isinstance(trust, str) else tuple(trust)
        if wrong := [each for each in trusted if each not in TRUSTED]:
            raise ValueError(f"capguard.trust: {wrong} is refused; allowed: {', '.join(TRUSTED)}")
        policy = found.get("policy")
        folder = Path() if config is None else config.parent
        return cls(
            url=found.get("url") or DEFAULT_URL,
            policy=None if policy is None else folder / policy,
            namespace=found.get("namespace") or "default",
            trust=trusted,
        )


def of_the_proxy() -> Settings:
    """The settings of the proxy that runs in this process."""
    from litellm.proxy import proxy_server

    path = proxy_server.user_config_file_path
    return Settings.read(os.environ, None if path is None else Path(path))


def _in_yaml(config: Path | None) -> dict[str, Any]:
    if config is None or not config.is_file():
        return {}
    try:
        import yaml
    except ModuleNotFoundError as missing:
        missing_extra("the proxy's YAML", "yaml", missing)
    found = (yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("capguard") or {}
    if not isinstance(found, Mapping) or (found.keys() - set(KEYS)):
        unknown = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise ValueError(f"capguard: {unknown} in {config.name}; allowed: a mapping of {', '.join(KEYS)}")
    return dict(found)
