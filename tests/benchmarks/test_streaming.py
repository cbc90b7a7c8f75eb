"""The benchmark of streams: who takes part, and what is told of the pairs."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.rig.ours import Spiritsafe
from benchmarks.rig.servers import Contestant
from benchmarks.streaming import Plan, who_can
from benchmarks.streaming import summary as summary_of


def run(p50_ms: float | None, p99_ms: float | None, **other: Any) -> dict[str, Any]:
    """Return what one run of the load generator and its accounting say."""
    figures = {"p50_ms": p50_ms, "p99_ms": p99_ms, "timed": 10, "most_under_way": 5, "errors": 0, "fewest_chunks": 100}
    return figures | {"cpu_s": 1.0, "chunks": 1000, "client_cpu_s": 1.0, "wall_s": 4.0} | other


def test_so_many_streams_are_under_way() -> None:
    """Little's law: the rate times how long a stream lasts."""
    plan = Plan(first_ms=200.0, gap_ms=40.0)
    assert plan.stream_s == pytest.approx(4.28)
    assert plan.rate(500) * plan.stream_s == pytest.approx(500)


def test_a_peer_that_would_only_queue_is_left_out_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """So is one whose streams fail. Ours is shown, be it with its queue."""
    running = [Contestant(name, "", "") for name in ("quick", "slow", "broken")]
    running.append(Spiritsafe("ours", "", ""))
    costs: dict[str, float | str] = {"quick": 0.002, "slow": 0.1, "broken": "its streams fail: 500", "ours": 0.1}
    able, left_out = who_can(running, costs, 100.0, 0.9)
    assert [contestant.name for contestant in able] == ["quick", "ours"]
    assert left_out["slow"] == "100.0 ms of CPU a stream: 100 streams a second would need 10.0 cores"
    assert left_out["broken"] == "its streams fail: 500"
    assert "slow is left out" in capsys.readouterr().out


def test_what_is_added_is_the_median_of_the_pairs() -> None:
    """Not the difference of the medians, which a drift between the rounds would spoil."""
    ours = [run(201.5, 210.0), run(206.4, 215.0), run(211.6, 240.0)]
    nginx = [run(201.0, 206.0), run(206.0, 211.0), run(211.0, 216.0)]
    row = summary_of(ours, nginx)
    assert row["added"]["p50_ms"] == {"pairs": [0.5, 0.4, 0.6], "median": 0.5}
    assert row["added"]["p99_ms"] == {"pairs": [4.0, 4.0, 24.0], "median": 4.0}
    assert row["cpu_us_per_chunk"] == 1000.0


def test_a_run_without_answers_spoils_nothing() -> None:
    """It is no pair; its errors are counted."""
    row = summary_of([run(None, None, errors=7, chunks=0), run(201.0, 202.0)], [run(200.0, 201.0), run(200.0, 201.0)])
    assert row["added"]["p50_ms"]["pairs"] == [1.0]
    assert row["errors"] == 7
    assert "added" not in summary_of([run(1.0, 2.0)], None)
