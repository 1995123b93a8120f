"""What a policy may say and what is refused: a table of bad documents, each with its place and its message."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capguard.errors import PolicyError
from capguard.policy.document import (
    Alerts,
    Cap,
    CapChange,
    EstimateDefaults,
    Failure,
    Grant,
    Included,
    Match,
    Plan,
    Policy,
    PriceRates,
    UnitRates,
    UserPolicy,
)
from capguard.policy.load import load_policy


def cap(**fields: Any) -> dict[str, Any]:
    return {"id": "c", "limit": 5} | fields


def caps(**fields: Any) -> dict[str, Any]:
    return {"caps": [cap(**fields)]}


def plan(*written: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"plans": {"pro": {"caps": list(written)} | fields}}


def user(change: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"users": {"u": {"caps": [change]} | fields}}


CHAIN = {f"m{step}": f"m{step + 1}" for step in range(8)}

BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    # a cap alone
    "limit missing": ({"caps": [{"id": "c"}]}, "caps[0] (c).limit", "missing"),
    "id missing": ({"caps": [{"limit": 1}]}, "caps[0].id", "missing"),
    "id empty": (caps(id=""), "caps[0] ().id", "1 to 256 characters"),
    "id too long": (caps(id="x" * 257), f"caps[0] ({'x' * 57}...).id", "1 to 256 characters"),
    "id with NUL": (caps(id="a\0b"), r"caps[0] (a\x00b).id", "control characters"),
    "id with a newline": (caps(id="a\nb"), r"caps[0] (a\nb).id", "control characters"),
    "id with a line separator": (caps(id="a\u2028b"), r"caps[0] (a\u2028b).id", "control characters"),
    "id with a lone surrogate": (caps(id="a\ud800"), r"caps[0] (a\ud800).id", "control characters"),
    "id a number": (caps(id=5), "caps[0].id", "5; allowed: text"),
    "limit negative": (caps(limit=-1), "caps[0] (c).limit", "0 or more"),
    "limit NaN": (caps(limit=float("nan")), "caps[0] (c).limit", "nan; allowed: a finite number"),
    "limit Decimal NaN": (caps(limit=Decimal("NaN")), "caps[0] (c).limit", "finite"),
    "limit infinite": (caps(limit="inf"), "caps[0] (c).limit", "finite"),
    "limit a boolean": (caps(limit=True), "caps[0] (c).limit", "true; allowed: a finite number"),
    "limit with underscores": (caps(limit="1_000"), "caps[0] (c).limit", "'1_000'"),
    "limit in other digits": (caps(limit="٣"), "caps[0] (c).limit", "finite number"),
    "limit null": (caps(limit=None), "caps[0] (c).limit", "null"),
    "limit a list": (caps(limit=[5]), "caps[0] (c).limit", "a list of 1"),
    "limit beyond the ledger": (caps(limit=9007200), "caps[0] (c).limit", "at most 9007199.254740991 usd"),
    "limit beyond all": (caps(limit="1e30"), "caps[0] (c).limit", "below 1e18, of at most 30 decimals"),
    "tokens beyond the ledger": (caps(unit="tokens", limit=2**53), "caps[0] (c).limit", "at most 9007199254740991"),
    "half a request": (caps(unit="requests", limit="1.5"), "caps[0] (c).limit", "1.5' requests; allowed: a whole"),
    "unknown unit": (caps(unit="tokenz"), "caps[0] (c).unit", "did you mean 'tokens'?; allowed: usd, billed, tokens"),
    "window": (
        caps(window="fortnightly"),
        "caps[0] (c).window",
        "'fortnightly': no such window; allowed: hourly, daily",
    ),
    "window with a bad tail": (caps(window="monthly:32"), "caps[0] (c).window", "monthly[:1..31|:last]"),
    "window not text": (caps(window=30), "caps[0] (c).window", "30; allowed: hourly"),
    "window in no zone": (caps(window="daily@Mars/Base"), "caps[0] (c).window", "unknown time zone 'Mars/Base'"),
    "action": (caps(action="blok"), "caps[0] (c).action", "did you mean 'block'?; allowed: 'block', 'downgrade'"),
    "per of the model": (caps(per=["model"]), "caps[0] (c).per", "'model'; allowed: user, plan"),
    "per of a nameless tag": (caps(per=["tag:"]), "caps[0] (c).per", "tag:<name>"),
    "per twice": (caps(per=["user", "user"]), "caps[0] (c).per", "twice"),
    "per as text": (caps(per="user"), "caps[0] (c).per", "'user'; allowed: a list"),
    "match on an unknown field": (caps(match={"modle": "x"}), "caps[0] (c).match.modle", "did you mean 'model'?"),
    "match on nothing": (caps(match={"model": []}), "caps[0] (c).match.model", "a pattern"),
    "match on a bad tag": (caps(match={"tag:env": 5}), 'caps[0] (c).match."tag:env"', "a pattern"),
    "match as text": (caps(match="gpt"), "caps[0] (c).match", "a table with the keys user, plan"),
    "unknown key": (caps(limt=3), "caps[0] (c).limt", "unknown key 'limt', did you mean 'limit'?; allowed: id, limit"),
    "key that is no text": ({"caps": [cap() | {5: 1}]}, "caps[0] (c)", "unknown key 5"),
    "flag as text": (caps(required="yes"), "caps[0] (c).required", "true or false"),
    "flag as a number": (caps(public=1), "caps[0] (c).public", "true or false"),
    "on_backend_error": (caps(on_backend_error="shut"), "caps[0] (c).on_backend_error", "'open' or 'closed'"),
    "to without downgrade": (caps(to="m"), "caps[0] (c).to", "only with action = 'downgrade'"),
    "otherwise without downgrade": (caps(otherwise="block"), "caps[0] (c).otherwise", "action = 'downgrade'"),
    "min_output without clamp": (caps(min_output=5), "caps[0] (c).min_output", "only with action = 'clamp'"),
    "min_output of 0": (caps(action="clamp", min_output=0), "caps[0] (c).min_output", "from 1"),
    "max_wait without throttle": (caps(max_wait=5), "caps[0] (c).max_wait", "only with action = 'throttle'"),
    "max_wait of 0": (caps(action="throttle", max_wait=0), "caps[0] (c).max_wait", "more than 0"),
    "clamp on requests": (caps(action="clamp", unit="requests"), "caps[0] (c).action", "does not change"),
    "clamp on input": (caps(action="clamp", unit="input_tokens"), "caps[0] (c).action", "does not change"),
    "downgrade on tokens": (caps(action="downgrade", unit="tokens"), "caps[0] (c).action", "the same on every model"),
    "downgrade to itself by to": (
        caps(action="downgrade", to="m", match={"model": "m"}),
        "caps[0] (c).to",
        "'m' is the model that this cap matches",
    ),
    "idle on a month": (caps(idle="1h"), "caps[0] (c).idle", "only with window = 'lifetime'"),
    "idle of no length": (caps(window="lifetime", idle="soon"), "caps[0] (c).idle", "'soon'; allowed: a duration"),
    "lifetime per session": (caps(window="lifetime", per=["session"]), "caps[0] (c).idle", "without idle"),
    "lifetime per tag": (caps(window="Lifetime@UTC", per=["tag:run"]), "caps[0] (c).idle", "per tag:run without idle"),
    "a cap that is no table": ({"caps": [5]}, "caps[0]", "5; allowed: a table with the keys id, limit"),
    "caps that are no list": ({"caps": {"id": "c"}}, "caps", "a table; allowed: a list"),
    # plans
    "a cap of a plan": (plan(cap(), cap(id="cheaper", window="x")), "plans.pro.caps[1] (cheaper).window", "no such"),
    "a plan's name": ({"plans": {"a\tb": {}}}, r'plans."a\tb"', "control characters"),
    "a name with a dot": ({"plans": {'a."b': {"price": -1}}}, r'plans."a.\"b".price', "0 or more"),
    "plans as a list": ({"plans": []}, "plans", "a list of 0; allowed: a table"),
    "price": (plan(price="free"), "plans.pro.price", "finite number"),
    "markup": (plan(markup=-2), "plans.pro.markup", "0 or more"),
    "a plan's price per token": (
        plan(prices={"m": {"input": 1e-7, "output": 1}}),
        "plans.pro.prices.m.input",
        "is that per token?",
    ),
    "a plan's half price": (plan(prices={"gpt-4*": {"input": 1}}), 'plans.pro.prices."gpt-4*".output', "output = 0"),
    "a plan's price of zero": (plan(prices={"m": {"request": 0}}), "plans.pro.prices.m", "free = true"),
    "a limit of the model in a plan's list": (
        plan(prices={"m": {"input": 1, "output": 1, "max_output": 5}}),
        "plans.pro.prices.m.max_output",
        "in the price list of a plan; allowed: max_output under [prices]",
    ),
    "a plan's prices as a list": (plan(prices=[]), "plans.pro.prices", "a list of 0; allowed: a table"),
    "included": (plan(included={"amount": 1, "window": "x"}), "plans.pro.included.window", "no such window"),
    "included of half a token": (
        plan(included={"amount": "0.5", "unit": "tokens"}),
        "plans.pro.included.amount",
        "whole",
    ),
    "included in no unit": (plan(included={"amount": 1, "unit": "gold"}), "plans.pro.included.unit", "unknown unit"),
    "default_plan": ({"default_plan": "pr"} | plan(), "default_plan", "did you mean 'pro'?; allowed: pro"),
    "default_plan of none": ({"default_plan": "pro"}, "default_plan", "none, there is no plan"),
    "a user's plan": (user(cap(), plan="x") | plan(), "users.u.plan", "unknown plan 'x'; allowed: pro"),
    # ids
    "id twice in a plan": (plan(cap(), cap()), "plans.pro.caps[0] (c).id", "'c' is used twice here"),
    "id twice for everybody": ({"caps": [cap(), cap()]}, "caps[0] (c).id", "twice"),
    "id twice for a user": ({"users": {"u": {"caps": [cap(), cap()]}}}, "users.u.caps[0] (c).id", "twice"),
    "id of everybody in a plan": (caps() | plan(cap()), "plans.pro.caps[0] (c).id", "cap for everybody"),
    "id of everybody at a user": (caps() | user(cap()), "users.u.caps[0] (c).id", "cap for everybody"),
    # users
    "a change of nothing": (
        user({"id": "c"}) | plan(cap(id="d")),
        "users.u.caps[0] (c).limit",
        "no cap 'c' in any plan",
    ),
    "a change in another plan": (
        {"plans": {"a": {"caps": [cap()]}, "b": {}}} | user({"id": "c"}, plan="b"),
        "users.u.caps[0] (c).limit",
        "no cap 'c' in plan 'b'",
    ),
    "a change that does not fit": (
        plan(cap(unit="requests")) | user({"id": "c", "limit": "0.5"}),
        "users.u.caps[0] (c).limit",
        "a whole number",
    ),
    "a change of the action": (
        plan(cap(unit="requests")) | user({"id": "c", "action": "clamp"}),
        "users.u.caps[0] (c).action",
        "does not change",
    ),
    "a change that counts overage": (
        plan(cap(unit="tokens")) | user({"id": "c", "overage_only": True}),
        "users.u.caps[0] (c).overage_only",
        "on tokens, while included and grants are in usd",
    ),
    "a user's id": ({"users": {"x" * 257: {}}}, f'users."{"x" * 57}..."', "256"),
    "a user's id as a number": ({"users": {4421: {}}}, "users.4421", "text"),
    # overage
    "overage in tokens": (caps(unit="tokens", overage_only=True), "caps[0] (c).overage_only", "are in usd"),
    "overage in another unit than included": (
        plan(cap(ignore_grants=True), included={"amount": 5, "unit": "billed"}),
        "plans.pro.caps[0] (c).ignore_grants",
        "on usd, while included and grants are in billed",
    ),
    # downgrades
    "downgrade to itself": ({"downgrade": {"m": "m"}}, "downgrade.m", "to itself"),
    "a circle of downgrades": ({"downgrade": {"a": "b", "b": "a"}}, "downgrade.a", "a circle: 'b' -> 'a' -> 'b'"),
    "a circle by patterns": ({"downgrade": {"gpt-*": "x", "x": "gpt-4"}}, "downgrade.x", "a circle"),
    "a long chain": ({"downgrade": CHAIN}, "downgrade.m0", "a chain of 9 models; allowed: at most 8"),
    "downgrade to a number": ({"downgrade": {"m": 4}}, "downgrade.m", "4; allowed: text"),
    # prices
    "a price per token": ({"prices": {"m": {"input": 1e-7, "output": 1}}}, "prices.m.input", "is that per token?"),
    "a dear price per token": (
        {"prices": {"m": {"input": 1, "output": "0.000015"}}},
        "prices.m.output",
        "0.001 to 600 USD per million tokens; per token it is 15 per million",
    ),
    "a price too dear": ({"prices": {"m": {"input": 1, "output": 601}}}, "prices.m.output", "to 600 USD per million"),
    "a price of zero": ({"prices": {"m": {"input": 0, "output": 0}}}, "prices.m", "free = true"),
    "no price": ({"prices": {"m": {}}}, "prices.m", "input and output, or request"),
    "half a price": ({"prices": {"m.x": {"input": 1}}}, 'prices."m.x".output', "output = 0 says"),
    "a price on a free model": ({"prices": {"m": {"free": True, "input": 1}}}, "prices.m.input", "free model"),
    "max_output": ({"prices": {"m": {"input": 1, "output": 1, "max_output": 1.5}}}, "prices.m.max_output", "whole"),
    # units
    "a unit that is built in": ({"units": {"usd": {"*": {"request": 1}}}}, "units.usd", "built in"),
    "a unit without rates": ({"units": {"credits": {}}}, "units.credits", "no rates"),
    "a model without a rate": ({"units": {"credits": {"*": {}}}}, 'units.credits."*"', "at least one of input"),
    "a bad quantity": (
        {"units": {"credits": {"*": {"quantities": {"images": -1}}}}},
        'units.credits."*".quantities.images',
        "0 or more",
    ),
    "clamp on a unit without output": (
        {"units": {"credits": {"*": {"request": 1}}}} | caps(unit="credits", action="clamp"),
        "caps[0] (c).action",
        "a unit with a rate for output",
    ),
    # the rest
    "timezone": ({"timezone": "Mars/Base"}, "timezone", "unknown time zone 'Mars/Base'; allowed: an IANA zone"),
    "threshold of 0": ({"alerts": {"thresholds": [0]}}, "alerts.thresholds[0]", "more than 0"),
    "threshold above 10": ({"alerts": {"thresholds": [1, 11]}}, "alerts.thresholds[1]", "up to 10"),
    "threshold twice": ({"alerts": {"thresholds": [1, "1.0"]}}, "alerts.thresholds", "twice"),
    "deadline of 0": ({"failure": {"deadline": 0}}, "failure.deadline", "more than 0"),
    "deadline above a minute": ({"failure": {"deadline": 61}}, "failure.deadline", "up to 60"),
    "offline_share": ({"failure": {"offline_share": 2}}, "failure.offline_share", "from 0"),
    "failure.backend": ({"failure": {"backend": "opne"}}, "failure.backend", "did you mean 'open'?"),
    "ceiling": ({"failure": {"ceiling": {"input": 0, "output": 0}}}, "failure.ceiling", "a price of zero"),
    "estimate": ({"estimate": {"output": 0}}, "estimate.output", "from 1"),
    "unknown table": ({"plan": {}}, "plan", "did you mean 'plans'?; allowed: timezone, default_plan"),
}


@pytest.mark.parametrize(("document", "place", "words"), BAD.values(), ids=BAD)
def test_refused(document: dict[str, Any], place: str, words: str) -> None:
    """A bad document is refused at its place, in words that tell what was found and what is allowed."""
    with pytest.raises(PolicyError) as refused:
        Policy(**document)
    found = {finding.place: str(finding) for finding in refused.value.findings}
    assert place in found
    assert words in found[place]
    str(refused.value).encode()


@pytest.mark.parametrize("document", [document for document, _, _ in BAD.values()], ids=BAD)
def test_one_cause_one_finding(document: dict[str, Any]) -> None:
    """Each of these documents has one fault; no second finding follows from it. A circle is told at both its ends."""
    with pytest.raises(PolicyError) as refused:
        load_policy(document)
    others = [finding for finding in refused.value.findings if not finding.found.startswith("a circle")]
    assert len(others) <= 1


def test_all_findings_at_once() -> None:
    """Faults of fields, between fields and between the parts of a document are told together."""
    document = {
        "timezone": "Nowhere",
        "default_plan": "gold",
        "plans": {"pro": {"caps": [cap(limit=-1, to="m"), cap(id="d", unit="gold"), cap(id="d", action="x")]}},
        "caps": [cap(), {"id": "e", "windw": "daily", "limit": "x"}],
        "downgrade": {"m": "m"},
        "wrong": 1,
    }
    with pytest.raises(PolicyError) as refused:
        load_policy(document)
    assert {finding.place for finding in refused.value.findings} == {
        "timezone",
        "default_plan",
        "plans.pro.caps[0] (c).limit",
        "plans.pro.caps[0] (c).to",
        "plans.pro.caps[0] (c).id",
        "plans.pro.caps[1] (d).unit",
        "plans.pro.caps[1] (d).id",
        "plans.pro.caps[2] (d).action",
        "caps[1] (e).windw",
        "caps[1] (e).limit",
        "downgrade.m",
        "wrong",
    }


OBJECTS: dict[str, tuple[Any, str]] = {
    "cap": (lambda: Cap(id="c", limit=-1), "limit"),
    "cap between fields": (lambda: Cap(id="c", limit=1, to="m"), "to"),
    "plan": (lambda: Plan(caps=[cap(window="x")]), "caps[0] (c).window"),
    "included": (lambda: Included(amount=True), "amount"),
    "match": (lambda: Match(**{"tag:": "x"}), '"tag:"'),
    "user": (lambda: UserPolicy(caps=[{"limit": 1}]), "caps[0].id"),
    "failure": (lambda: Failure(deadline="x"), "deadline"),
    "alerts": (lambda: Alerts(thresholds=[-1]), "thresholds[0]"),
    "price": (lambda: PriceRates(input=1), "output"),
    "unit": (lambda: UnitRates(request="-1"), "request"),
    "estimate": (lambda: EstimateDefaults(output=True), "output"),
    "grant of nothing": (lambda: Grant(amount=0), "amount"),
    "grant until a naive time": (lambda: Grant(amount=1, until=datetime(2026, 1, 1)), "until"),  # noqa: DTZ001
    "change": (lambda: CapChange(id="c", action="x"), "action"),
}


@pytest.mark.parametrize(("make", "place"), OBJECTS.values(), ids=OBJECTS)
def test_objects_are_refused_where_they_are_made(make: Any, place: str) -> None:
    """The constructor of every object raises PolicyError, never an error of pydantic."""
    with pytest.raises(PolicyError) as refused:
        make()
    assert [finding.place for finding in refused.value.findings] == [place]


def test_objects_and_documents_agree() -> None:
    """The same names make the same policy, as tables and as objects."""
    objects = Policy(
        plans={"free": Plan(caps=[Cap(id="monthly", limit=5)], included=Included(amount="1"))},
        default_plan="free",
        caps=[Cap(id="all", limit=9, per=[], match=Match(model="gpt-*", **{"tag:env": ["prod", "test"]}))],
        users={"u": UserPolicy(caps=[Cap(id="monthly", limit="0.5"), CapChange(id="own", limit=1)])},
        units={"credits": {"*": UnitRates(quantities={"images": 2})}},
        prices={"m": PriceRates(free=True)},
    )
    match = {"model": "gpt-*", "tag:env": ["prod", "test"]}
    document = load_policy(
        {
            "plans": {"free": {"caps": [{"id": "monthly", "limit": 5}], "included": {"amount": 1}}},
            "default_plan": "free",
            "caps": [{"id": "all", "limit": 9.0, "per": [], "match": match}],
            "users": {"u": {"caps": [{"id": "monthly", "limit": 0.5}, {"id": "own", "limit": 1}]}},
            "units": {"credits": {"*": {"quantities": {"images": 2}}}},
            "prices": {"m": {"free": True}},
        }
    )
    assert objects == document


@pytest.mark.parametrize("given_limit", [5, "5", 5.0, "5.00", "5e0", Decimal(5), Decimal("5.000")], ids=repr)
def test_a_limit_is_one_number_however_it_is_written(given_limit: Any) -> None:
    """int, str, float and Decimal give the same Decimal, in its shortest form."""
    assert str(Cap(id="c", limit=given_limit).limit) == "5"


def test_a_float_is_read_through_its_shortest_text() -> None:
    """0.1 is a tenth."""
    assert Cap(id="c", limit=0.1).limit == Decimal("0.1")


@pytest.mark.parametrize("name", ["'", '"', "{", "}", ":", "a b", "🦊", "👩\u200d🚀", "a.b", "*", "\\", "é", "x" * 256])
def test_hostile_names(name: str) -> None:
    """Quotes, braces, colons and emoji are names like any other, of caps, plans and users."""
    policy = Policy(caps=[cap(id=name)], plans={name: {}}, users={name: {"plan": name}}, default_plan=name)
    assert policy.caps[0].id == name
    assert policy.users[name].plan == name


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=5))
def test_a_refused_name_can_be_printed(name: str) -> None:
    """Whatever the name, the message is printable text on one line."""
    with pytest.raises(PolicyError) as refused:
        Policy(caps=[cap(id=name, window="x")])
    assert all(str(finding).isprintable() for finding in refused.value.findings)


def test_a_change_is_laid_over_the_cap() -> None:
    """What a change does not name stays; what belongs to the replaced action goes."""
    base = Cap(id="c", limit=5, action="clamp", min_output=9, window="daily", required=True)
    assert CapChange(id="c", limit=1).applied_to(base) == base.model_copy(update={"limit": Decimal(1)})
    assert CapChange(id="c", action="block").applied_to(base) == Cap(id="c", limit=5, window="daily", required=True)
    assert CapChange(id="c", limit=2).applied_to(None) == Cap(id="c", limit=2)
    with pytest.raises(PolicyError, match="limit: missing"):
        CapChange(id="c").applied_to(None)


def test_a_change_can_name_every_field_of_a_cap() -> None:
    """A field that Cap gains, CapChange must gain."""
    assert list(CapChange.model_fields) == list(Cap.model_fields)


def test_objects_are_frozen() -> None:
    """A policy does not change under a call."""
    with pytest.raises(ValueError, match="frozen"):
        Cap(id="c", limit=1).limit = Decimal(2)


def test_match_patterns() -> None:
    """A match gives its fields with their patterns, tags among them."""
    match = Match(model=["a*", "b"], **{"tag:env": "prod"})
    assert match.patterns == (("model", ("a*", "b")), ("tag:env", ("prod",)))


def test_caps_are_hashable() -> None:
    """Equal caps are one key."""
    assert len({Cap(id="c", limit=1, match=Match(model="a")), Cap(id="c", limit="1.0", match={"model": ["a"]})}) == 1


def test_idle_in_milliseconds() -> None:
    assert Cap(id="c", limit=1, window="lifetime", per=["session"], idle="1h30m").idle_ms == 5_400_000


def test_a_grant_keeps_its_time() -> None:
    until = datetime(2026, 1, 1, tzinfo=UTC)
    assert Grant(amount="2.5", until=until, id="g", priority=-1).until == until


def test_the_json_schema_knows_the_tables() -> None:
    """Editors complete policies by the schema."""
    schema = Policy.model_json_schema()
    assert set(schema["properties"]) == set(Policy.model_fields)
    assert schema["$defs"]["Cap"]["required"] == ["id", "limit"]


def test_defaults() -> None:
    """The defaults of the grammar."""
    assert Cap(id="c", limit=1).model_dump() | {"limit": 1} == {
        "id": "c",
        "limit": 1,
        "unit": "usd",
        "per": ("user",),
        "window": "monthly",
        "action": "block",
        "to": None,
        "otherwise": "pass",
        "match": None,
        "overage_only": False,
        "ignore_grants": False,
        "required": False,
        "public": False,
        "on_backend_error": None,
        "min_output": 64,
        "max_wait": 30,
        "idle": None,
    }


def test_thresholds_rise() -> None:
    """Alerts are sent in the order in which shares are reached."""
    assert Alerts(thresholds=[1, "0.5", 0.25]).thresholds == (Decimal("0.25"), Decimal("0.5"), 1)
