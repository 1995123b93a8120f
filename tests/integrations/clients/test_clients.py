"""What a capped client is: the same type, bound cheaply, capped in every copy, honest about what it does not meter."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from capguard import CapExceeded, Guard, IdentityMissing, configure, identify
from capguard import capped as decorated
from capguard.default import default_is
from capguard.integrations import anthropic as for_anthropic
from capguard.integrations import openai as for_openai
from capguard.testing.provider import Served
from capguard.testing.provider.openai_audio import SOUND
from tests.integrations.clients.conftest import MAKES, Make, every_kind, run
from tests.integrations.clients.ways import ANTHROPIC, CHAT, OPENAI
from tests.kit import MESSAGES, POLICY, PRICES, held, kinds, last, spent

Opened = Callable[..., Guard]

FULL = {"prices": PRICES, "caps": [{"id": "monthly", "limit": "0.001"}]}
IMAGES = {"prices": {**PRICES, "pictures": {"request": "0.04"}}, "caps": [{"id": "monthly", "limit": 1}]}


@pytest.fixture
def url() -> str:
    """The clients do not know the backend: one is enough here."""
    return "memory://"


def first_way(kind: str) -> Any:
    return (OPENAI if kind.startswith("openai") else ANTHROPIC)[0]


# what it is


@every_kind
def test_it_has_the_type_that_it_had(kind: str, opened: Opened, plain: Make):
    """And the client that was given is as it was."""
    client = plain(kind)
    before = dict(vars(client))
    capped = MAKES[kind][2](client, opened(POLICY), user="u1")
    assert type(capped) is type(client)
    assert vars(client) == before
    assert capped._client is client._client, "the connections are shared"


@every_kind
@pytest.mark.parametrize("copy", ["copy", "with_options"])
async def test_a_copy_of_it_is_capped_too(kind: str, copy: str, opened: Opened, fake: Served, capped: Make):
    """`client.with_options(timeout=5)` is how people set a time-out for one call: it must not lose the cap."""
    twice = getattr(getattr(capped(kind, opened(FULL)), copy)(timeout=5), copy)(max_retries=1)
    with pytest.raises(CapExceeded):
        await run(kind, first_way(kind), twice)
    assert (twice.timeout, fake.provider.calls) == (5, 0)


@every_kind
async def test_binding_again_binds_anew(kind: str, opened: Opened, fake: Served, capped: Make):
    """One capped client for the application, one per request bound to its user: charged once, to that user."""
    guard = opened(POLICY)
    everybodys = capped(kind, guard, who={})
    hers = MAKES[kind][2](everybodys.with_options(timeout=5), user="ada")
    await run(kind, first_way(kind), hers)
    assert (hers.timeout, kinds(guard)) == (5, ["reserve", "settle"])
    assert spent(guard, user="ada") > 0


@every_kind
async def test_identity_from_the_context(kind: str, opened: Opened, fake: Served, capped: Make):
    """Where nothing is bound, whoever is identified pays; nobody is refused as the policy says."""
    guard = opened(POLICY)
    client = capped(kind, guard, who={})
    with identify(user="eve"):
        await run(kind, first_way(kind), client)
    assert spent(guard, user="eve") > 0
    with pytest.raises(IdentityMissing):
        await run(kind, first_way(kind), client)
    assert fake.provider.calls == 1


@every_kind
async def test_without_a_guard_the_process_has_one(kind: str, opened: Opened, fake: Served, plain: Make):
    """That of `configure`, looked up when the call is made."""
    client = MAKES[kind][2](plain(kind), user="u1")
    with default_is(None):
        guard = configure(opened(POLICY))
        await run(kind, first_way(kind), client)
    assert kinds(guard) == ["reserve", "settle"]


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        ("text", {}, r"cap\(str\): allowed: an openai.OpenAI"),
        (None, {"guard": "sqlite://"}, r"guard='sqlite://'\): allowed: a Guard"),
        (None, {"user": ""}, "user: 0 characters; allowed: 1 to 256"),
        (None, {"usr": "ada"}, "unknown field 'usr'; allowed: user, plan"),
        (None, {"identity": 7}, "identity: int; allowed: an Identity"),
        (None, {"on_stream_exceeded": "stop"}, "allowed: finish, cut"),
    ],
)
def test_odd_input(given: Any, options: dict[str, Any], says: str, plain: Make):
    """Refused where it is written, not at the first call."""
    with pytest.raises((TypeError, ValueError), match=says):
        for_openai.cap(given or plain("openai"), **options)


def test_a_client_of_the_other_company(plain: Make):
    """Each adapter knows the paths of its own API only: another client would go through it without a cap."""
    with pytest.raises(TypeError, match=r"allowed: an anthropic\.Anthropic"):
        for_anthropic.cap(plain("openai"))  # type: ignore[type-var]


# layers, and many at once


def test_layers_charge_once(opened: Opened, fake: Served, capped: Make):
    """A capped client inside a capped function takes over its hold."""
    guard = opened(POLICY)
    client = capped("openai", guard)

    @decorated(guard, user="user")
    def answer(user: str, model: str = "big", max_tokens: int = 100) -> Any:
        return client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=max_tokens)

    fake.provider.set(input_tokens=1000, output_tokens=100)
    answer("u1")
    assert (kinds(guard), last(guard).cost) == (["reserve", "settle"], Decimal("0.012"))


async def test_fifty_at_once_room_for_four(opened: Opened, fake: Served, capped: Make):
    """Exactly four reach the provider."""
    guard = opened({"prices": PRICES, "caps": [{"id": "monthly", "limit": "0.00899"}]})  # 0.00214 each
    client = capped("openai async", guard)
    fake.provider.set(input_tokens=9, output_tokens=100, latency=0.2)
    calls = [client.chat.completions.create(**CHAT) for _ in range(50)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    refused = [each for each in done if isinstance(each, CapExceeded)]
    assert (len(refused), fake.provider.calls) == (46, 4)
    assert held(guard) == 0


# how calls fail


def test_a_provider_that_is_not_there_costs_nothing(opened: Opened, capped: Make):
    """No connection, no bill."""
    guard = opened(POLICY)
    with pytest.raises(openai.APIConnectionError):
        capped("openai", guard, base_url="http://127.0.0.1:9/v1").chat.completions.create(**CHAT)
    assert kinds(guard) == ["reserve", "release"]


def test_a_time_out_may_have_cost(opened: Opened, fake: Served, capped: Make):
    """The request was sent: booked as expected, flagged."""
    guard = opened(POLICY)
    fake.provider.set(latency=1)
    with pytest.raises(openai.APITimeoutError):
        capped("openai", guard, timeout=0.05).chat.completions.create(**CHAT)
    assert (last(guard).kind, last(guard).flags) == ("settle", ("uncertain",))
    assert last(guard).cost > 0


async def test_a_cancelled_call_may_have_cost(opened: Opened, fake: Served, capped: Make):
    """A task that is cancelled while the provider works books what was expected."""
    guard = opened(POLICY)
    fake.provider.set(latency=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await capped("openai async", guard).chat.completions.create(**CHAT)
    assert (last(guard).kind, last(guard).flags) == ("settle", ("uncertain",))


class Word(BaseModel):
    word: str


def test_a_reply_that_cannot_be_parsed_is_paid(opened: Opened, fake: Served, capped: Make):
    """`parse` raises for a reply that was cut at its limit; the error carries the reply, which tells its usage."""
    fake.provider.set(input_tokens=1000, output_tokens=100)
    guard = opened(POLICY)
    with pytest.raises(openai.LengthFinishReasonError):
        capped("openai", guard).chat.completions.parse(**CHAT, response_format=Word)
    assert (last(guard).cost, last(guard).flags) == (Decimal("0.012"), ())


# images, sound, and what is not metered


def test_images_by_the_piece(opened: Opened, fake: Served, capped: Make):
    """Where the policy says what one costs, n of them are held, and as many as came are booked."""
    guard = opened(IMAGES)
    capped("openai", guard).images.generate(model="pictures", prompt="A cat.", n=3)
    assert (last(guard).cost, last(guard).flags) == (Decimal("0.12"), ())
    with pytest.raises(CapExceeded):
        capped("openai", guard).images.generate(model="pictures", prompt="A cat.", n=30)
    assert fake.provider.calls == 1


def test_images_by_tokens(opened: Opened, fake: Served, capped: Make):
    """Where the reply reports tokens, by those."""
    fake.provider.set(input_tokens=1000, output_tokens=100)
    guard = opened({**POLICY, "prices": {"gpt-image-x": {"input": 10, "output": 20}}})
    capped("openai", guard).images.generate(model="gpt-image-x", prompt="A cat.")
    assert (last(guard).cost, last(guard).flags) == (Decimal("0.012"), ())


def test_sound(opened: Opened, fake: Served, capped: Make):
    """Transcripts that report tokens are booked by them; what reports nothing by what was expected, flagged."""
    guard = opened(
        {**POLICY, "prices": {"gpt-4o-hear": {"input": 10, "output": 20}, "tts": {"input": 15, "output": 0}}}
    )
    client = capped("openai", guard)
    assert client.audio.transcriptions.create(model="gpt-4o-hear", file=("a.mp3", SOUND)).text
    assert (last(guard).cost, last(guard).flags) == (Decimal("0.0002"), ())
    assert client.audio.speech.create(model="tts", voice="alloy", input="One word.").content == SOUND
    assert last(guard).flags == ("uncertain", "no_usage")
    with client.audio.speech.with_streaming_response.create(model="tts", voice="alloy", input="One.") as sound:
        assert b"".join(sound.iter_bytes()) == SOUND
    assert last(guard).flags == ("uncertain", "no_usage")


def test_embeddings(opened: Opened, fake: Served, capped: Make):
    """By their input."""
    fake.provider.set(input_tokens=1000)
    guard = opened(POLICY)
    capped("openai", guard).embeddings.create(model="big", input=["one", "two"])
    assert last(guard).cost == Decimal("0.01")


def test_what_is_billed_and_not_metered_is_said(
    opened: Opened, fake: Served, capped: Make, caplog: pytest.LogCaptureFixture
):
    """Batches go through, and the log says once that no cap holds them; what is free goes through in silence."""
    client = capped("openai", opened(POLICY))
    with caplog.at_level(logging.WARNING, "capguard"):
        for _ in range(2):
            with pytest.raises(openai.NotFoundError):
                client.batches.create(input_file_id="f", endpoint="/v1/responses", completion_window="24h")
        with pytest.raises(openai.NotFoundError):
            client.moderations.create(input="x")
    said = [record.message for record in caplog.records]
    assert said == ["capguard: POST /batches is billed by the provider and not metered: no cap holds it"]
