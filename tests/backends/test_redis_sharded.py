"""A ledger that is sharded by user, team or org decides, counts and tells as one that is not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot
from typer.testing import CliRunner

from capguard import BackendUnavailable, Cap, CapExceeded, Guard, IdempotencyMismatch, PolicyError, identify
from capguard.backends.redis import RedisBackend
from capguard.backends.redis.keys import Keys
from capguard.cli.app import app
from capguard.ledger.commands import Journal
from capguard.ledger.ids import SHARDS, shard_of
from capguard.ledger.outcomes import Lines
from capguard.testing import ManualClock
from capguard.testing.proxy import Proxy
from tests.backends.redis_place import Place
from tests.backends.servers import Server
from tests.backends.test_redis_cluster import Cluster, cluster  # noqa: F401 - a fixture
from tests.backends.test_redis_recover import comes_back

POLICY: dict[str, Any] = {
    "default_plan": "pro",
    "plans": {
        "pro": {
            "price": 9,
            "included": {"amount": 2, "window": "monthly"},
            "caps": [
                {"id": "monthly", "limit": 6},
                {"id": "notice", "limit": 3, "action": "warn"},
                {"id": "hour", "limit": 8, "unit": "requests", "window": "rolling:1h"},
            ],
        }
    },
    "failure": {"backend": "closed", "deadline": 10},
}
BEGIN = datetime(2026, 3, 2, 9, tzinfo=UTC)
USERS = [f"user {number}" for number in range(12)]
FIRST, LATE = (next(f"user {n}" for n in range(999) if shard_of(f"user {n}") == shard) for shard in (0, 55))
"""Users of the first shard and of one of the last ones."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("wheel", "--appendonly", "yes")
    yield server
    server.stop()


def sharded(url: str, by: str = "user", **options: Any) -> Guard:
    if not options.keys() & {"policy", "initial_policy"}:
        options["policy"] = POLICY
    return Guard(f"{url}?shard_by={by}&deadline=10", **options)


def test_the_users_of_a_cluster_are_on_all_its_masters(cluster: Cluster) -> None:  # noqa: F811
    """Each of them in one slot, with everything that a decision touches; every verb works."""
    with Guard(f"{cluster.url}&shard_by=user", policy=POLICY, namespace="spread") as guard:
        for user in USERS:
            guard.settle(guard.reserve(user=user, cost=1), cost=1)
            guard.grant(user=user, amount=1, id="g")
        assert guard.verify()
        assert len(list(guard.entries())) == 3 * len(USERS)
    shards = {shard_of(user) for user in USERS}
    slots = {key_slot(Keys("spread" if each == 0 else f"spread/{each}").meta.encode()) for each in shards}
    assert len({cluster.owner(slot).port for slot in slots}) == 3


def play(guard: Guard, clock: ManualClock, seed: int) -> list[str]:
    """Calls of some users, and what became of each."""
    chance, told, held = random.Random(seed), [], []
    for number in range(120):
        clock.advance(seconds=chance.randrange(1, 25))
        user = chance.choice(USERS)
        try:
            match chance.randrange(8):
                case 0:
                    guard.grant(user=user, amount=1, id=f"g{number}")
                case 1:
                    guard.override(user=user, cap="monthly", limit=chance.randrange(9))
                case 2 if held:
                    guard.release(held.pop(chance.randrange(len(held))))
                case 3:
                    told.append(str(bool(guard.allow(user=user, amount="0.5"))))
                case 4 if held:
                    made = held.pop(chance.randrange(len(held)))
                    told.append(str(guard.settle(made.id, cost=chance.randrange(3)).overrun))
                case _:
                    held.append(guard.reserve(user=user, cost=chance.randrange(1, 3), id=f"call {number}", ttl=3600))
        except CapExceeded as error:
            told.append(f"{error.cap.id} {error.reason}")
    return told


