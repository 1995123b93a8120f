"""Policies in and out: files, tables, objects, hashes and advice."""

import json
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capguard.errors import Finding, MissingExtra, PolicyError
from capguard.policy.advice import advice
from capguard.policy.document import Cap, Policy
from capguard.policy.load import MAX_VALUES, dump_policy, load_policy, policy_hash

HERE = Path(__file__).parent


@pytest.fixture
def example() -> Policy:
    return load_policy(HERE / "example.toml")


@pytest.mark.parametrize("name", ["example.yaml", "example.json"])
def test_one_grammar_in_three_notations(example: Policy, name: str) -> None:
    """The example of the documentation says the same in TOML, YAML and JSON."""
    assert load_policy(str(HERE / name)) == example
    assert policy_hash(load_policy(HERE / name)) == policy_hash(example)


def test_the_example_means_what_it_says(example: Policy) -> None:
    """Decimals arrive exactly, defaults are those that are written beside them."""
    assert example.users["user_4421"].caps[0].limit == Decimal("0.5")
    assert example.failure == Policy().failure
    assert example.alerts == Policy().alerts
    assert example.plans["pro"].caps[3].overage_only
    assert example.caps[0].per == ()
    assert example.units["credits"]["gpt-4o"].output == 400


def test_sources() -> None:
    """A policy, a table, a list of caps and a path are sources."""
    policy = Policy(caps=[Cap(id="c", limit=1)])
    assert load_policy(policy) is policy
    assert load_policy({"caps": [{"id": "c", "limit": 1}]}) == policy
    assert load_policy([Cap(id="c", limit=1)]) == policy
    assert load_policy({}) == Policy()


@pytest.mark.parametrize("source", [None, 5, b"policy.toml", Cap(id="c", limit=1)])
def test_no_source(source: Any) -> None:
    """Anything else is refused with what is accepted."""
    with pytest.raises(PolicyError, match="allowed: a Policy, a table, a list of caps or the path of a file"):
        load_policy(source)


FILES: dict[str, tuple[str, str | bytes, str]] = {
    "TOML": ("p.toml", "timezone = \n", "p.toml:1:12: Invalid value"),
    "TOML at its end": ("p.toml", 'a = "x', "p.toml:1:7: "),
    "TOML key twice": ("p.toml", 'timezone = "UTC"\ntimezone = "UTC"\n', "p.toml:2:17: Cannot overwrite a value"),
    "TOML infinity": ("p.toml", 'caps = [{ id = "c", limit = inf }]', "caps[0] (c).limit: Infinity"),
    "YAML": ("p.yaml", "caps: [\n  a: }\n", "p.yaml:2:6: "),
    "YAML key twice": (
        "p.yml",
        "timezone: UTC\ncaps: []\ntimezone: UTC\n",
        "p.yml:3:1: the key 'timezone' stands twice",
    ),
    "YAML objects": ("p.yaml", "caps: !!python/object:os.system {}\n", "p.yaml:1:7: could not determine a constructor"),
    "YAML control characters": ("p.yaml", "caps: \0", "p.yaml: unacceptable character"),
    "YAML number as a user": ("p.yaml", "users: { 4421: { caps: [] } }", "users.4421: 4421; allowed: text"),
    "YAML not a number": ("p.yaml", "caps: [{ id: c, limit: .nan }]", "caps[0] (c).limit: nan"),
    "YAML circle": ("p.yaml", "caps: &a [ *a ]", "too many"),
    "YAML aliases that multiply": (
        "p.yaml",
        "a: &a [" + "1," * 999 + "1]\nb: &b [" + "*a," * 999 + "*a]\nc: [*b, *b]\n",
        f"at most {MAX_VALUES} values",
    ),
    "JSON": ("p.json", '{"caps": [}', "p.json:1:11: Expecting value"),
    "JSON key twice": ("p.json", '{"caps": [], "caps": []}', "the key 'caps' stands twice"),
    "JSON NaN": ("p.json", '{"caps": [{"id": "c", "limit": NaN}]}', "NaN is no number of JSON"),
    "JSON Infinity": ("p.json", '{"caps": [{"id": "c", "limit": -Infinity}]}', "-Infinity is no number"),
    "JSON beyond all numbers": ("p.json", '{"a": 1e99999999999999999999}', "the number 1e99999999999999999999"),
    "JSON surrogate": ("p.json", r'{"caps": [{"id": "\ud800", "limit": 1}]}', r"caps[0] (\ud800).id"),
    "JSON without a bottom": ("p.json", "[" * 100_000, "too many levels"),
    "JSON of a few more levels": ("p.json", '{"a": ' + "[" * 30 + "]" * 30 + "}", "at most 20 levels"),
    "not UTF-8": ("p.toml", b'timezone = "UTC"\n# caf\xe9\n', "p.toml:2: byte 0xe9; allowed: text in UTF-8"),
    "too large": ("p.json", b" " * 1_000_001, "at most 1000000 bytes"),
    "another ending": ("p.ini", "", "allowed: a file that ends in .toml, .yaml, .yml, .json"),
    "a document that is text": ("p.json", '"caps"', "'caps'; allowed: a Policy, a table"),
}


