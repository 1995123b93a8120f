"""The proxy's set-up: the environment over the YAML, and what is wrong is said when the proxy starts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capguard import Identity
from capguard.integrations.litellm.gateway import caller
from capguard.integrations.litellm.gateway.settings import DEFAULT_URL, Settings

YAML = """
model_list: []
capguard:
  url: sqlite:///here.db
  policy: caps.toml
  trust: [user]
"""


@pytest.mark.parametrize(
    ("text", "environ", "settings"),
    [
        ("model_list: []", {}, Settings(DEFAULT_URL)),
        (YAML, {}, Settings("sqlite:///here.db", Path("caps.toml"), trust=("user",))),
        (
            YAML,
            {"CAPGUARD_URL": "memory://", "CAPGUARD_NAMESPACE": "two", "CAPGUARD_TRUST": "user, headers"},
            Settings("memory://", Path("caps.toml"), "two", ("user", "headers")),
        ),
    ],
)
def test_where_settings_come_from(text: str, environ: dict[str, str], settings: Settings, tmp_path: Path):
    """Keys of the YAML, the environment over them; the policy's path is relative to the YAML."""
    config = tmp_path / "proxy.yaml"
    config.write_text(text)
    policy = settings.policy and tmp_path / settings.policy
    assert Settings.read(environ, config) == settings._replace(policy=policy)


def test_without_a_yaml():
    """The environment alone is enough."""
    found = Settings.read({"CAPGUARD_POLICY": "caps.toml"}, None)
    assert (found.url, found.policy) == (DEFAULT_URL, Path("caps.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("capguard: {uri: x}", "capguard: uri in proxy.yaml; allowed: a mapping of url, policy, namespace, trust"),
        ("capguard: [1]", "capguard: list in proxy.yaml; allowed: a mapping"),
        ("capguard: {trust: [body]}", r"capguard.trust: \['body'\] is refused; allowed: user, headers"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str, tmp_path: Path):
    config = tmp_path / "proxy.yaml"
    config.write_text(text)
    with pytest.raises(ValueError, match=message):
        Settings.read({}, config)


def key(**fields: Any) -> Any:
    names = ("user_id", "team_id", "org_id", "key_alias", "token", "api_key", "metadata", "team_metadata")
    return SimpleNamespace(**dict.fromkeys(names), **fields) if not fields else _key(names, fields)


def _key(names: tuple[str, ...], fields: dict[str, Any]) -> Any:
    return SimpleNamespace(**(dict.fromkeys(names) | fields))


BODY: dict[str, Any] = {
    "user": "body",
    "metadata": {"capguard": {"user": "meta"}},
    "proxy_server_request": {"headers": {"X-LiteLLM-End-User-Id": "head", "x-capguard-feature": "chat"}},
}


@pytest.mark.parametrize(
    ("fields", "trust", "identity"),
    [
        ({"user_id": "ann", "team_id": "t", "org_id": "o"}, (), Identity(user="ann", team="t", org="o")),
        ({"user_id": "ann"}, ("user",), Identity(user="body")),
        ({"user_id": "ann"}, ("headers",), Identity(user="head", feature="chat")),
        ({"key_alias": "app", "token": "hash"}, (), Identity(key_id="app")),
        ({"token": "hash", "api_key": "sk"}, (), Identity(key_id="hash")),
        (
            {"metadata": {"plan": "pro"}, "team_metadata": {"plan": "free", "org": "acme"}},
            (),
            Identity(plan="pro", org="acme"),
        ),
        ({"user_id": "a\nb", "metadata": {"plan": 7}}, (), Identity()),
    ],
)
def test_who_calls(fields: dict[str, Any], trust: tuple[str, ...], identity: Identity):
    """What the proxy authenticated; the request only where it is trusted; a key by its alias."""
    assert caller.of(key(**fields), BODY, trust) == identity
