"""Exit codes and error lines: 0 fine, 1 no, 2 bad input, 3 unavailable; one line on stderr, never a traceback."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import capguard

from .conftest import Run

FINE = {
    "version": "--version",
    "help": "--help",
    "status": "status rich --url {url} --policy {policy}",
    "not spent": "status rich --plan pro --url {url} --policy {policy} --check",
    "entries": "entries --url {url}",
    "verify": "verify --url {url}",
    "policy": "policy check {policy}",
}
NO = {
    "spent": "status spent --url {url} --policy {policy} --check",
    "refused": "policy check {bad}",
    "refused for its syntax": "policy check {broken}",
}
BAD_INPUT = {
    "no such command": ("frobnicate", "No such command"),
    "no such option": ("verify --frobnicate", "No such option"),
    "no policy": ("status rich --url {url}", "--policy"),
    "policy that is refused": ("status rich --url {url} --policy {bad}", "caps"),
    "policy that is not there": ("status rich --url {url} --policy {nowhere}.toml", "No such file"),
    "file to check not there": ("policy check {nowhere}.toml", "no such file"),
    "no ledger": ("verify --url sqlite:///{nowhere}", "no such ledger"),
    "no ledger for entries": ("entries --url sqlite:///{nowhere}", "no such ledger"),
    "no ledger for status": ("status rich --policy {policy} --url sqlite:///{nowhere}", "no such ledger"),
    "a folder": ("verify --url sqlite:///{folder}", "no such ledger"),
    "memory": ("verify --url memory://", "its own process"),
    "no such scheme": ("verify --url gopher://here", "gopher"),
    "no time": ("entries --url {url} --since yesterday", "ISO 8601"),
    "no zone": ("entries --url {url} --since 2026-01-01T00:00", "zone"),
    "no kind": ("entries --url {url} --kind guess", "kind"),
    "no entries wanted": ("entries --url {url} --limit 0", "limit"),
    "no such name": ("status {control} --url {url} --policy {policy}", "U+0007"),
    "demo over a file": ("demo --keep {policy}", "there already"),
    "demo of too few users": ("demo --users 1", "users"),
}


@pytest.fixture
def words(tmp_path: Path, ledger: str, policy: Path) -> dict[str, object]:
    bad, broken = tmp_path / "bad.toml", tmp_path / "broken.toml"
    bad.write_text('[[caps]]\nid = "a"\nlimit = -1\n[[caps]]\nid = "b"\nlimit = 1\nwindow = "never"\n')
    broken.write_text("caps = [")
    return {
        "url": ledger,
        "policy": policy,
        "bad": bad,
        "broken": broken,
        "nowhere": tmp_path / "nowhere",
        "folder": tmp_path,
        "control": "\a",
    }


def said(line: str, words: dict[str, object]) -> list[str]:
    return [word.format(**words) for word in line.split(" ")]


@pytest.mark.parametrize("line", FINE.values(), ids=FINE)
def test_fine(run: Run, words: dict[str, object], line: str) -> None:
    """What can be answered is answered with 0, and nothing on stderr."""
    result = run(*said(line, words))
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("line", NO.values(), ids=NO)
def test_no(run: Run, words: dict[str, object], line: str) -> None:
    """An answer that is no ends with 1: it stands on stdout, nothing went wrong."""
    result = run(*said(line, words))
    assert (result.exit_code, result.stderr) == (1, "")


@pytest.mark.parametrize(("line", "why"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input(run: Run, words: dict[str, object], line: str, why: str) -> None:
    """Bad input ends with 2 and says on stderr what was wrong."""
    result = run(*said(line, words))
    assert result.exit_code == 2
    assert why in result.stderr
    assert result.stdout == ""


def test_own_errors_are_one_line(run: Run, words: dict[str, object]) -> None:
    """An error of capguard is one line; of many findings it shows the first and where to see the rest."""
    result = run(*said("status rich --url {url} --policy {bad}", words))
    assert len(result.stderr.splitlines()) == 1
    assert "1 more: capguard policy check" in result.stderr


@pytest.mark.parametrize("command", ["verify", "entries", "status u --policy {policy}"])
def test_unavailable(run: Run, words: dict[str, object], tmp_path: Path, command: str) -> None:
    """A backend that cannot serve ends with 3."""
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE theirs (x)")
    result = run(*said(command, words), "--url", f"sqlite:///{tmp_path / 'other.db'}")
    assert result.exit_code == 3
    assert "another program" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_looking_creates_nothing(run: Run, tmp_path: Path) -> None:
    """A mistyped path stays a path without a file."""
    run("verify", "--url", f"sqlite:///{tmp_path / 'typo.db'}")
    assert list(tmp_path.iterdir()) == []


def test_disabled(run: Run, ledger: str) -> None:
    """Switched off, the books look empty; the command line says so rather than "0 differences"."""
    result = run("verify", "--url", ledger, CAPGUARD_DISABLED="1")
    assert result.exit_code == 2
    assert "CAPGUARD_DISABLED" in result.stderr


def test_environment(run: Run, ledger: str, policy: Path) -> None:
    """CAPGUARD_URL and CAPGUARD_POLICY stand in for the options."""
    assert run("status", "rich", CAPGUARD_URL=ledger, CAPGUARD_POLICY=str(policy)).exit_code == 0


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"{capguard.__version__}\n"


@pytest.mark.parametrize("absent", ["typer", "rich"])
def test_missing_extra(absent: str) -> None:
    """Without the extra the command says in one line what to install."""
    code = f"import sys; sys.modules[{absent!r}] = None; from capguard.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    told = "capguard: the command line needs an extra that is not installed: pip install 'capguard[cli]'\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", told)


def test_demo_missing_extra() -> None:
    """The small commands work without the demo's packages; the demo says what to install."""
    hide = "import sys; sys.argv = ['capguard', 'demo']; sys.modules['openai'] = None"
    code = f"{hide}; from capguard.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    told = "capguard: the demo needs an extra that is not installed: pip install 'capguard[demo]'\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", told)


def test_light() -> None:
    """Importing the package of the command line imports no typer, and its app none of the demo's packages."""
    code = (
        "import sys; import capguard.cli; assert 'typer' not in sys.modules; import capguard.cli.app;"
        "assert not {'openai', 'starlette', 'uvicorn', 'litellm', 'tiktoken'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
