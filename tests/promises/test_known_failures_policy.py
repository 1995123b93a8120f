"""What went wrong with windows, limits, identities, alerts and grants in systems like this one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import openai
import pytest

from capguard import Cap, Guard, Policy, PolicyError, capped, identify
from capguard.policy.load import dump_policy, load_policy
from capguard.testing import ManualClock
from tests.promises.kit import ASK, Opened, cap, caps, listen, meters, refused, refusing, spend, state
from tests.promises.test_policy_keys import EXAMPLE

Two = Callable[..., list[Guard]]

# windows


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/St_Johns", "Pacific/Kiritimati"])
def zone_of_the_machine(request: pytest.FixtureRequest) -> Iterator[str]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def test_row_18_resets_hours_late(opened: Opened, clock: ManualClock, zone_of_the_machine: str) -> None:
    """litellm #34896, #37454, PR #40978: an offset was stripped, resets came hours late, a 24 h window lasted 32 h.
    Here the machine's own zone means nothing: every boundary is the same instant."""
    windows = ["daily", "daily@Europe/Paris", "monthly", "every:36h/2026-01-15"]
    guard = opened(caps(*(cap(window, window=window) for window in windows)))
    assert {each.id: each.resets_at for each in guard.status(user="u1").caps} == {
        "daily": datetime(2026, 1, 16, tzinfo=UTC),
        "daily@Europe/Paris": datetime(2026, 1, 15, 23, tzinfo=UTC),
        "monthly": datetime(2026, 2, 1, tzinfo=UTC),
        "every:36h/2026-01-15": datetime(2026, 1, 16, 12, tzinfo=UTC),
    }
    given = datetime(2026, 1, 15, 18, tzinfo=datetime.fromisoformat("2026-01-01T00:00+09:00").tzinfo)
    guard.override(user="u1", cap="daily", limit=9, until=given)  # 09:00 UTC, which was three hours ago
    assert state(guard, "daily").limit == 5


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", datetime(2026, 3, 8, 5, tzinfo=UTC), 23),
        ("America/New_York", datetime(2026, 11, 1, 4, tzinfo=UTC), 25),
        ("Asia/Kolkata", datetime(2026, 3, 7, 18, 30, tzinfo=UTC), 24),
    ],
    ids=["spring", "autumn", "no such thing"],
)
def test_row_19_the_timezone_is_ignored(
    opened: Opened, clock: ManualClock, zone: str, day: datetime, hours: int
) -> None:
    """litellm PR #21754: the setting was ignored, then a fixed offset without daylight saving. Here a day begins at the
    zone's own midnight and has 23 or 25 hours when its clocks change."""
    clock.set(day)
    guard = opened(caps(cap(window="daily"), timezone=zone))
    assert state(guard).resets_at == day + timedelta(hours=hours)
    clock.advance(milliseconds=-1)
    assert opened(caps(cap(window="daily"), timezone=zone)).status(user="u2").caps["c"].resets_at == day


def test_row_20_a_month_that_meant_30_days(opened: Opened, clock: ManualClock) -> None:
    """litellm #10288, #9098, #4042: "1mo" was 30 days, and February went wrong. Here a calendar month and a length of
    time are two grammars, and "1mo" is neither."""
    clock.set(datetime(2026, 2, 1, tzinfo=UTC))
    guard = opened(caps(cap("month", window="monthly"), cap("days", window="every:30d/2026-02-01")))
    resets = [each.resets_at for each in guard.status(user="u1").caps]
    assert resets == [datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)]
    for text in ("1mo", "30d", "every:1mo"):
        with pytest.raises(PolicyError):
            Cap(id="c", limit=1, window=text)


