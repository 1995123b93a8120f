"""Who a key belongs to, for a proxy without a database: `sk-<user>-<plan>`. Not for production."""

from __future__ import annotations

from typing import Any

from litellm.proxy._types import UserAPIKeyAuth


async def user_api_key_auth(_request: Any, api_key: str) -> UserAPIKeyAuth:
    """The plan stands in the key's metadata, as it would in the proxy's database."""
    user, _, plan = api_key.removeprefix("sk-").partition("-")
    return UserAPIKeyAuth(api_key=api_key, user_id=user, key_alias=f"{user}-laptop", metadata={"plan": plan})
