"""The files of the outbox: torn, damaged, foreign, full, of dead processes and of living ones."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capguard.backends.memory import MemoryBackend
from capguard.ledger.commands import Release, Settle
from capguard.resilience import letters
from capguard.resilience.letters import Letter, call_of
from capguard.resilience.slots import HEADER, orphans, own_slot
from capguard.testing.conformance.builders import cap, model, reserve, reserve_one_of
from capguard.testing.conformance.paying import allowance


def settle(id: str, usd: int = 5) -> Letter:
    return Letter(Settle(id, {"usd": usd}, {"flags": ["given"]}))


CALL = reserve_one_of("call", model("big", 7, cap("ten"), cap("roll", window="rolling:60s"), sources=(allowance(5),)))
LETTERS = (
    settle("r1"),
    Letter(Release("r2", 1000)),
    Letter(reserve("r3", 5, cap("ten", 10))),
    Letter(Settle("call", {"usd": 9}, {}), CALL),
    settle("ß {} \n\0 ☃"),
)


@pytest.mark.parametrize("letter", LETTERS, ids=lambda letter: type(letter.command).__name__)
def test_a_letter_is_read_as_it_was_written(letter: Letter) -> None:
    assert letters.read(letters.written(letter)) == letter


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"do":"Verify"}', '{"do":"Settle"}', '{"do":"Reserve"}'])
def test_what_is_no_letter_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        letters.read(text)


def test_what_is_written_is_there_for_the_next_process(tmp_path: Path) -> None:
    """In order, without those that were delivered."""
    slot = own_slot(tmp_path / "box")
    numbers = [slot.append(letter) for letter in LETTERS]
    slot.done(numbers[1])
    slot.close()
    again = own_slot(tmp_path / "box")
    assert list(again.waiting.values()) == [LETTERS[0], *LETTERS[2:]]
    again.append(settle("later"))
    again.close()
    assert [each.id for each in own_slot(tmp_path / "box").waiting.values()][-1] == "later"


def test_it_is_on_the_disk_when_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written, then flushed; a kill -9 alone would not show that the flush is missing."""
    slot, happened = own_slot(tmp_path), []
    fsync, pwrite = os.fsync, os.pwrite
    monkeypatch.setattr(os, "fsync", lambda fd: (happened.append("flushed"), fsync(fd)))
    monkeypatch.setattr(os, "pwrite", lambda *args: (happened.append("written"), pwrite(*args))[1])
    slot.append(settle("r1"))
    assert happened == ["written", "flushed"]


def test_a_file_whose_letters_are_all_delivered_is_empty(tmp_path: Path) -> None:
    slot = own_slot(tmp_path)
    for letter in LETTERS:
        slot.append(letter)
    for number in list(slot.waiting):
        slot.done(number)
    assert slot.path.read_bytes() == HEADER


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    slot = own_slot(tmp_path / "box")
    slot.append(settle("r1"))
    assert stat.S_IMODE(slot.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(slot.path.parent.stat().st_mode) == 0o700


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "slot-0.outbox").symlink_to(target)
    with pytest.raises(OSError):
        own_slot(tmp_path)
    assert not target.exists()


def test_torn_at_every_byte(tmp_path: Path) -> None:
    """Killed while it wrote, wherever that was: what was whole before counts, the rest is put aside, and the next
    letter is not spoiled by it."""
    slot = own_slot(tmp_path)
    slot.append(settle("whole"))
    before = slot.path.stat().st_size
    slot.append(settle("torn"))
    whole = slot.path.read_bytes()
    slot.close()
    for size in range(before, len(whole)):
        slot.path.write_bytes(whole[:size])
        again = own_slot(tmp_path)
        assert [each.id for each in again.waiting.values()] == ["whole"]
        again.append(settle("next"))
        again.close()
        third = own_slot(tmp_path)
        assert [each.id for each in third.waiting.values()] == ["whole", "next"]
        third.close()


@settings(deadline=None)
@given(st.integers(len(HEADER), 400), st.integers(1, 255))
def test_a_damaged_byte_costs_one_letter_at_most(
    tmp_path_factory: pytest.TempPathFactory, place: int, bits: int
) -> None:
    """Whichever byte it is, no letter is read as another one."""
    folder = tmp_path_factory.mktemp("box")
    slot = own_slot(folder)
    for name in ("a", "b", "c", "d"):
        slot.append(settle(name))
    slot.close()
    data = bytearray(slot.path.read_bytes())
    data[min(place, len(data) - 1)] ^= bits
    slot.path.write_bytes(data)
    again = own_slot(folder)
    found = list(again.waiting.values())
    again.close()
    assert all(each in [settle(name) for name in ("a", "b", "c", "d")] for each in found)
    assert len(found) >= 2
    assert len(found) == 4 or (folder / "slot-0.bad").exists()


@pytest.mark.parametrize("content", [b"somebody else's file\n", b"{}", b"\0" * 100, HEADER[:-1]])
def test_a_foreign_file_is_left_alone(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "slot-0.outbox").write_bytes(content)
    slot = own_slot(tmp_path)
    assert slot.path.name == "slot-1.outbox"
    assert (tmp_path / "slot-0.outbox").read_bytes() == content
    assert "no outbox of capguard" in caplog.text
    assert list(orphans(tmp_path)) == []


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """The kernel refuses in the middle of a line: what was there stays readable, and room makes it writable again."""
    slot = own_slot(tmp_path)
    slot.append(settle("before"))
    size = slot.path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        with pytest.raises(OSError):
            slot.append(settle("refused"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert slot.path.stat().st_size == size
    slot.append(settle("after"))
    slot.close()
    assert [each.id for each in own_slot(tmp_path).waiting.values()] == ["before", "after"]


HOLDER = """
import sys, time
from pathlib import Path
from capguard.ledger.commands import Settle
from capguard.resilience.letters import Letter
from capguard.resilience.slots import own_slot
slot = own_slot(Path(sys.argv[1]))
slot.append(Letter(Settle(sys.argv[2], {"usd": 1}, {})))
print(slot.path.name, flush=True)
time.sleep(60)
"""


def holder(folder: Path, id: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), id], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_each_living_process_has_its_own_and_the_dead_ones_are_taken_over(tmp_path: Path) -> None:
    one, first = holder(tmp_path, "one")
    two, second = holder(tmp_path, "two")
    try:
        assert (first, second) == ("slot-0.outbox", "slot-1.outbox")
        assert list(orphans(tmp_path)) == []
        two.kill()
        two.wait()
        left = list(orphans(tmp_path))
        assert [[each.id for each in slot.waiting.values()] for slot in left] == [["two"]]
        assert list(orphans(tmp_path)) == []  # locked by whoever delivers it
        left[0].close()
        one.kill()
        one.wait()
        mine = own_slot(tmp_path)
        assert (mine.path.name, [each.id for each in mine.waiting.values()]) == ("slot-0.outbox", ["one"])
    finally:
        for process in (one, two):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    os.chown(tmp_path / "box", 12345, 12345)
    with pytest.raises(PermissionError, match="another user"):
        own_slot(tmp_path / "box")


def test_a_record_of_the_ledger_becomes_a_call_that_can_be_booked_again() -> None:
    held = MemoryBackend().execute(CALL)
    call = call_of(held.record)  # type: ignore[union-attr]
    assert letters.read(letters.written(Letter(Settle("call", {"usd": 9}, {}), call))).call == call
    assert (call.id, call.candidates[0].legs, call.candidates[0].sources) == (
        "call", CALL.candidates[0].legs, CALL.candidates[0].sources,
    )  # fmt: skip