@pytest.mark.parametrize("backfill", [False, True])
def test_row_23_a_new_window_on_an_old_key(opened: Opened, clock: ManualClock, backfill: bool) -> None:
    """litellm #34492: a new window took over the lifetime spend, and refused at once. Here it begins at nothing, or at
    what the journal says of that very window."""
    guard = opened(None, initial_policy=caps(cap("old", 1000)))
    spend(guard, 500)
    clock.advance(days=1)
    spend(guard, 3)
    guard.publish(caps(cap("old", 1000), cap("day", 10, window="daily")), backfill=backfill)
    assert state(guard, "day").settled == (3 if backfill else 0)
    guard.reserve(user="u1", cost=7)


def test_row_25_a_default_budget_that_never_resets(opened: Opened, clock: ManualClock) -> None:
    """litellm #24675, #7129, #5651: the default budget of end users had no reset. Here a plan's caps have windows, also
    for users whom nobody registered."""
    guard = opened(caps(plans={"free": {"caps": [cap(limit=1)]}}, default_plan="free"))
    for month in (2, 3, 4):
        spend(guard, 1, user="nobody-knows-me")
        assert refusing(guard, user="nobody-knows-me", cost=1) == ["c"]
        clock.set(datetime(2026, month, 1, tzinfo=UTC))
    assert state(guard, user="nobody-knows-me").remaining == 1


def test_row_74_windows_that_are_cut_from_the_epoch(opened: Opened) -> None:
    """agentgateway's documents: windows are aligned to the epoch, whatever was meant. Here an anchor may be named, with
    its zone, and what has none says so in the grammar."""
    named = caps(cap("epoch", window="every:48h"), cap("own", window="every:48h/2026-01-15@Europe/Paris"))
    resets = [each.resets_at for each in opened(named).status(user="u1").caps]
    assert resets == [datetime(2026, 1, 17, tzinfo=UTC), datetime(2026, 1, 16, 23, tzinfo=UTC)]


# who is counted


def test_row_24_a_new_key_that_zeroes_the_spend(opened: Opened) -> None:
    """litellm #31079: regenerating a key zeroed its spend. Here spend is bound to the user, whichever key calls; a cap
    per key is one for that key alone."""
    guard = opened(caps(cap("user", 5), cap("key", 4, per=["key_id"])))
    spend(guard, 4, key_id="old")
    assert refusing(guard, user="u1", key_id="old", cost=2) == ["user", "key"]
    assert refusing(guard, user="u1", key_id="new", cost=2) == ["user"]


def test_row_26_one_identity_however_it_is_told(opened: Opened) -> None:
    """litellm #11083, PR #9658, #11419: the end user was found in one place and ignored in another. Here whoever says
    it, argument, context or decorator, it is one resolver and one meter."""
    guard = opened(caps(cap()))

    @capped(guard, user="who", cost="1")
    def answer(who: str) -> None: ...

    spend(guard, 1)
    answer("u1")
    with identify(user="u1"), guard.call(cost=1) as call:
        call.settle(cost=1)
    guard.allow(identity={"user": "u1"}, amount=1)
    assert state(guard).settled == 4


def test_row_28_every_budget_that_applies(opened: Opened) -> None:
    """litellm #11962, #17054: a user's budget was skipped where the key had a team, the organisation's never looked
    at. Here all that apply are judged in one step, and `caps` explains which."""
    fields = ["user", "team", "org", "key_id"]
    for spent in fields:
        guard = opened(caps(*(cap(f"{spent}-{each}", 0 if each == spent else 9, per=[each]) for each in fields)))
        who = {"user": "u1", "team": "t", "org": "o", "key_id": "k"}
        assert refusing(guard, **who, cost=1) == [f"{spent}-{spent}"]
        assert len(guard.reserve(**who, cost=0).caps) == len(guard.caps(user="u1")) == 4


def test_row_29_tags_that_come_later(opened: Opened) -> None:
    """litellm #27480, PR #41218: tags from a header, or added by a later hook, were not enforced. Here the identity is
    read once, when the call is made, after everything that completes it."""
    guard = opened(caps(cap("env", 1, per=["tag:env"]), cap("prod", 0, match={"tag:env": "prod*"})))

    def dependency() -> None:
        identify(tags={"env": "prod-1"})

    with identify(user="u1"):
        assert guard.reserve(cost=1).caps == ()
        dependency()
        assert refusing(guard, cost=1) == ["prod"]


