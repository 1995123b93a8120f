"""What any ledger in Redis has to do that keeps three meters, a journal and its ids: two scripts of commands alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

_READ = """
redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'now', 'size', 'rows', 'policy', 'mark')
redis.call('TIME')
redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
redis.call('HMGET', KEYS[2], '', ARGV[1])
redis.call('HMGET', KEYS[5], 'e', 'meter-1', 'meter-2', 'meter-3')
redis.call('HMGET', KEYS[6], 'e', ARGV[1])
"""
_WRITE = """
redis.call('XADD', KEYS[4], '*', 't', '1795330196616', 'k', 'settle', 'i', ARGV[1], 'u', 'u1', 'b', ARGV[2], 'n', 'ab')
redis.call('HSET', KEYS[5], 'meter-1', ARGV[3], 'meter-2', ARGV[3], 'meter-3', ARGV[3])
redis.call('HSET', KEYS[1], 'seq', '12345', 'now', '1795330196616', 'rows', '100', 'mark', 'abcdef')
"""
_RESERVE = f"""{_READ}{_WRITE}
redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
redis.call('ZADD', KEYS[3], '1795330196616', ARGV[1])
return {{'held', 12345, 1795330196616, {{20000, 20000, 20000}}}}
"""
_SETTLE = f"""{_READ}{_WRITE}
redis.call('HSET', KEYS[6], ARGV[5], 's:18c:12:13:15000:fingerprint')
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return {{'settled', 12345, 1795330196616, {{20000, 20000, 20000}}}}
"""
_KEYS = [f"floor:{name}" for name in ("meta", "open", "due", "log", "b:1", "b:2")]


def commands_alone(url: str) -> Callable[[], object]:
    """The commands of a reserve and a settle in two scripts, without a decision; on a connection, without a client."""
    client = redis.Redis.from_url(url)
    scripts = [client.script_load(text) for text in (_RESERVE, _SETTLE)]
    client.zadd(_KEYS[2], {"": 9e15})
    connection: Any = client.connection_pool.make_connection()
    numbers = iter(range(10**9))

    def pair() -> None:
        number = next(numbers)
        args = (
            f"{number:032x}",
            "x" * 800,
            "15000:2000::29700000",
            "h:12:12:1795330196616::20000",
            f"id-{number % 50}",
        )
        for script in scripts:
            connection.send_command("EVALSHA", script, len(_KEYS), *_KEYS, *args)
            connection.read_response()

    return pair
