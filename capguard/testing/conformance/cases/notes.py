"""Notes: what processes tell each other beside the books."""

from __future__ import annotations

from capguard.ledger.commands import NOTES, Share, Verify
from capguard.testing.conformance.script import case, wait


def share(writer: str, said: object, topic: str = "news") -> Share:
    return Share(topic, writer, {"said": said})


def said_before(number: int) -> str:
    return " ".join(["notes", *map(str, reversed(range(number)))])


CASES = (
    case(
        "a writer reads what the others have said last, the newest first",
        (share("a", "one"), "notes"),
        wait(1),
        (share("b", "two"), "notes one"),
        wait(1),
        (share("a", "three"), "notes two"),
        wait(1),
        (share("c", "four"), "notes three two"),
        (Verify(), "verified 0 entries, 0 meters, 0 open"),
        ends={},
    ),
    case(
        "topics and names are kept apart, whatever stands in them",
        (share("a", "{} \n 1"), "notes"),
        (share("b", "x", topic="other:news"), "notes"),
        (share("ß ☃", "ü"), "notes {} \n 1"),
        ends={},
    ),
    case(
        "a note of a week ago is gone",
        (share("a", "old"), "notes"),
        wait(7 * 24 * 3600),
        (share("b", "new"), "notes"),
        ends={},
    ),
    case(
        "the newest notes are kept, so many",
        *(step for number in range(NOTES) for step in (wait(1), (share(f"w{number}", number), said_before(number)))),
        wait(1),
        (share("last", "x"), "notes " + " ".join(str(number) for number in reversed(range(1, NOTES)))),
        ends={},
    ),
)
