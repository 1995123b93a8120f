"""The headers of a refusal, where a route of the proxy answers with an error of its own, as that for images does."""

from __future__ import annotations

from typing import Any


def keep_headers(app: Any) -> bool:
    """From now on errors of the proxy's `app` bear the headers of the error behind them. False where that fails."""
    from litellm.proxy._types import ProxyException
    from starlette.middleware.exceptions import ExceptionMiddleware

    layer = app.middleware_stack
    while layer is not None and not isinstance(layer, ExceptionMiddleware):
        layer = getattr(layer, "app", None)
    answer = app.exception_handlers.get(ProxyException)
    if layer is None or answer is None:
        return False

    async def with_headers(request: Any, error: Any) -> Any:
        behind = error.__context__
        if isinstance(behind, ProxyException):
            error.headers = {**behind.headers, **error.headers}
        return await answer(request, error)

    layer.add_exception_handler(ProxyException, with_headers)
    return True
