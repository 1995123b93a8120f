"""A fake provider of language models, on loopback: OpenAI and Anthropic over real HTTP, no key and no cost.

    with serve(Settings(output_tokens=20)) as fake:
        client = openai.OpenAI(base_url=fake.url, api_key="any")
        ...
        assert fake.provider.calls == 1

It speaks `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/images/generations`, `/v1/responses` and
`/v1/messages`, plain and streamed, and `/v1/audio/*`. Another process steers it by `POST /settings`, `POST /reset` and
`GET /calls`. Importing it raises `MissingExtra` where starlette or uvicorn is not installed.
"""

from capguard.errors import missing_extra

try:
    from capguard.testing.provider.app import provider_app
    from capguard.testing.provider.server import Served, serve
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
        raise
    missing_extra("the fake provider", "demo", missing)

from capguard.testing.provider.settings import Settings
from capguard.testing.provider.state import Provider, Seen

__all__ = ["Provider", "Seen", "Served", "Settings", "provider_app", "serve"]
