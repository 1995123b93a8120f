"""OpenAI's audio: a little sound for a text, and a text for any sound."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from capguard.testing.provider.dialect import encode
from capguard.testing.provider.openai_errors import error
from capguard.testing.provider.reply import Json
from capguard.testing.provider.state import Provider

SOUND = b"ID3\x04" + bytes(60)
_TEXT = "what was said"


def audio_routes(provider: Provider) -> list[Route]:
    """Speech, transcriptions and translations. Models named gpt-4o report tokens, whisper seconds, tts nothing."""

    async def speech(request: Request) -> Response:
        body = await request.json()
        provider.arrived("/v1/audio/speech", body)
        return _failure(provider) or Response(SOUND, media_type="audio/mpeg")

    async def transcript(request: Request) -> Response:
        model = _field(await request.body(), b"model")
        provider.arrived(request.url.path, {"model": model})
        return _failure(provider) or _json({"text": _TEXT, "usage": _usage(provider, model)})

    return [
        Route("/v1/audio/speech", speech, methods=["POST"]),
        Route("/v1/audio/transcriptions", transcript, methods=["POST"]),
        Route("/v1/audio/translations", transcript, methods=["POST"]),
    ]


def _failure(provider: Provider) -> Response | None:
    status = provider.failure(provider.settings)
    return None if status is None else _json(error(status, f"the fake provider was told to fail with {status}"), status)


def _usage(provider: Provider, model: str) -> Json:
    if not model.startswith("gpt-4o"):
        return {"type": "duration", "seconds": 1}
    given, made = provider.settings.input_tokens or 10, provider.settings.output_tokens or 5
    return {"type": "tokens", "input_tokens": given, "output_tokens": made, "total_tokens": given + made}


def _field(body: bytes, name: bytes) -> str:
    """One text field of a multipart body."""
    _, _, after = body.partition(b'name="%s"\r\n\r\n' % name)
    return after.partition(b"\r\n")[0].decode()


def _json(value: Json, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")
