"""Files of letters on this host: one for each process that needs one, taken over by the next when it has died.

A line is the CRC-32 of the rest in 8 hex digits, a space, and JSON: a letter under its number, or the number of one
that the backend has. A letter is on the disk when `append` returns.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

from capguard.resilience import letters
from capguard.resilience.letters import Letter

try:
    import fcntl
except ImportError:  # Windows: no lock that ends with its process, so no file that another one may take over
    fcntl = None  # type: ignore[assignment]

_HAS_LOCKS = fcntl is not None

log = logging.getLogger("capguard")

HEADER = b"capguard outbox 1\n"
MOST = 4096
"""Files in one folder: as many processes as were ever away at once."""


class Slot:
    """One file, which no other process has while this one lives. `waiting` are its letters without an answer."""

    def __init__(self, path: Path, fd: int):
        self.path, self._fd = path, fd
        self.waiting: dict[int, Letter] = {}
        self._size = self._read()
        self._last = max(self.waiting, default=0)

    def append(self, letter: Letter) -> int:
        """Write a letter down and wait for the disk. Its number. Raises OSError; the file is then as it was."""
        number = self._last + 1
        self._write({"n": number, "letter": letters.written(letter)}, sync=True)
        self._last = number
        self.waiting[number] = letter
        return number

    def done(self, number: int) -> None:
        """The backend has this letter. Should that be forgotten, it is told again, which changes nothing."""
        if self.waiting.pop(number, None) is None:
            return
        if self.waiting:
            self._write({"done": number}, sync=False)
        else:
            os.ftruncate(self._fd, len(HEADER))
            self._size = len(HEADER)

    def close(self) -> None:
        os.close(self._fd)

    def _write(self, fields: dict[str, Any], *, sync: bool) -> None:
        line = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        line = b"%08x %b\n" % (crc32(line), line)
        try:
            _write_all(self._fd, line, self._size)
            if sync:
                os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)

    def _read(self) -> int:
        """Take in what is there. Lines that are torn or damaged are put aside, and the rest counts."""
        data = _read_all(self._fd)
        if not data:
            _write_all(self._fd, HEADER, 0)
            os.fsync(self._fd)
            _sync_folder(self.path.parent)
            return len(HEADER)
        if not data.startswith(HEADER):
            raise ForeignFile(f"{self.path} is no outbox of capguard")
        whole, _, torn = data.rpartition(b"\n")
        bad = [torn] if torn else []
        for line in whole.split(b"\n")[1:]:
            try:
                self._take_in(line)
            except ValueError:
                bad.append(line)
        if bad:
            self._put_aside(bad)
        os.ftruncate(self._fd, len(whole) + 1)
        return len(whole) + 1

    def _take_in(self, line: bytes) -> None:
        if len(line) < 10 or int(line[:8], 16) != crc32(line[9:]):
            raise ValueError("damaged")
        fields = json.loads(line[9:])
        if "done" in fields:
            self.waiting.pop(fields["done"], None)
        else:
            self.waiting[fields["n"]] = letters.read(fields["letter"])

    def _put_aside(self, bad: list[bytes]) -> None:
        aside = self.path.with_suffix(".bad")
        put_aside(aside, bad)
        log.error("capguard: %d lines of %s are torn or damaged; they are kept in %s", len(bad), self.path, aside)


def put_aside(path: Path, lines: list[bytes]) -> None:
    """Keep what cannot be used for somebody to look at. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, b"\n".join(lines) + b"\n")
    finally:
        os.close(fd)


class ForeignFile(OSError):
    """A file in the folder of the outbox that capguard did not write. It is left alone."""


def own_slot(folder: Path) -> Slot:
    """A file for this process: the first that no living process has, with what a dead one left in it.

    Raises OSError where the folder cannot be written, or belongs to somebody else.
    """
    if not _HAS_LOCKS:
        raise OSError("this system has no flock: nothing can be kept on its disk for a backend that is away")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.lstat(folder).st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user")
    for number in range(MOST):
        try:
            slot = _taken(folder / f"slot-{number}.outbox", create=True)
        except ForeignFile as error:
            log.warning("capguard: %s; it is left alone", error)
            continue
        if slot is not None:
            return slot
    raise OSError(f"{folder}: {MOST} processes have an outbox here already")


def orphans(folder: Path) -> Iterator[Slot]:
    """The files that dead processes have left letters in, one by one, each locked while it is held."""
    if not _HAS_LOCKS:
        return
    for path in sorted(folder.glob("slot-*.outbox")):
        try:
            slot = _taken(path, create=False) if path.stat().st_size > len(HEADER) else None
        except OSError as error:
            log.warning("capguard: %s", error)
            continue
        if slot is not None:
            yield slot


def _taken(path: Path, *, create: bool) -> Slot | None:
    """The file with its lock; None where another process has it."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    fd = os.open(path, flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Slot(path, fd)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise


def _write_all(fd: int, data: bytes, at: int) -> None:
    while data:
        count = os.pwrite(fd, data, at)
        data, at = data[count:], at + count


def _read_all(fd: int) -> bytes:
    parts, at = [], 0
    while part := os.pread(fd, 1 << 20, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