def test_row_48_the_body_names_another_user(opened: Opened) -> None:
    """litellm #34846, PR #19931: a client picked another user's id in the body. Here nothing in messages or replies
    says who pays; what the application names wins over what a context carried."""
    guard = opened(caps(cap()))
    body = [{"role": "user", "name": "victim", "user": "victim", "content": '{"user": "victim"}'}]
    reply = {"user": "victim", "model": "big", "usage": {"prompt_tokens": 1000, "completion_tokens": 0}}
    with identify(user="carried"), guard.call(user="u1", model="big", messages=body) as call:
        call.settle(reply)
    settled = {user: state(guard, user=user).settled for user in ("u1", "carried", "victim")}
    assert settled == {"u1": Decimal("0.01"), "carried": 0, "victim": 0}


def test_row_71_budgets_by_metadata(opened: Opened) -> None:
    """Portkey #1160, #1169: budgets by any metadata were asked for. Here a cap counts per tag, or per several."""
    guard = opened(caps(cap("env", 1, per=["tag:env"]), cap("pair", 1, per=["tag:env", "tag:customer"])))
    spend(guard, 1, tags={"env": "a", "customer": "x"})
    assert refusing(guard, user="u1", tags={"env": "a", "customer": "y"}, cost=1) == ["env"]
    assert refusing(guard, user="u2", tags={"env": "a", "customer": "x"}, cost=1) == ["env", "pair"]
    guard.reserve(user="u1", tags={"env": "b", "customer": "x"}, cost=1)


# what is stored is enforced


@pytest.mark.parametrize(
    "policy",
    [
        {"caps": [{"id": "c", "limitt": 5, "limit": 5}]},
        {"caps": [{"id": "c", "limit": 5, "max_budget": 5}]},
        {"plans": {"p": {"budget_duration": "1d"}}},
        {"users": {"u1": {"max_budget": 5}}},
        {"max_end_user_budget": 5},
        {"caps": [{"id": "c", "limit": 5, "min_output": 5}]},
        {"caps": [{"id": "c", "limit": 5, "to": "small"}]},
    ],
    ids=["a typo", "of a cap", "of a plan", "of a user", "of everybody", "of another action", "of a steering cap"],
)
def test_row_27_fields_that_are_stored_and_not_enforced(policy: dict[str, Any]) -> None:
    """litellm #15967, #31842: defaults and per-model caps were stored and never enforced. Here a field that means
    nothing where it stands is refused."""
    with pytest.raises(PolicyError):
        load_policy(policy)


def test_row_27_defaults_and_caps_per_model_are_enforced(opened: Opened) -> None:
    """The same two, where they are written as they should be."""
    own = {"u1": {"caps": [cap("bigs", 1, match={"model": "big"})]}}
    guard = opened(caps(plans={"free": {"caps": [cap("default", 2)]}}, default_plan="free", users=own))
    assert refusing(guard, user="auto-created", cost=3) == ["default"]
    assert refusing(guard, user="u1", model="big", cost="1.5") == ["bigs"]
    guard.reserve(user="u1", model="small", cost="1.5")


def test_row_59_a_field_that_is_not_saved(opened: Opened) -> None:
    """bifrost #2873, #5673: a field was accepted and lost on saving. Here a published policy comes back whole."""
    policy = load_policy(EXAMPLE)
    guard = opened(None, initial_policy=policy)
    assert guard.policy == guard.policy_at(1) == policy == load_policy(dict(dump_policy(policy)))


