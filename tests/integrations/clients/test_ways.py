"""Every way to call a model through the SDKs keeps the same promises."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from capguard import CapExceeded, Guard
from capguard.testing.provider import Served
from tests.integrations.clients.conftest import Make, every_way, run
from tests.integrations.clients.ways import Way
from tests.kit import POLICY, PRICES, held, kinds, last, spent

Opened = Callable[..., Guard]


@pytest.fixture
def url() -> str:
    """The clients do not know the backend: one is enough here."""
    return "memory://"


DOWN = {
    "prices": PRICES,
    "downgrade": {"big": "small"},
    "caps": [{"id": "cheaper", "limit": 0, "action": "downgrade"}],
}


@every_way
async def test_it_is_booked_by_what_the_provider_reports(
    kind: str, way: Way, opened: Opened, fake: Served, capped: Make
):
    """One call, one entry: the usage of the reply at the model's rates, nothing uncertain, nothing held."""
    fake.provider.set(input_tokens=1000, output_tokens=100)
    guard = opened(POLICY)
    await run(kind, way, capped(kind, guard))
    assert (last(guard).kind, last(guard).cost, last(guard).flags) == ("settle", Decimal("0.012"), ())
    assert kinds(guard).count("settle") == 1
    assert (held(guard), fake.provider.calls) == (0, 1)


@every_way
async def test_the_reply_is_what_it_was(kind: str, way: Way, opened: Opened, fake: Served, plain: Make, capped: Make):
    """Types, chunks and texts are those of the client without caps: the usage that we asked for is not among them."""
    fake.provider.set(input_tokens=10, output_tokens=40)
    guard = opened(POLICY)
    with_caps, without = [await run(kind, way, client) for client in (capped(kind, guard), plain(kind))]
    assert shape(with_caps) == shape(without)


@every_way
async def test_a_cap_that_is_spent_refuses_before_anything_is_sent(
    kind: str, way: Way, opened: Opened, fake: Served, capped: Make
):
    """CapExceeded as it is, once: the SDK does not retry it and the provider sees nothing."""
    guard = opened({"prices": PRICES, "caps": [{"id": "monthly", "limit": "0.001"}]})
    denied: list[Any] = []
    guard.on("denied", denied.append)
    with pytest.raises(CapExceeded) as refused:
        await run(kind, way, capped(kind, guard, max_retries=5))
    assert (refused.value.cap.id, len(denied), fake.provider.calls) == ("monthly", 1, 0)


@every_way
async def test_a_downgrade_sends_the_cheaper_model(kind: str, way: Way, opened: Opened, fake: Served, capped: Make):
    """The provider is asked for it, and it is booked at its own price."""
    fake.provider.set(input_tokens=1000, output_tokens=100)
    guard = opened(DOWN)
    await run(kind, way, capped(kind, guard))
    assert [seen.body["model"] for seen in fake.provider.requests if seen.body] == ["small"]
    assert last(guard).cost == Decimal("0.0012")


@every_way
async def test_the_sdks_own_retries_are_one_call(
    kind: str, way: Way, opened: Opened, fake: Served, capped: Make, monkeypatch: pytest.MonkeyPatch
):
    """Two failures and a reply: three requests, one reserve, one settle."""
    fake.provider.set(input_tokens=1000, output_tokens=100, fail_first=2, fail_status=503)
    guard = opened(POLICY)
    client = capped(kind, guard, max_retries=2)
    monkeypatch.setattr(type(client), "_calculate_retry_timeout", lambda *_: 0.0)
    await run(kind, way, client)
    assert (fake.provider.calls, [each for each in kinds(guard) if each != "extend"]) == (3, ["reserve", "settle"])
    assert spent(guard) == Decimal("0.012")


@every_way
async def test_an_error_status_costs_nothing(kind: str, way: Way, opened: Opened, fake: Served, capped: Make):
    """The SDK's own exception, and the hold is dropped."""
    fake.provider.set(fail_status=400)
    guard = opened(POLICY)
    with pytest.raises(Exception, match="told to fail with 400") as failed:
        await run(kind, way, capped(kind, guard))
    assert type(failed.value).__name__ == "BadRequestError"
    assert (kinds(guard), spent(guard), held(guard)) == (["reserve", "release"], 0, 0)


def shape(reply: Any) -> Any:
    """A reply without what differs from call to call: ids and times."""
    if isinstance(reply, list):
        return [shape(each) for each in reply]
    if isinstance(reply, (str, bytes)):
        return type(reply)
    dumped = reply if isinstance(reply, dict) else reply.model_dump(exclude={"usage"}, warnings=False)
    return type(reply), without_ids(dumped)


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        dropped = ("id", "created", "created_at", "item_id", "usage", "completed_at")
        return {name: without_ids(each) for name, each in value.items() if name not in dropped}
    return [without_ids(each) for each in value] if isinstance(value, list) else value
