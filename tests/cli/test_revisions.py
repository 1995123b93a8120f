"""`capguard policy push`, `show`, `diff`, `history`, on a real SQLite file."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest

from capguard import Guard
from capguard.backends.base import system_clock
from capguard.ledger.commands import Publish
from capguard.plugins.manager import open_backend
from capguard.policy.load import load_policy

from .conftest import Run

DEARER = '[downgrade]\n"gpt-4o-mini" = "gpt-4o"\n'


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'live.db'}"


@pytest.fixture
def changed(policy: Path) -> Path:
    """The policy with one limit raised."""
    file = policy.with_name("changed.toml")
    file.write_text(policy.read_text().replace("limit = 9", "limit = 12"))
    return file


def test_push_is_live(run: Run, url: str, policy: Path, changed: Path) -> None:
    """The first push begins the ledger; a running process has the second at its next call."""
    assert run("policy", "push", policy, "--url", url).stdout == "revision 1 is in force\n"
    with Guard(url) as guard:
        assert guard.status(user="u", plan="pro").caps["hard"].limit == 9
        told = json.loads(run("policy", "push", changed, "--base", 1, "--url", url, "--json").stdout)
        assert told == {"revision": 2, "hash": guard.history()[1].hash}
        assert guard.status(user="u", plan="pro").caps["hard"].limit == 12


def test_push_again_is_no_new_revision(run: Run, url: str, policy: Path) -> None:
    for _ in range(2):
        assert run("policy", "push", policy, "--url", url).stdout == "revision 1 is in force\n"


def test_push_over_one_that_is_not_accepted_any_more(run: Run, url: str, policy: Path) -> None:
    """An older capguard published what this one refuses: that is when somebody has to push another."""
    backend = open_backend(url, namespace="default", clock=system_clock)
    backend.execute(Publish({"caps": [{"id": "m", "limit": 1, "window": "fortnightly"}]}, None))
    backend.close()
    assert run("policy", "push", policy, "--url", url).stdout == "revision 2 is in force\n"


def test_push_over_another_revision(run: Run, url: str, policy: Path, changed: Path) -> None:
    """Against an old revision nothing changes, and the answer is no."""
    run("policy", "push", policy, "--base", 0, "--url", url)
    run("policy", "push", changed, "--url", url)
    result = run("policy", "push", policy, "--base", 1, "--url", url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "revision 2" in result.stderr
    with Guard(url) as guard:
        assert len(guard.history()) == 2


@pytest.mark.parametrize(
    ("text", "place"), [('[[caps]]\nid = "a"\nlimit = -1\n', "caps[0] (a).limit"), (DEARER, "downgrade.gpt-4o-mini")]
)
def test_refused(run: Run, url: str, tmp_path: Path, text: str, place: str) -> None:
    """What `check` refuses cannot be pushed; both list the findings and end with 1. No ledger is begun for it."""
    file = tmp_path / "bad.toml"
    file.write_text(text)
    for words in (("check", file), ("push", file, "--url", url)):
        result = run("policy", *words, "--json")
        assert result.exit_code == 1
        assert [finding["place"] for finding in json.loads(result.stdout)["findings"]] == [place]
    assert not (tmp_path / "live.db").exists()


def test_backfill(run: Run, url: str, policy: Path) -> None:
    """A new cap begins with what the journal says of its period; without the option at nothing."""
    run("policy", "push", policy, "--url", url)
    with Guard(url) as guard:
        guard.allow(user="ann", cost="0.5")
        for name, options in (("plain", ()), ("filled", ("--backfill",))):
            policy.write_text(f'{policy.read_text()}\n[[caps]]\nid = "{name}"\nlimit = 7\nwindow = "lifetime"\n')
            told = json.loads(run("policy", "push", policy, "--url", url, "--json", *options).stdout)
        assert told["revision"] == 3
        settled = {cap.id: cap.settled for cap in guard.status(user="ann").caps}
        assert (settled["plain"], settled["filled"]) == (0, 0.5)
        assert guard.verify()


def test_backfill_of_a_first_policy(run: Run, ledger: str, policy: Path) -> None:
    """A ledger that was kept by a file, and goes live: caps that the file did not have begin with what was booked."""
    policy.write_text(f'{policy.read_text()}\n[[caps]]\nid = "ever"\nlimit = 7\nwindow = "lifetime"\n')
    assert run("policy", "push", policy, "--backfill", "--base", 0, "--url", ledger).exit_code == 0
    with Guard(ledger) as guard:
        assert guard.status(user="rich", plan="pro").caps["ever"].settled == 2
        assert guard.status(user="rich", plan="pro").caps["hard"].settled == 2
        assert guard.verify()


def test_show_can_be_pushed(run: Run, url: str, policy: Path, changed: Path) -> None:
    """What is shown is a policy's file: the one in force, or an earlier revision."""
    run("policy", "push", policy, "--url", url, "--by", "ann", "--why", "the first")
    run("policy", "push", changed, "--url", url)
    for words, source in (((), changed), (("--revision", 1), policy)):
        shown = run("policy", "show", *words, "--url", url).stdout
        file = policy.with_name("shown.toml")
        file.write_text(shown)
        assert load_policy(file) == load_policy(source)
    assert shown.splitlines()[0].endswith(" UTC by ann: the first")
    told = json.loads(run("policy", "show", "--revision", 1, "--url", url, "--json").stdout)
    assert (told["revision"], told["by"], told["why"]) == (1, "ann", "the first")
    assert load_policy(told["policy"]) == load_policy(policy)