def test_row_72_a_limit_that_is_accepted_and_not_applied(opened: Opened) -> None:
    """Helicone #2217: a rate-limit header was accepted and did nothing. Here what holds can be asked, in the words in
    which it is enforced, with where it comes from."""
    rate = cap("rate", 2, unit="requests", window="every:60s", match={"feature": "chat"})
    guard = opened(caps(rate, users={"u1": {"caps": [cap("mine", 3)]}}))
    guard.override(user="u1", cap="rate", limit=1)
    echoed = {each.id: (each.origin, each.limit, each.unit, each.window, each.match) for each in guard.caps(user="u1")}
    assert echoed == {
        "mine": ("user", 3, "usd", "monthly:1@UTC", ()),
        "rate": ("override", 1, "requests", "every:60s", (("feature", ("chat",)),)),
    }
    assert guard.allow(user="u1", feature="chat", amount=1)
    assert refusing(guard, user="u1", feature="chat", cost=0) == ["rate"]


def test_row_41_a_temporary_increase_that_is_not_seen(two: Two, clock: ManualClock) -> None:
    """litellm #25760: an increase was ignored because the old limit was cached. Here limits have revisions: the next
    call of every process sees it, and its end."""
    here, there = two(caps(cap(limit=1)))
    assert refusing(here, user="u1", cost=2) == refusing(there, user="u1", cost=2) == ["c"]
    there.override(user="u1", cap="c", limit=2, until=clock.now + timedelta(hours=1))
    here.release(here.reserve(user="u1", cost=2))
    clock.advance(hours=1)
    assert refusing(here, user="u1", cost=2) == ["c"]


def test_row_40_a_price_per_million_taken_per_token(opened: Opened) -> None:
    """litellm #20615, #22726; bifrost #5243, #3559: a price per million was read per token, and everything was blocked.
    Here prices are per million, and what no model costs is refused with a question."""
    guard = opened({"prices": {"mine": {"input": 3, "output": 15}}, "caps": [cap(limit=1)]})
    assert guard.reserve(**{**ASK, "model": "mine"}).held == Decimal("0.001503")
    with pytest.raises(PolicyError, match="for more than a million"):
        opened({"prices": {"mine": {"input": 3_000_000, "output": 15_000_000}}})


# alerts, refusals


def test_row_42_an_alert_on_every_call(two: Two, clock: ManualClock) -> None:
    """litellm #3738, #3113: an alert came on every call over the soft limit. Here once per cap, identity, threshold and
    period, over all processes."""
    here, there = two(caps(cap(limit=10), alerts={"thresholds": [0.8]}))
    told = [*(listen(guard, "threshold") for guard in (here, there))]
    for guard in (here, there, here, there):
        spend(guard, 9)
    assert [len(each) for each in told] == [1, 0]
    clock.set(datetime(2026, 2, 1, tzinfo=UTC))
    spend(there, 9)
    assert [len(each) for each in told] == [1, 1]


def test_row_42_an_alert_that_comes_back(opened: Opened, clock: ManualClock) -> None:
    """The same, where a correction takes the spend below the threshold and the next call above it once more."""
    guard = opened(caps(cap(limit=10), alerts={"thresholds": [0.8]}))
    told = listen(guard, "threshold")
    reservation = guard.reserve(user="u1", cost=9)
    clock.advance(minutes=10)
    guard.status(user="u1")
    guard.settle(reservation, cost=1)
    spend(guard, 8)
    assert (state(guard).settled, len(told)) == (9, 1)


def test_row_43_an_error_that_does_not_name_the_budget(opened: Opened) -> None:
    """litellm #14144, PR #4139: the error did not say which budget, and came as 400, 401 or 429. Here one class, one
    code, and every cap with scope, spent, held, limit, reset and whether to try again."""
    guard = opened(caps(cap("monthly", 5), cap("team", 4, per=["team"])))
    spend(guard, 3, team="t")
    guard.reserve(user="u1", team="t", cost="0.5")
    error = refused(guard, user="u1", team="t", cost=2)
    assert (error.code, error.reason, error.retryable) == ("budget_cap_exceeded", "in_flight", False)
    assert [each.to_dict() for each in error.caps] == [
        {
            "id": id, "scope": scope, "unit": "usd", "action": "block", "limit": limit, "settled": "3", "held": "0.5",
            "remaining": remaining, "overrun": "0", "fraction": fraction, "since": "2026-01-01T00:00:00+00:00",
            "resets_at": "2026-02-01T00:00:00+00:00",
        }
        for id, scope, limit, remaining, fraction in (
            ("monthly", {"user": "u1"}, "5", "1.5", 0.7),
            ("team", {"team": "t"}, "4", "0.5", 0.875),
        )
    ]  # fmt: skip
    assert "'monthly'" in str(error)


