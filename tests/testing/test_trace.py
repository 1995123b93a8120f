"""The trace that ships with capguard, and the users drawn for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from capguard.testing import trace
from capguard.testing.trace import Request, load_trace, users


def test_the_trace_is_the_first_3000_requests_of_the_published_one():
    """Counts and totals as in the source; time only moves forward."""
    requests = load_trace()
    assert (len(requests), requests[0], requests[-1]) == (3000, Request(0.0, 374, 44), Request(628.703, 181, 105))
    assert (sum(r.input_tokens for r in requests), sum(r.output_tokens for r in requests)) == (3450308, 778247)
    arrivals = [request.arrival_s for request in requests]
    assert arrivals == sorted(arrivals)


@pytest.mark.parametrize("limit", [0, 1, 2999, 3000, 5000])
def test_a_limit_takes_the_first_requests(limit: int):
    assert load_trace(limit) == load_trace()[:limit]


def test_the_data_of_the_wheel_comes_before_that_of_the_repository(monkeypatch, tmp_path: Path):
    """Installed, the file lies in the package; in a checkout, in the examples; nowhere is said plainly."""
    package = tmp_path / "capguard" / "testing"
    monkeypatch.setattr(trace, "files", lambda _: package)
    monkeypatch.setattr(trace, "__file__", str(package / "trace.py"))
    installed, checkout = (place / "data" / "azure_conv_slice.csv" for place in (package, tmp_path / "examples"))
    for place, line in ((installed, "0.500,7,3"), (checkout, "0.250,8,4")):
        place.parent.mkdir(parents=True)
        place.write_text(f"arrival_s,input_tokens,output_tokens\n{line}\n")
    assert load_trace() == [Request(0.5, 7, 3)]
    installed.unlink()
    assert load_trace() == [Request(0.25, 8, 4)]
    checkout.unlink()
    with pytest.raises(FileNotFoundError, match="not installed"):
        load_trace()


def test_few_users_make_most_of_the_traffic():
    """Zipf with exponent 1.1 over 200 users: the first has 1/4 to 1/5, and twice the second."""
    drawn = users(7, 200, range(3000))
    counts = Counter(drawn)
    assert set(drawn) <= set(range(200))
    assert [user for user, _ in counts.most_common(3)] == [0, 1, 2]
    assert 600 <= counts[0] <= 750
    assert 1.8 <= counts[0] / counts[1] <= 2.6


def test_the_draw_follows_its_seed():
    assert users(1, 50, range(100)) == users(1, 50, range(100)) != users(2, 50, range(100))
    assert users(1, 1, range(3)) == [0, 0, 0]
    assert users(1, 5, []) == []


@pytest.mark.parametrize(
    ("call", "says"),
    [(lambda: load_trace(-1), "limit: -1 is refused"), (lambda: users(1, 0, []), "count: 0 is refused")],
)
def test_wrong_arguments_are_refused(call, says: str):
    with pytest.raises(ValueError, match=says):
        call()
