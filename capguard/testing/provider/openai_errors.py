"""The shape of OpenAI's errors."""

from __future__ import annotations

from capguard.testing.provider.reply import Json

_KINDS = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def error(status: int, message: str) -> Json:
    """The body of an error, as platform.openai.com/docs/guides/error-codes gives it."""
    usual = ("invalid_request_error", None) if status < 500 else ("server_error", None)
    kind, code = _KINDS.get(status, usual)
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
