"""Caps for an ASGI application, FastAPI's and Starlette's among them.

    app.add_middleware(CapguardMiddleware, guard=guard, identify=who_is_it)

Pure ASGI: nothing of Starlette is imported.
"""

from capguard.integrations.asgi.charge import charge
from capguard.integrations.asgi.middleware import CapguardMiddleware
from capguard.integrations.asgi.request import RequestState

__all__ = ["CapguardMiddleware", "RequestState", "charge"]
