"""`--namespace` and CAPGUARD_NAMESPACE: the books of one product in a ledger that several share."""

from __future__ import annotations

from pathlib import Path

import pytest

from capguard import Guard

from .conftest import Run
from .test_docs import COMMANDS

OWN_LEDGER = {
    "capguard demo", "capguard policy check", "capguard downgrades", "capguard estimate", "capguard prices check",
    "capguard prices show", "capguard warm",
}  # fmt: skip
"""These open no ledger of the caller's."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'live.db'}"


@pytest.fixture
def shop(run: Run, url: str, policy: Path) -> str:
    """A published policy and one call in the namespace `shop`, nothing anywhere else."""
    assert run("policy", "push", policy, "--url", url, "--namespace", "shop").exit_code == 0
    with Guard(url, namespace="shop") as guard:
        guard.allow(user="ann", cost="0.5")
    return url


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - OWN_LEDGER))
def test_every_command_takes_it(name: str) -> None:
    """Also from the environment."""
    (option,) = [each for each in COMMANDS[name].params if "--namespace" in each.opts]
    assert option.envvar == "CAPGUARD_NAMESPACE"


LINES = {
    "status ann --json": '"settled": "0.5"',
    "caps --json": '"monthly"',
    "entries --json": '"book"',
    "log --json": '"threshold"',
    "report --json": '"cost": "0.5"',
    "verify --json": '"ok": true',
    "policy show --json": '"monthly"',
    "policy history --json": '"revision": 1',
    "policy diff 1 --json": "[]",
    "override ann monthly --limit 2 --json": '"monthly"',
    "grant ann 2 --id g --json": '"g"',
    "assign ann pro --json": '"pro"',
}


@pytest.mark.parametrize(("line", "shown"), LINES.items(), ids=LINES)
def test_whose_books(run: Run, shop: str, tmp_path: Path, line: str, shown: str) -> None:
    """It is the product's ledger that is read and steered; the others do not begin to exist."""
    words = (*line.split(" "), "--url", shop)
    result = run(*words, "--namespace", "shop")
    assert (result.exit_code, result.stderr) == (0, "")
    assert shown in result.stdout
    for other in ((), ("--namespace", "office")):
        result = run(*words, *other)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "no such ledger" in result.stderr
    assert {file.name for file in tmp_path.glob("*.db")} == {"live.shop.db"}


def test_environment(run: Run, shop: str) -> None:
    """The option goes before the variable."""
    assert run("verify", "--url", shop, CAPGUARD_NAMESPACE="shop").exit_code == 0
    assert run("verify", "--url", shop, "--namespace", "shop", CAPGUARD_NAMESPACE="office").exit_code == 0
    assert run("verify", "--url", shop, "--namespace", "office", CAPGUARD_NAMESPACE="shop").exit_code == 2


def test_a_name_that_is_none(run: Run, shop: str, policy: Path) -> None:
    for line in (("verify",), ("policy", "push", policy)):
        result = run(*line, "--url", shop, "--namespace", "../x")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "namespace: '../x'" in result.stderr


@pytest.mark.parametrize("named", [None, "", "shop"])
def test_a_guard_from_the_environment(monkeypatch: pytest.MonkeyPatch, shop: str, policy: Path, named: str) -> None:
    """Guard.from_env takes it too; empty is as if it were not there."""
    monkeypatch.setenv("CAPGUARD_URL", shop)
    monkeypatch.setenv("CAPGUARD_POLICY", str(policy))
    if named is not None:
        monkeypatch.setenv("CAPGUARD_NAMESPACE", named)
    with Guard.from_env() as guard:
        assert guard.status(user="ann").caps["monthly"].settled == (0.5 if named else 0)