@pytest.mark.parametrize(("name", "content", "words"), FILES.values(), ids=FILES)
def test_bad_files(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    """A file that cannot be read is refused with its name, and with line and column for bad syntax."""
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PolicyError) as refused:
        load_policy(tmp_path / name)
    assert words in str(refused.value)


def test_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the absolute path and what is accepted: a str is a path, never a policy."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PolicyError) as refused:
        load_policy("missing.toml")
    assert str(tmp_path / "missing.toml") in str(refused.value)
    assert "a policy given as text is not accepted" in str(refused.value)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "p.toml").mkdir()
    with pytest.raises(PolicyError, match=r"p\.toml: Is a directory"):
        load_policy(tmp_path / "p.toml")


def test_an_empty_file_has_no_caps(tmp_path: Path) -> None:
    """Of YAML, where an empty document is null, as of TOML; and a byte order mark is no content."""
    for name in ("p.toml", "p.yaml"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf")
        assert load_policy(tmp_path / name) == Policy()


def test_yaml_anchors_and_merges(tmp_path: Path) -> None:
    """Plain YAML is allowed to be YAML."""
    (tmp_path / "p.yaml").write_text(
        "plans:\n  a: &a { price: 1, caps: [{ id: c, limit: 0.1 }] }\n  b: { <<: *a, price: 2 }\n"
    )
    plans = load_policy(tmp_path / "p.yaml").plans
    assert (plans["b"].price, plans["b"].caps) == (2, plans["a"].caps)


def test_yaml_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message tells what to install."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "capguard.policy.yamlfile", raising=False)
    (tmp_path / "p.yaml").write_text("{}")
    with pytest.raises(MissingExtra, match=r"capguard\[yaml\]"):
        load_policy(tmp_path / "p.yaml")


def test_the_example_survives_a_round_trip(example: Policy) -> None:
    """A dumped policy is plain JSON and loads back equal."""
    text = json.dumps(dump_policy(example))
    assert load_policy(json.loads(text)) == example


def test_the_hash_is_of_what_a_policy_means() -> None:
    """Spelling, order and defaults that are written out do not count; a limit does."""
    plain = policy_hash(load_policy({"caps": [{"id": "c", "limit": 5}], "plans": {"a": {}, "b": {}}}))
    long = {"plans": {"b": {}, "a": {}}, "caps": [{"id": "c", "limit": "5.00", "window": "monthly"}]}
    assert policy_hash(load_policy(long)) == plain
    assert policy_hash(load_policy(long | {"caps": [{"id": "c", "limit": 6}]})) != plain
    assert len(plain) == 12


names = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=8)
amounts = st.integers(0, 10**9).map(lambda parts: Decimal(parts) / 10**6)
fields = st.fixed_dictionaries(
    {"limit": amounts},
    optional={
        "per": st.lists(st.sampled_from(["user", "plan", "session", "tag:a:b"]), unique=True),
        "window": st.sampled_from(["daily:06:30", "weekly:tue", "rolling:1h30m", "monthly:last@Asia/Kathmandu"]),
        "action": st.sampled_from(["block", "clamp", "throttle", "warn", "dry_run", "downgrade"]),
        "match": st.dictionaries(st.sampled_from(["model", "feature", "tag:x"]), names | st.lists(names, min_size=1)),
        "overage_only": st.booleans(),
        "public": st.booleans(),
        "on_backend_error": st.sampled_from([None, "open", "closed"]),
    },
)
cap_lists = st.dictionaries(names, fields, max_size=3).map(
    lambda caps: [{"id": id_} | cap for id_, cap in caps.items()]
)
price_lists = st.dictionaries(
    names, st.sampled_from([{"input": 0, "output": "0.5"}, {"request": 1}, {"free": True}]), max_size=2
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "timezone": st.sampled_from(["UTC", "Europe/Paris"]),
        "plans": st.dictionaries(
            names, st.fixed_dictionaries({"caps": cap_lists}, optional={"price": amounts, "prices": price_lists})
        ),
        "users": st.dictionaries(names, st.fixed_dictionaries({"caps": cap_lists}), max_size=2),
        "alerts": st.fixed_dictionaries({"thresholds": st.lists(st.integers(1, 10), unique=True)}),
    },
)