def shown(guard: Guard, clock: ManualClock) -> dict[str, object]:
    since = clock.now - timedelta(days=9)
    return {
        "status": [guard.status(user=user).to_dict() for user in USERS],
        "entries": [(entry.at, entry.kind, entry.user, entry.amounts) for entry in guard.entries()],
        "of one": [(entry.at, entry.kind) for entry in guard.entries(user=USERS[0], since=since)],
        "log": [(line.at, line.kind, line.cap, line.user, line.count) for line in guard.log()],
        "report": guard.report("plan", since=since).to_dict(),
        "verified": (len(list(guard.verify())), guard.verify().complete, guard.verify().entries),
    }


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_same_ledger(place: Place, seed: int) -> None:
    """What is admitted, refused, paid, told and reported, and in which order: as in memory."""
    with Guard("memory://", policy=POLICY, clock=(clock := ManualClock(BEGIN))) as one:
        expected = play(one, clock, seed), shown(one, clock)
    url, clock = place.server.url, ManualClock(BEGIN)
    with sharded(url, namespace=f"{place.namespace}-{seed}", clock=clock) as many:
        assert (play(many, clock, seed), shown(many, clock)) == expected


def test_the_journal_goes_on_for_a_reader_that_nobody_knows(place: Place, clock: ManualClock) -> None:
    """Pages in order, each entry once: from where any entry stands, also by a process that has read none before."""
    with sharded(place.server.url, namespace=place.namespace, clock=clock) as guard:
        for number in range(40):
            clock.advance(seconds=6 + number % 3)
            guard.allow(user=USERS[number % 12], amount="0.01")
        numbers = [entry.seq for entry in guard.entries()]
        assert len(set(numbers)) == 40
        for place_of in (0, 7, 20, 39):
            with sharded(place.server.url, namespace=place.namespace, clock=clock) as other:
                assert [entry.seq for entry in other.entries(after=numbers[place_of])] == numbers[place_of + 1 :]


def test_what_came_in_while_a_reader_read_is_not_lost(server: Server, clock: ManualClock) -> None:
    """A reader that goes on in another process gets what was late in a shard that it had passed."""
    with sharded(server.url, clock=clock) as writer, sharded(server.url, clock=clock) as reader:
        reader.status(user=FIRST)

        def act() -> None:
            for id, user in (("early", FIRST), ("late", LATE)):
                clock.advance(milliseconds=5)
                writer.allow(user=user, amount="0.1", id=id)

        before(reader, shard_of(LATE), act)
        read = list(reader.entries())
        assert [entry.id for entry in read] == ["late"]
        with sharded(server.url, clock=clock) as other:
            again = list(other.entries(after=read[-1].seq))
        assert [entry.id for entry in again] == ["early"]
        assert [entry.seq for entry in reader.entries()] == [again[0].seq, read[0].seq]


def test_the_clocks_of_masters_are_apart(server: Server, clock: ManualClock) -> None:
    """What is written behind by a master whose clock is some seconds back comes too."""
    with sharded(server.url, clock=clock) as writer:
        writer.allow(user=LATE, amount="0.1", id="ahead")
        (ahead,) = writer.entries()
        clock.advance(seconds=-4)
        writer.allow(user=FIRST, amount="0.1", id="back")
    with sharded(server.url, clock=clock) as other:
        assert [entry.id for entry in other.entries(after=ahead.seq)] == ["back"]


def test_a_reader_that_is_forgotten_at_each_page_gets_on(place: Place, clock: ManualClock) -> None:
    """However many entries there are within the seconds that are given again: every page ends with a later one."""
    with sharded(place.server.url, namespace=place.namespace, clock=clock) as guard:
        for number in range(60):
            clock.advance(milliseconds=10)
            guard.allow(user=USERS[number % 12], amount="0.01")
        numbers = [entry.seq for entry in guard.entries()]
    read: list[int] = []
    page = Journal(limit=10)
    for _ in range(6):
        found = place.open(clock, shard_by="user").execute(page)
        assert isinstance(found, Lines)
        read += [line.seq for line in found.lines]
        page = page._replace(after=read[-1])
    assert set(read) == set(numbers)
    assert page.after == numbers[-1]


