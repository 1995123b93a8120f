"""Price lists from outside: what is believed of them, and how they come into force."""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capguard.pricing.book import bundled
from capguard.pricing.sources import Bundled, ListFile, litellm_source
from capguard.shelf import Report, Shelf

M = 1_000_000
DAY_MS = 86_400_000


class Source(ListFile):
    """A file of a test, whose stamp changes at every write however quick they are."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.writes = 0

    def write(self, **models: Any) -> None:
        self.text(json.dumps({"models": models}))

    def text(self, text: str) -> None:
        self.path.write_text(text)
        self.writes += 1

    def stamp(self) -> object:
        return self.writes if super().stamp() is not None else None


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "prices.json")


def rates(shelf: Shelf, model: str) -> tuple[int, int] | None:
    price = shelf.at(0).find(model)
    return None if price is None else (price.input, price.output)


OURS = {"input": "1", "output": "2"}
READ: list[tuple[str, dict[str, Any], tuple[int, int] | None, list[str]]] = [
    ("a new price", {"input": "1.5", "output": "2"}, (1_500_000, 2 * M), []),
    ("four times", {"input": "4", "output": "8"}, (4 * M, 8 * M), []),
    ("more than four times", {"input": "4.01", "output": "2"}, (M, 2 * M), ["changed much"]),
    ("a quarter", {"input": "0.25", "output": "2"}, (250_000, 2 * M), []),
    ("less than a quarter", {"input": "0.2499", "output": "2"}, (M, 2 * M), ["changed much"]),
    ("to zero", {"input": "1", "output": "0"}, (M, 2 * M), ["became free"]),
    ("cache read above input", {**OURS, "cache_read": "1.1"}, (M, 2 * M), ["is above the input"]),
]


@pytest.mark.parametrize(("row", "found", "doubts"), [each[1:] for each in READ], ids=[each[0] for each in READ])
def test_what_is_believed_of_an_update(source: Source, row, found, doubts):
    """What is not keeps the last price, and is told; everything else of the same list holds."""
    told: list[Report] = []
    source.write(m=OURS, other=OURS)
    shelf = Shelf(source, told.append)
    source.write(m=row, other={"input": "2", "output": "2"})
    assert shelf.refresh()
    assert rates(shelf, "m") == found
    assert rates(shelf, "other") == (2 * M, 2 * M)
    assert [doubt.what for report in told for doubt in report.doubts] == doubts
    assert [doubt.model for doubt in shelf.report.doubts] == ["m"] * len(doubts)


NEW = [
    ("beyond belief", {"input": "1", "output": "600.01"}, ["beyond belief"]),
    ("just believed", {"input": "1", "output": "600"}, []),
    ("free", {"input": "0", "output": "0"}, []),
]


@pytest.mark.parametrize(("row", "doubts"), [each[1:] for each in NEW], ids=[each[0] for each in NEW])
def test_what_is_believed_of_a_new_model(source: Source, row, doubts):
    """A price that is none, or beyond belief, leaves the model unknown: never free."""
    source.write(new=row)
    shelf = Shelf(source)
    assert [doubt.what for doubt in shelf.report.doubts] == doubts
    assert (rates(shelf, "new") is None) == (row["output"] != "600")


def test_a_price_that_is_meant(source: Source):
    """A file says which of its prices are right however odd they look."""
    cheap = {"gpt-4o": {"input": "0.1", "output": "0.1"}}
    source.text(json.dumps({"models": cheap}))
    assert rates(Shelf(source), "gpt-4o") == (2_500_000, 10 * M)
    source.text(json.dumps({"models": cheap, "meant": ["gpt-4o"]}))
    assert rates(Shelf(source), "gpt-4o") == (100_000, 100_000)


def test_a_doubted_price_keeps_the_last_one_of_the_file(source: Source):
    """Not that of the package."""
    source.text(json.dumps({"models": {"gpt-4o": {"input": "2", "output": "8"}}}))
    shelf = Shelf(source)
    source.text(json.dumps({"models": {"gpt-4o": {"input": "0", "output": "8"}}}))
    shelf.refresh()
    assert rates(shelf, "gpt-4o") == (2 * M, 8 * M)


def test_a_later_price_is_reviewed_too(source: Source):
    """A jump that is announced is still a jump."""
    source.write(m={**OURS, "from": {"2026-06-01": {"input": "9", "output": "2"}}})
    shelf = Shelf(source)
    assert [str(doubt) for doubt in shelf.report.doubts] == [
        "m: input changed much, from 1 to 9 USD per million tokens"
    ]
    assert rates(shelf, "m") is None


def test_a_list_that_shrank_is_refused_whole(source: Source, caplog: pytest.LogCaptureFixture):
    """Ten models, then eight: the list is not whole, and the last one stays. Nine are believed."""
    source.write(**{f"m{n}": OURS for n in range(10)})
    shelf = Shelf(source)
    source.write(**{f"m{n}": {"input": "2", "output": "2"} for n in range(8)})
    with caplog.at_level(logging.ERROR, "capguard"):
        assert not shelf.refresh()
    assert "8 models after 10" in caplog.text
    assert rates(shelf, "m0") == (M, 2 * M)
    source.write(**{f"m{n}": {"input": "2", "output": "2"} for n in range(9)})
    assert shelf.refresh()
    assert rates(shelf, "m0") == (2 * M, 2 * M)


BROKEN = {
    "half of a file": '{"models": {"m": {"inp',
    "no object": "[]",
    "a row that is none": '{"models": {"m": 5}}',
    "an unknown field": '{"models": {"m": {"inputs": 1}}}',
    "an unknown piece": '{"models": {"m": {"input": 1, "fees": {"gpu": 1}}}}',
    "an unknown feature": '{"models": {"m": {"input": 1, "features": ["magic"]}}}',
    "a negative price": '{"models": {"m": {"input": "-1"}}}',
    "a day that is none": '{"models": {"m": {"input": 1, "from": {"soon": {}}}}}',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_list_changes_nothing(source: Source, text: str):
    """A job that is writing it, or a mistake: the last list stays, once told; a first one is an error."""
    told: list[Report] = []
    source.write(m=OURS)
    shelf = Shelf(source, told.append)
    source.text(text)
    assert not shelf.refresh()
    assert not shelf.refresh()
    assert len(told) == 1
    assert str(source.path) in str(told[0].refused)
    assert rates(shelf, "m") == (M, 2 * M)
    with pytest.raises(ValueError, match=r"prices\.json"):
        Shelf(source)


def test_a_file_that_is_gone_for_a_moment(source: Source):
    """A job that replaces it: nothing happens until it is there again."""
    source.write(m=OURS)
    shelf = Shelf(source)
    source.path.unlink()
    assert not shelf.refresh()
    source.write(m={"input": "2", "output": "2"})
    assert shelf.refresh()


def test_books_are_immutable(source: Source):
    """Whoever holds the old book keeps the old prices; the new one is another object with another version."""
    source.write(m=OURS)
    shelf = Shelf(source)
    old = shelf.at(0)
    source.write(m={"input": "2", "output": "2"})
    shelf.refresh()
    assert old.find("m").input == M
    assert old.version != shelf.at(0).version
    assert shelf.at(0) is shelf.at(5)
    assert bundled().find("m") is None


def test_prices_change_on_their_day(source: Source):
    """By the time of the call, forward and back, without any file changing."""
    source.write(m={**OURS, "from": {"1970-01-03": {"input": "2", "output": "2"}}})
    shelf = Shelf(source)
    found = [shelf.at(ms).find("m").input for ms in (0, 2 * DAY_MS - 1, 2 * DAY_MS, 99 * DAY_MS, 0)]
    assert found == [M, M, 2 * M, 2 * M, M]


def test_everything_that_a_file_can_say(source: Source):
    """Fees, sizes, tiers of service, limits, features."""
    source.write(
        m={
            "input": "1", "output": "2", "cache_read": "0.1", "cache_write": "1.25", "audio_input": "10",
            "request": "0.01", "provider": "us", "mode": "chat", "max_output": 100,
            "features": ["vision"], "retires": "2030-01-01",
            "fees": {"searches": "0.01"}, "above": {"200000": {"input": "2", "output": "3"}},
            "priority": {"input": "3", "output": "4", "above": {"200000": {"input": "5", "output": "6"}}},
        }
    )  # fmt: skip
    price = Shelf(source).at(0).find("m")
    assert (price.rare, price.fees, price.request) == ({"audio_input": 10 * M}, {"searches": 10**10}, 10**10)
    sizes = [(each, price.applicable(size, each).input) for each in (None, "priority") for size in (9, 200_001)]
    assert sizes == [(None, M), (None, 2 * M), ("priority", 3 * M), ("priority", 5 * M)]
    assert (price.max_output, price.features, price.retires) == (100, {"vision"}, "2030-01-01")


def test_litellms_list_in_a_file(tmp_path: Path):
    """As a job would fetch it, gzipped or not; the models that LiteLLM has dropped are still known."""
    listed = {
        "m": {"litellm_provider": "x", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    }
    for name, data in (
        ("a.json", json.dumps(listed).encode()),
        ("b.json.gz", gzip.compress(json.dumps(listed).encode())),
    ):
        file = tmp_path / name
        file.write_bytes(data)
        shelf = Shelf(ListFile(file))
        assert rates(shelf, "m") == (M, 2 * M)
        assert rates(shelf, "claude-opus-4") == (15 * M, 75 * M)


def test_the_installed_litellm_is_read_and_not_imported():
    """Its list has models of all makers; the review keeps what the higher price of the package says."""
    code = (
        "import sys; from capguard.pricing.sources import litellm_source; from capguard.shelf import Shelf;"
        "shelf = Shelf(litellm_source(), lambda report: None); print(len(shelf.at(0)), 'litellm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    models, imported = done.stdout.split()
    assert int(models) > len(bundled())
    assert imported == "False"


def test_without_litellm(monkeypatch: pytest.MonkeyPatch):
    """Whoever asks for its list is told that it is not there."""
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(ValueError, match="litellm is not installed; allowed: bundled"):
        litellm_source()


def test_the_bundled_list_is_not_watched():
    """There is nothing to look at; no thread is started."""
    import threading

    shelf = Shelf()
    shelf.watch()
    assert isinstance(shelf.source, Bundled)
    assert not shelf.refresh()
    assert "capguard-prices" not in {thread.name for thread in threading.enumerate()}


def test_a_watched_list_ends_with_its_guard(source: Source, monkeypatch: pytest.MonkeyPatch):
    """The thread looks by itself, and keeps nothing alive."""
    import gc
    import threading
    import weakref

    monkeypatch.setattr("capguard.shelf.EVERY_S", 0.01)
    source.write(m=OURS)
    swapped = threading.Event()
    shelf = Shelf(source, lambda report: swapped.set())
    shelf.watch()
    thread = next(each for each in threading.enumerate() if each.name == "capguard-prices")
    source.write(m={"input": "0", "output": "2"})
    assert swapped.wait(30)
    gone = weakref.ref(shelf)
    del shelf
    gc.collect()
    thread.join(30)
    assert (gone(), thread.is_alive()) == (None, False)