@settings(max_examples=150, deadline=None)
@given(documents)
def test_every_policy_survives_a_round_trip(document: dict[str, Any]) -> None:
    """dump and load are inverse, and the hash stays."""
    policy = load_policy(document)
    again = load_policy(json.loads(json.dumps(dump_policy(policy))))
    assert again == policy
    assert policy_hash(again) == policy_hash(policy)


def findings(document: dict[str, Any]) -> Sequence[Finding]:
    """What is wrong with a document; an error without findings fails the test."""
    try:
        load_policy(document)
    except PolicyError as error:
        return error.findings or pytest.fail("refused without a finding")
    return ()


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["clamp", "c", "usd"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "limit", "unit", "caps", "plan", "included", "match", "action"])
            | st.text(max_size=2),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(Policy.model_fields)), anything, max_size=6))
def test_nothing_but_findings(document: dict[str, Any]) -> None:
    """Whatever a document holds, it loads or is refused with findings that can be printed."""
    assert all(str(finding).isprintable() for finding in findings(document))


def cap(id_: str = "c", limit: int = 5, **more: Any) -> dict[str, Any]:
    return {"id": id_, "limit": limit} | more


ADVICE: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "nothing to say": ({"caps": [cap()]}, []),
    "a downgrade in front of a block": (
        {"plans": {"p": {"caps": [cap(action="downgrade", to="m")]}}, "caps": [cap("hard", 6)]},
        [],
    ),
    "a downgrade that blocks": ({"caps": [cap(action="downgrade", to="m", otherwise="block")]}, []),
    "a downgrade alone": (
        {"plans": {"p": {"caps": [cap(action="downgrade", to="m"), cap("low", 4)]}}},
        [("plans.p.caps[0] (c)", "nothing that blocks behind it")],
    ),
    "a downgrade to nothing": (
        {"caps": [cap(action="downgrade"), cap("hard", 9)]},
        [("caps[0] (c)", "knows no cheaper model")],
    ),
    "unpriced models pass": (
        {"caps": [cap()], "failure": {"unknown_model": "allow"}},
        [("failure.unknown_model", "pass every cap in usd")],
    ),
    "unpriced models are counted": (
        {"caps": [cap(unit="tokens")], "failure": {"unknown_model": "allow"}},
        [],
    ),
    "included without notice": (
        {"plans": {"p": {"included": {"amount": 5}, "caps": [cap()]}}},
        [("plans.p.included", "no cap takes notice")],
    ),
    "included with notice, grants without": (
        {"plans": {"p": {"included": {"amount": 5}, "caps": [cap(overage_only=True)]}}},
        [("plans.p.included", "no cap takes notice of grants")],
    ),
    "included and grants with notice": (
        {
            "plans": {"p": {"included": {"amount": 5}, "caps": [cap(overage_only=True)]}},
            "caps": [cap("d", ignore_grants=True)],
        },
        [],
    ),
    "a cap for a plan that is not": (
        {"plans": {"pro": {}}, "caps": [cap(match={"plan": ["pr*", "gold"]})]},
        [("caps[0] (c).match.plan", "'gold' matches no plan")],
    ),
    "caps that only tell": (
        {"plans": {"p": {"caps": [cap(action="warn"), cap("d", action="dry_run")]}}},
        [("plans.p", "nothing here ever refuses a call")],
    ),
    "caps that only tell everybody": ({"caps": [cap(action="warn")]}, [("caps", "only tell")]),
    "caps that tell before a block": ({"caps": [cap(action="warn"), cap("hard", 9)]}, []),
}


@pytest.mark.parametrize(("document", "expected"), ADVICE.values(), ids=ADVICE)
def test_advice(document: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """What is accepted and probably not meant is told, and nothing else."""
    given_advice = advice(load_policy(document))
    assert [finding.place for finding in given_advice] == [place for place, _ in expected]
    assert all(words in finding.found for finding, (_, words) in zip(given_advice, expected, strict=True))


def test_no_advice_on_the_example(example: Policy) -> None:
    """The example of the documentation is one to follow."""
    assert advice(example) == []