@pytest.mark.parametrize("since", [False, True])
def test_a_reader_is_sent_each_entry_once(server: Server, clock: ManualClock, since: bool) -> None:
    """Not some hundreds again for every few; where it begins is looked for once in each shard."""
    policy = {"caps": [{"id": "m", "limit": 9}], "failure": POLICY["failure"]}
    with sharded(server.url, policy=policy, clock=clock) as guard:
        for number in range(300):
            clock.advance(milliseconds=10)
            guard.allow(user=USERS[number % 6], amount="0.01")
    with sharded(server.url, clock=clock) as reader:
        reader.status(user=FIRST)
        sent: list[int] = []
        client: Any = reader._backend.backend._client
        send = client.send

        def counting(words: Sequence[Any]) -> Any:
            reply = send(words)
            if isinstance(reply, list) and reply[0] == b"range":
                sent.append(len(reply[3]))
            return reply

        client.send = counting
        begin = clock.now - timedelta(seconds=2) if since else None
        read = len(list(reader.entries(since=begin)))
        assert read == (201 if since else 300)
        searched = 6 * 8 + SHARDS if since else 0  # of 50 entries each, and the newest of all
        assert sum(sent) <= read + searched
        assert len(sent) <= SHARDS + 6 * 4 + searched


def test_an_entry_that_was_archived_since(server: Server, tmp_path: Path, clock: ManualClock) -> None:
    """A reader that stopped there gets everything that it has not, from shards too that went on before that one did."""
    with sharded(server.url, clock=clock) as guard:
        guard.allow(user=LATE, amount="0.1", id="read")
        (read,) = guard.entries()
        for day in range(3):
            clock.advance(days=1)
            guard.allow(user=FIRST, amount="0.1", id=f"day {day}")
        guard.allow(user=LATE, amount="0.1", id="next")
        RedisBackend(server.url, shard_by="user", clock=clock, deadline=10).archive(tmp_path / "journal.db")
    for archive in ("", f"&archive={tmp_path / 'journal.db'}"):
        with Guard(f"{server.url}?shard_by=user&deadline=10{archive}", policy=POLICY, clock=clock) as other:
            assert read.id in [entry.id for entry in other.entries()] or not archive
            assert [entry.id for entry in other.entries(after=read.seq)] == ["day 0", "day 1", "day 2", "next"]


@pytest.mark.parametrize(
    ("by", "policy", "where"),
    [
        ("user", [{"id": "all", "per": [], "limit": 1}], "caps[0] (all).per: per = []"),
        ("user", [{"id": "org", "per": ["org"], "limit": 1}], "per"),
        ("team", [{"id": "m", "limit": 1}], "per"),
        ("team", {"plans": {"p": {"included": {"amount": 1}}}}, "included.per"),
        ("org", {"plans": {"p": {"caps": [{"id": "m", "limit": 1}]}}}, "per"),
    ],
)
def test_a_cap_that_is_wider_than_a_shard_is_refused_at_load(place: Place, by: str, policy: Any, where: str) -> None:
    for given in ("policy", "initial_policy"):
        with pytest.raises(PolicyError, match=f"apart by {by}") as refused:
            sharded(place.server.url, by, namespace=place.namespace, **{given: policy})
        assert where in str(refused.value)


def test_what_is_brought_in_beside_the_policy_is_no_wider(place: Place) -> None:
    """Overrides, caps of one call, a policy that is published."""
    wide = Cap(id="wide", per=["team"], limit=1)
    with sharded(place.server.url, initial_policy=POLICY, namespace=place.namespace) as guard:
        for verb in (
            lambda: guard.override(user="u1", caps=[wide]),
            lambda: guard.reserve(user="u1", team="t", cost=1, caps=[wide]),
            lambda: guard.publish(_with(wide)),
        ):
            with pytest.raises(PolicyError, match="apart by user"):
                verb()
        with identify(user="u1", team="t", caps=[wide]), pytest.raises(PolicyError, match="apart by user"):
            guard.reserve(cost=1)
    team = {"caps": [{"id": "t", "per": ["team"], "limit": 1}]}
    with (
        sharded(place.server.url, "team", policy=team, namespace=f"{place.namespace}-t") as guard,
        pytest.raises(ValueError, match="a grant is a user's"),
    ):
        guard.grant(user="u1", amount=1)


def _with(cap: Cap) -> dict[str, Any]:
    return {"caps": [cap], "failure": {"deadline": 10}}