def test_diff(run: Run, url: str, policy: Path, changed: Path) -> None:
    """What a push of a file or of an old revision would change; between two, what changes from one to the other."""
    change, back = "~ plans.pro.caps.hard.limit: 9 -> 12\n", "~ plans.pro.caps.hard.limit: 12 -> 9\n"
    run("policy", "push", policy, "--url", url)
    assert run("policy", "diff", policy, "--url", url).stdout == "no differences\n"
    assert run("policy", "diff", changed, "--url", url).stdout == change
    run("policy", "push", changed, "--url", url)
    assert run("policy", "diff", "1", "--url", url).stdout == back
    assert run("policy", "diff", "1", "2", "--url", url).stdout == change
    assert run("policy", "diff", changed, policy, "--url", url).stdout == back
    assert json.loads(run("policy", "diff", "1", "2", "--url", url, "--json").stdout) == [
        {"place": "plans.pro.caps.hard.limit", "before": "9", "after": "12"}
    ]


def test_diff_where_none_is_published(run: Run, ledger: str, policy: Path) -> None:
    """A first push brings everything."""
    places = [each["place"] for each in json.loads(run("policy", "diff", policy, "--url", ledger, "--json").stdout)]
    assert places == ["default_plan", "plans.free", "plans.pro", "caps.calls"]


def test_history(run: Run, url: str, policy: Path, changed: Path) -> None:
    """Who, when and why; without --by it is the user of the operating system."""
    run("policy", "push", policy, "--url", url)
    run("policy", "push", changed, "--url", url, "--by", "[red]eve", "--why", "more for pro")
    told = json.loads(run("policy", "history", "--url", url, "--json").stdout)
    assert [(each["revision"], each["by"], each["why"]) for each in told] == [
        (1, getpass.getuser(), None),
        (2, "[red]eve", "more for pro"),
    ]
    assert "[red]eve" in run("policy", "history", "--url", url).stdout


def test_history_of_none(run: Run, ledger: str) -> None:
    assert run("policy", "history", "--url", ledger).stdout == "no policy was published\n"


BAD_INPUT = {
    "no such file": ("push {nowhere}.toml --url {url}", "no such file"),
    "memory": ("push {policy} --url memory://", "its own process"),
    "nothing to show": ("show --url {ledger}", "no policy is published"),
    "no such revision": ("diff 7 --url {ledger}", "revision 7"),
    "no such file to compare": ("diff {nowhere} --url {ledger}", "no such file"),
    "no ledger": ("history --url {url}", "no such ledger"),
}


@pytest.mark.parametrize(("line", "why"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input(run: Run, ledger: str, url: str, policy: Path, tmp_path: Path, line: str, why: str) -> None:
    words = {"ledger": ledger, "url": url, "policy": policy, "nowhere": tmp_path / "nowhere"}
    result = run("policy", *(word.format(**words) for word in line.split(" ")))
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr


def test_push_while_switched_off(run: Run, url: str, policy: Path) -> None:
    """CAPGUARD_DISABLED would throw the policy away in silence."""
    result = run("policy", "push", policy, "--url", url, CAPGUARD_DISABLED="1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "CAPGUARD_DISABLED" in result.stderr
