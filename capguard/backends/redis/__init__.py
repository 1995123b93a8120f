"""The ledger in Redis, Valkey, and other servers that speak Redis and Lua."""

from capguard.backends.redis.backend import RedisBackend

__all__ = ["RedisBackend"]
