"""Sums over the lake."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from dashboards.console.figures import total
from dashboards.console.traffic import Traffic
from gateway.ledger.identifiers import now, to_rfc3339, uuid7
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table


def _record(**changes: Any) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "time": to_rfc3339(now() - timedelta(hours=1)),
        "origin": "live",
        "account": "brightdesk",
        "endpoint": "chat.completions",
        "model_requested": "auto",
        "model": "teacher",
        "model_role": "teacher",
        "route": {"reason": "no_student"},
        "usage": {"input_tokens": 100, "output_tokens": 10, "source": "exact"},
        "status": 200,
        "cost": 130_000,
        "counterfactual_cost": 130_000,
    } | changes


def _student(**changes: Any) -> dict[str, Any]:
    route = {"reason": "adequate", "task": "routing"}
    student = {"model": "router@1", "model_role": "student", "route": route, "cost": 50_000}
    return _record(**student | changes)


def _traffic(folder: Path, *records: dict[str, Any]) -> Traffic:
    lake = Lake(folder / "traffic")
    lake.append(to_table(records))
    return Traffic(lake, minimum_age_s=0, clock=lambda: 0.0, stale_s=0)


def test_a_house_without_traffic_has_no_figures(tmp_path: Path) -> None:
    """Before the first request there is no lake, and that is no error."""
    assert Traffic(Lake(tmp_path / "traffic")).figures().total().requests == 0


def test_teacher_tokens_are_output_of_teachers_alone(tmp_path: Path) -> None:
    """A student's output is nobody's secret."""
    usage = total(_traffic(tmp_path, _record(), _student()).figures().of("brightdesk"))
    assert (usage.requests, usage.output_tokens, usage.teacher_tokens) == (2, 20, 10)


def test_only_live_requests_save(tmp_path: Path) -> None:
    """Imported rows never count as savings."""
    usage = _traffic(tmp_path, _student(), _student(origin="imported")).figures().total()
    assert usage.saved == 80_000
    assert usage.live == 1


def test_the_last_day_is_told_apart(tmp_path: Path) -> None:
    """What is older than 24 hours is in the sums and not in the recent ones."""
    old = to_rfc3339(now() - timedelta(hours=25))
    usage = _traffic(tmp_path, _record(), _record(time=old), _record(model_requested="teacher")).figures().total()
    assert (usage.requests, usage.recent, usage.recent_tokens, usage.recent_auto_tokens) == (3, 2, 20, 10)


def test_refusals_and_rows_without_figures_are_counted(tmp_path: Path) -> None:
    """A refused request has no usage, model role or cost, and still counts as one."""
    refused = _record(status=403)
    for name in ("usage", "model_role", "cost", "counterfactual_cost", "route"):
        del refused[name]
    usage = _traffic(tmp_path, refused).figures().total()
    assert (usage.requests, usage.refused, usage.tokens, usage.cost) == (1, 1, 0, 0)


def test_new_rows_are_seen(tmp_path: Path) -> None:
    """Figures follow the lake's version."""
    traffic = _traffic(tmp_path, _record())
    assert traffic.figures().total().requests == 1
    Lake(tmp_path / "traffic").append(to_table([_record(), _record()]))
    assert traffic.figures().total().requests == 3


def test_a_slow_reading_serves_longer(tmp_path: Path) -> None:
    """A lake that takes two seconds to read is read again after twenty, not after the minimum age."""
    moment = [0.0]

    class SlowLake(Lake):
        def read(self, *arguments: Any, **named: Any) -> pa.Table:
            moment[0] += 2
            return super().read(*arguments, **named)

    lake = SlowLake(tmp_path / "traffic")
    lake.append(to_table([_record()]))
    traffic = Traffic(lake, minimum_age_s=3, clock=lambda: moment[0], stale_s=0)
    first = traffic.figures()
    lake.append(to_table([_record()]))
    moment[0] += 19
    assert traffic.figures() is first
    moment[0] += 2
    assert traffic.figures().total().requests == 2


def test_a_figure_serves_again_while_it_is_young(tmp_path: Path) -> None:
    """Under steady traffic the lake is not read for every page."""
    lake = Lake(tmp_path / "traffic")
    lake.append(to_table([_record()]))
    traffic = Traffic(lake, minimum_age_s=60)
    first = traffic.figures()
    lake.append(to_table([_record()]))
    assert traffic.figures() is first


def test_a_page_does_not_wait_for_the_next_reading(tmp_path: Path) -> None:
    """While the lake is read again the pages get the last sums; the new ones are there when it is done."""
    reads, go_on = threading.Semaphore(0), threading.Event()

    class SlowLake(Lake):
        def read(self, *arguments: Any, **named: Any) -> pa.Table:
            reads.release()
            go_on.wait(30)
            return super().read(*arguments, **named)

    Lake(tmp_path / "traffic").append(to_table([_record()]))
    traffic = Traffic(SlowLake(tmp_path / "traffic"), minimum_age_s=0, stale_s=3600)
    go_on.set()
    first = traffic.figures()
    go_on.clear()
    traffic._fresh_until = time.monotonic() - 1  # as after ten times as long as the reading took
    Lake(tmp_path / "traffic").append(to_table([_record()]))
    assert reads.acquire(timeout=10)
    assert traffic.figures() is first
    assert reads.acquire(timeout=10), "nothing reads behind the page"
    assert traffic.figures() is first
    go_on.set()
    deadline = time.monotonic() + 10
    while traffic.figures().total().requests != 2:
        assert time.monotonic() < deadline, "the new sums never came"
        time.sleep(0.01)


def test_an_account_is_found_among_many(tmp_path: Path) -> None:
    """Its cells and no other's, whatever stands before and after it in the order of names."""
    names = ["a", "ab", "abc", "b", "ä", "z"]
    figures = _traffic(tmp_path, *(_record(account=name) for name in names), _student(account="ab")).figures()
    assert {name: len(figures.of(name)) for name in names} == {"a": 1, "ab": 2, "abc": 1, "b": 1, "ä": 1, "z": 1}
    assert figures.of("aa") == figures.of("") == figures.of("zz") == []
    assert json.loads(figures.rates) == dict.fromkeys(names, 10)


def test_sums_are_ranked_by_cost(tmp_path: Path) -> None:
    """The costliest account first, then by name."""
    records = [_record(account="a"), _record(account="c", cost=900_000), _record(account="b")]
    assert _traffic(tmp_path, *records).figures().ranked("account")["account"].to_pylist() == ["c", "a", "b"]


def test_records_are_read_together(tmp_path: Path) -> None:
    """Those that are there come by their ids; the others are missing."""
    record = _record()
    traffic = _traffic(tmp_path, record, _record())
    assert list(traffic.records([record["id"], "gone"])) == [record["id"]]
    assert traffic.records([]) == {}