def test_row_44_a_refusal_that_is_tried_again_36_times(opened: Opened, clock: ManualClock) -> None:
    """cognee PR #4679, LightRAG PR #3736, opencode #47685: retry helpers took a refusal for a rate limit. Here it is no
    error of an SDK, bears no status and no response, and names no time to come back where that cannot help."""
    guard = opened(caps(cap(limit=1)))
    spend(guard, 1)
    error = refused(guard, user="u1", cost=2)
    assert (error.retryable, error.retry_after) == (False, None)
    assert not isinstance(error, (openai.APIError, OSError, TimeoutError))
    assert not any(hasattr(error, name) for name in ("status_code", "response", "headers"))


def test_row_13_in_flight_is_not_over_budget(opened: Opened) -> None:
    """litellm PR #38647: huge output limits of coding agents filled a cap of $25 at $0 spent, and the error said that
    it was over budget. Here it says that others hold the room, and when to try again."""
    guard = opened({"caps": [cap(limit=25)]})
    agent = {"user": "u1", "model": "gpt-5.4", "prompt": "x", "max_tokens": 128_000}  # $1.92 each
    held = [guard.reserve(**agent) for _ in range(13)]
    error = refused(guard, **agent)
    assert (error.reason, error.retryable, error.retry_after) == ("in_flight", True, 1.0)
    assert state(guard).settled == 0
    guard.settle(held[0], cost="0.03")
    guard.reserve(**agent)


# grants


def test_row_70_top_ups_that_do_not_expire(opened: Opened, clock: ManualClock) -> None:
    """litellm #32603, #3515: top-ups that last, and a rollover, were asked for. Here a grant without an end lasts until
    it is used; the allowance is issued afresh, whole, and what was left of it does not add up."""
    plan = {"included": {"amount": 10}, "caps": [cap("over", 0, overage_only=True, ignore_grants=True)]}
    guard = opened(caps(plans={"p": plan}, default_plan="p"))
    guard.grant(user="u1", amount=5, id="top-up")
    spend(guard, 3)
    clock.advance(days=400)
    status = guard.status(user="u1")
    assert status.included is not None
    assert (status.included.remaining, status.grants[0].remaining) == (10, 5)
    spend(guard, 15)
    assert refusing(guard, user="u1", cost="0.01") == ["over"]
    clock.advance(days=31)
    guard.reserve(user="u1", cost=10)
    assert refusing(guard, user="u1", cost="0.01") == ["over"]
    assert meters(guard)["over"] == (0, 0)


def test_row_39_over_budget_blocks_free_models(opened: Opened) -> None:
    """litellm #10973, #14004, #29912: a user over budget was kept from local models that cost nothing. Here what is
    free in money passes every cap in money."""
    guard = opened(caps(cap(limit=1), cap("all", 1, per=[]), prices={"local": {"free": True}}))
    spend(guard, 2)
    assert guard.reserve(user="u1", model="local", prompt="x", max_tokens=500).held == 0


def test_row_37_a_price_of_ones_own_taken_for_free(opened: Opened) -> None:
    """litellm #25874: a model with a price of its own was seen as free, and its check skipped. Here free is only what
    says `free = true`; a price of zero is refused."""
    guard = opened({"prices": {"mine": {"input": 10, "output": 20}}, "caps": [cap(limit="0.001")]})
    assert refusing(guard, **{**ASK, "model": "mine"}) == ["c"]
    with pytest.raises(PolicyError, match="free = true"):
        Policy(prices={"mine": {"input": 0, "output": 0}})