@pytest.mark.parametrize(
    ("first", "then"), [("", "&shard_by=user"), ("&shard_by=user", ""), ("&shard_by=user", "&shard_by=org")]
)
def test_a_ledger_is_sharded_for_good(
    place: Place, first: str, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened otherwise than it was begun it says so, and begins no second one."""
    caps = {"caps": [{"id": "m", "per": ["user", "org"], "limit": 1}], "failure": {"backend": "closed"}}
    url = f"{place.server.url}?deadline=10"
    with Guard(url + first, policy=caps, namespace=place.namespace) as guard:
        guard.allow(user=USERS[0], org="o", amount="0.1")
    for _ in range(2):
        with (
            Guard(url + then, policy=caps, namespace=place.namespace) as other,
            pytest.raises(BackendUnavailable, match=r"is not sharded|is sharded by user: \?shard_by=user"),
        ):
            other.reserve(user=USERS[1], org="o", cost="0.1")
        monkeypatch.setenv("CAPGUARD_STATE", str(tmp_path))  # and a host that knows nothing of it


def test_a_call_is_ended_by_whoever_has_its_id(place: Place) -> None:
    """Another process knows the id alone: it finds the call; one that is released before it comes is refused."""
    with (
        sharded(place.server.url, namespace=place.namespace) as guard,
        sharded(place.server.url, namespace=place.namespace) as other,
    ):
        for number, user in enumerate(USERS):
            guard.reserve(user=user, cost=1, id=f"call {number}")
        assert other.settle("call 3", cost=1).entry_id in {entry.seq for entry in guard.entries()}
        assert other.settle("call 3", cost=1).cost == 1
        other.release("call 4")
        other.extend("call 5", ttl=500)
        assert guard.status(user=USERS[3]).caps["monthly"].settled == 1
        assert guard.status(user=USERS[4]).caps["monthly"].held == 0
        other.release("late")
        with pytest.raises(IdempotencyMismatch):
            guard.reserve(user="u1", cost=1, id="late")
        assert guard.verify()


@pytest.mark.parametrize(("by", "named"), [("user", {"user": LATE}), ("team", {"user": FIRST, "team": LATE})])
def test_a_minted_id_says_where_its_call_is(server: Server, by: str, named: dict[str, str]) -> None:
    """It is ended in a process that did not make it without being looked for in other shards."""
    policy = {"caps": [{"id": "m", "per": [by], "limit": 9}], "failure": POLICY["failure"]}
    with sharded(server.url, by, policy=policy) as guard, sharded(server.url, by, policy=policy) as other:
        other.status(**named)
        made = guard.reserve(**named, cost=1)
        before(other, 5, dies)
        assert other.settle(made.id, cost=1).cost == 1
        with pytest.raises(Dies):  # of an id that a caller made up nobody knows
            other.settle("of a caller", cost=1)


def test_fifty_at_once_with_room_for_four(place: Place) -> None:
    with sharded(place.server.url, namespace=place.namespace) as guard, ThreadPoolExecutor(50) as pool:
        held = pool.map(lambda _: _reserved(guard), range(50))
    assert sum(held) == 4


def _reserved(guard: Guard) -> bool:
    try:
        guard.reserve(user="u1", cost="1.5")
    except CapExceeded:
        return False
    return True


def test_a_policy_that_was_published_in_some_shards_only(server: Server) -> None:
    """The connection breaks on the way: whoever has heard of it brings it to the others; so does publishing again."""
    with sharded(server.url, initial_policy=POLICY) as guard, Proxy(server.port) as proxy:
        for user in USERS:
            guard.allow(user=user, amount=1)
        tight = {**POLICY, "plans": {"pro": {"caps": [{"id": "monthly", "limit": 1}]}}}
        with Guard(f"redis://127.0.0.1:{proxy.port}/0?shard_by=user&deadline=10") as publisher:
            publisher.status(user="u1")
            proxy.fail("reset", on=b"{default/20}", times=2)
            with pytest.raises(BackendUnavailable):
                publisher.publish(tight)
        first = next(user for user in USERS if shard_of(user) < 20)
        late = [user for user in USERS if shard_of(user) > 20]
        for user in [first, *late]:
            with pytest.raises(CapExceeded):
                guard.reserve(user=user, cost=1)
        assert guard.publish(tight) == 2
        with sharded(server.url, initial_policy=POLICY) as other:
            for user in USERS:
                with pytest.raises(CapExceeded):
                    other.reserve(user=user, cost=1)
        client = server.client()
        revisions = {client.hget(Keys("default" if n == 0 else f"default/{n}").meta, "policy") for n in range(SHARDS)}
        assert revisions == {b"2"}


def test_new_caps_begin_at_nothing(place: Place, clock: ManualClock, tmp_path: Path) -> None:
    """No step fills all shards: a backfill is refused before anything is sent; `since` says from when a cap counts."""
    policy = {"caps": [{"id": "m", "limit": 9}], "failure": {"deadline": 10}}
    day = {"id": "day", "limit": 5, "window": "daily"}
    with sharded(place.server.url, initial_policy=policy, namespace=place.namespace, clock=clock) as guard:
        guard.allow(user=USERS[0], amount=4)
        clock.advance(minutes=5)
        with pytest.raises(ValueError, match=r"apart by user.*publish without it.*since"):
            guard.publish({**policy, "caps": [*policy["caps"], day]}, backfill=True)
        (file := tmp_path / "policy.json").write_text(json.dumps({**policy, "caps": [*policy["caps"], day]}))
        pushed = ["policy", "push", str(file), "--url", f"{place.server.url}?shard_by=user", "--backfill"]
        refused = CliRunner().invoke(app, [*pushed, "--namespace", place.namespace])
        assert refused.exit_code == 2
        assert "apart by user" in refused.output
        assert len(guard.history()) == 1
        guard.publish({**policy, "caps": [*policy["caps"], day]})
        found = guard.status(user=USERS[0]).caps["day"]
        assert (found.settled, found.since) == (0, clock.now)


def test_profiles_are_with_the_user_or_everywhere(place: Place) -> None:
    """By team a user may call from any shard: an override and a plan hold in all of them."""
    caps = [{"id": "t", "per": ["team", "user"], "limit": 5}]
    policy = {"plans": {"free": {"caps": caps}, "none": {}}, "default_plan": "free", "failure": {"deadline": 10}}
    with sharded(place.server.url, "team", policy=policy, namespace=place.namespace) as guard:
        guard.override(user="u1", cap="t", limit=1)
        for team in ("red", "green", "blue"):
            with pytest.raises(CapExceeded):
                guard.reserve(user="u1", team=team, cost=2)
        guard.assign(user="u1", plan="none")
        for team in ("red", "green", "blue"):
            guard.reserve(user="u1", team=team, cost=2)


BY_TEAM: dict[str, Any] = {
    "caps": [{"id": "t", "per": ["team", "user"], "limit": 5}],
    "failure": {"backend": "closed", "deadline": 10},
}
TEAMS = [next(f"t{n}" for n in range(999) if shard_of(f"t{n}") == shard) for shard in (0, 5, 55)]
"""Of the first shard, of an early and of a late one."""


def before(guard: Guard, shard: int, act: Callable[[], object]) -> None:
    """Do this once, before the next command that a Guard sends to a shard."""
    client: Any = guard._backend.backend._client
    send, part = client.send, f"{{default/{shard}}}"

    def sending(words: Sequence[Any]) -> Any:
        if any(part in str(word) for word in words):
            client.send = send
            act()
        return send(words)

    client.send = sending


class Dies(BaseException):
    """What a process does that is killed."""


def dies() -> None:
    raise Dies


def profiles_of(server: Server, user: str) -> set[bytes]:
    """What the shards have of a user: one thing, where they agree."""
    keys = [Keys("default" if n == 0 else f"default/{n}").users for n in range(SHARDS)]
    return {server.client().hget(key, user) or b"" for key in keys}


def test_two_overrides_at_once_end_equal(server: Server) -> None:
    """The first shard says which one is the newer: that holds in all of them, for whoever comes."""
    with sharded(server.url, "team", policy=BY_TEAM) as first, sharded(server.url, "team", policy=BY_TEAM) as second:
        first.status(user="u"), second.status(user="u")
        before(first, 30, lambda: second.override(user="u", cap="t", limit=1))
        first.override(user="u", cap="t", limit=4)
        (profile,) = profiles_of(server, "u")
        assert profile.startswith(b"2:")
        for teams in (TEAMS, TEAMS[::-1]):
            with sharded(server.url, "team", policy=BY_TEAM) as other:
                for team in teams:
                    with pytest.raises(CapExceeded):
                        other.reserve(user="u", team=team, cost=3)
        assert [line.detail.split(",")[0] for line in first.log() if line.kind == "policy"] == [
            "override: limit 4 (revision 1)",
            "override: limit 1 (revision 2)",
        ]


@pytest.mark.parametrize("verb", ["reserve", "check"])
def test_an_override_that_came_to_some_shards_only(server: Server, verb: str) -> None:
    """Its process dies half way: whoever knows of it brings it to a shard that it meets; so does saying it again."""
    with sharded(server.url, "team", policy=BY_TEAM) as dying, sharded(server.url, "team", policy=BY_TEAM) as guard:
        dying.status(user="u")
        before(dying, 30, dies)
        with pytest.raises(Dies):
            dying.override(user="u", cap="t", limit=1)
        refused = [_refused(guard, verb, user="u", team=team, cost=2) for team in (*TEAMS, *TEAMS[::-1])]
        assert refused == [True] * 6
        guard.override(user="u", cap="t", limit=1)
        assert len(profiles_of(server, "u")) == 1


def _refused(guard: Guard, verb: str, **call: Any) -> bool:
    try:
        return not getattr(guard, verb)(**call)
    except CapExceeded:
        return True


def test_copies_of_a_profile_are_made_anew_from_the_journals(server: Server, tmp_path: Path) -> None:
    """A shard that one change has passed by has the whole profile in the entry of the next one."""
    url, journal = f"{server.url}?shard_by=team", tmp_path / "journal.db"
    with sharded(server.url, "team", policy=BY_TEAM) as guard, sharded(server.url, "team", policy=BY_TEAM) as dying:
        dying.status(user="u")
        before(dying, 30, dies)
        with pytest.raises(Dies):
            dying.override(user="u", cap="t", limit=1)
        guard.override(user="u", caps=[Cap(id="r", per=["team", "user"], unit="requests", limit=1)])
        (profile,) = profiles_of(server, "u")
        _run("archive", "--to", str(journal), "--url", url)
        _flush(server.client())
        _run("recover", "--archive", str(journal), "--url", url)
        assert profiles_of(server, "u") == {profile}


def test_a_check_brings_a_shard_up_to_the_policy(server: Server) -> None:
    """As a reserve does: a process that knows of a newer policy does not go back to the one that a shard has."""
    tight = {"caps": [{"id": "m", "limit": 1}], "failure": POLICY["failure"]}
    with sharded(server.url, initial_policy=POLICY) as dying, sharded(server.url, initial_policy=POLICY) as guard:
        dying.status(user=FIRST), guard.status(user=FIRST)
        before(dying, 30, lambda: before(dying, 30, dies))
        with pytest.raises(Dies):
            dying.publish(tight)
        for user in (FIRST, LATE, FIRST, LATE):
            assert not guard.check(user=user, cost=2)


@pytest.mark.parametrize("step", ["the first contact", "a release of an unknown id", "a call that is asked again"])
def test_alerts_of_what_expired_are_told(server: Server, clock: ManualClock, step: str) -> None:
    """Whichever step ends a call that nobody settled tells what it crossed: once."""
    policy = {"caps": [{"id": "m", "limit": 10}], "alerts": {"thresholds": [0.5]}, "failure": POLICY["failure"]}
    user = FIRST if step == "the first contact" else LATE
    with sharded(server.url, policy=policy, clock=clock) as guard:
        guard.reserve(user=user, cost=6, ttl=60)
    told: list[str] = []
    if step == "the first contact":
        clock.advance(hours=1)
    with sharded(server.url, initial_policy=policy, clock=clock) as guard:
        guard.on("threshold", lambda event: told.append(event.identity["user"]))
        if step != "the first contact":
            guard.status(user=FIRST)
            clock.advance(hours=1)
        if step == "a release of an unknown id":
            guard.release("nobody knows")
        elif step == "a call that is asked again":
            _lags_behind(server, guard, shard_of(LATE))
            guard.allow(user=LATE, amount="0.01")
        guard.status(user=user)
        assert told == [user]


def _lags_behind(server: Server, guard: Guard, shard: int) -> None:
    """A policy is published, and its process dies before it comes to this shard; the Guard has heard of it."""
    with sharded(server.url, clock=guard._clock, initial_policy=POLICY) as dying:
        dying.status(user=FIRST)
        before(dying, shard, dies)
        with pytest.raises(Dies):
            dying.publish({"caps": [{"id": "m", "limit": 9}], "failure": POLICY["failure"]})
    guard.check(user=FIRST, cost="0.01")


def _flush(client: redis.Redis) -> None:
    client.flushall()


def _one_shard(client: redis.Redis) -> None:
    client.delete(*client.keys(f"cg1:{{default/{shard_of(USERS[0])}}}:*"))


@pytest.mark.parametrize("lose", [_flush, _one_shard])
def test_lost_shards_are_noticed_and_made_anew(
    server: Server, tmp_path: Path, lose: Callable[[redis.Redis], None]
) -> None:
    """From the archive, a file beside the other for each shard."""
    url, journal = f"{server.url}?shard_by=user", tmp_path / "journal.db"
    with Guard(f"{url}&deadline=10", policy=POLICY) as guard:
        for user in USERS:
            guard.allow(user=user, amount=1)
        _run("archive", "--to", str(journal), "--url", url)
        lose(server.client())
        with pytest.raises(BackendUnavailable, match="lost"):
            guard.reserve(user=USERS[0], cost=1)
        _run("recover", "--archive", str(journal), "--url", url)
        comes_back(guard)
        assert guard.flush(20)
        assert [guard.status(user=user).caps["monthly"].settled for user in USERS] == [1] * len(USERS)
        assert guard.verify()
    with Guard(f"{url}&deadline=10&archive={journal}", policy=POLICY) as guard:
        assert len(list(guard.entries())) == len(USERS)


def test_a_shard_that_vanished_is_not_begun_anew(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor by a process that has seen nothing of it, on another host: whoever it counted is refused, others are not."""
    url = f"{server.url}?shard_by=user"
    with sharded(server.url) as guard:
        guard.allow(user=USERS[0], amount=2)
    client = server.client()
    _one_shard(client)
    for number in range(2):
        monkeypatch.setenv("CAPGUARD_STATE", str(tmp_path / f"host {number}"))
        with sharded(server.url) as other:
            for _ in range(2):
                with pytest.raises(BackendUnavailable, match="holds no ledger: state was lost"):
                    other.reserve(user=USERS[0], cost=1)
            other.allow(user=USERS[1], amount=1)
    refused = CliRunner().invoke(app, ["archive", "--to", str(tmp_path / "journal.db"), "--url", url])
    assert "state was lost" in refused.output
    assert not client.keys(f"cg1:{{default/{shard_of(USERS[0])}}}:*")
    _run("recover", "--accept-loss", "--url", url)
    with sharded(server.url) as guard:
        guard.reserve(user=USERS[0], cost=5)


def test_a_weak_server_is_warned_of_once(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Not once for every shard that is on it."""
    server.client().config_set("appendonly", "no")
    with sharded(server.url) as guard:
        for user in USERS:
            guard.allow(user=user, amount=1)
    assert len([record for record in caplog.records if "appendonly" in record.message]) == 1


def _run(*words: str) -> None:
    found = CliRunner().invoke(app, [*words])
    assert found.exit_code == 0, found.output


def test_the_log_tells_a_publication_once(place: Place) -> None:
    """Every shard has an entry of it; one of them is told."""
    with sharded(place.server.url, initial_policy=POLICY, namespace=place.namespace) as guard:
        guard.publish({**POLICY, "default_plan": None})
        told = [line.detail for line in guard.log() if line.kind == "policy"]
        assert [detail.split(":")[0] for detail in told] == [f"policy published (revision {n})" for n in (1, 2)]
