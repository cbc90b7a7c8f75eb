"""Sums over the lake."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from dashboards.console.traffic import Traffic, total
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
    return Traffic(lake, minimum_age_s=0, clock=lambda: 0.0)


def test_a_house_without_traffic_has_no_figures(tmp_path: Path) -> None:
    """Before the first request there is no lake, and that is no error."""
    assert total(Traffic(Lake(tmp_path / "traffic")).figures().cells).requests == 0


def test_teacher_tokens_are_output_of_teachers_alone(tmp_path: Path) -> None:
    """A student's output is nobody's secret."""
    usage = total(_traffic(tmp_path, _record(), _student()).figures().of("brightdesk"))
    assert (usage.requests, usage.output_tokens, usage.teacher_tokens) == (2, 20, 10)


def test_only_live_requests_save(tmp_path: Path) -> None:
    """Imported rows never count as savings."""
    usage = total(_traffic(tmp_path, _student(), _student(origin="imported")).figures().cells)
    assert usage.saved == 80_000
    assert usage.live == 1


def test_the_last_day_is_told_apart(tmp_path: Path) -> None:
    """What is older than 24 hours is in the sums and not in the recent ones."""
    old = to_rfc3339(now() - timedelta(hours=25))
    usage = total(_traffic(tmp_path, _record(), _record(time=old), _record(model_requested="teacher")).figures().cells)
    assert (usage.requests, usage.recent, usage.recent_tokens, usage.recent_auto_tokens) == (3, 2, 20, 10)


def test_refusals_and_rows_without_figures_are_counted(tmp_path: Path) -> None:
    """A refused request has no usage, model role or cost, and still counts as one."""
    refused = _record(status=403)
    for name in ("usage", "model_role", "cost", "counterfactual_cost", "route"):
        del refused[name]
    usage = total(_traffic(tmp_path, refused).figures().cells)
    assert (usage.requests, usage.refused, usage.tokens, usage.cost) == (1, 1, 0, 0)


def test_new_rows_are_seen(tmp_path: Path) -> None:
    """Figures follow the lake's version."""
    traffic = _traffic(tmp_path, _record())
    assert total(traffic.figures().cells).requests == 1
    Lake(tmp_path / "traffic").append(to_table([_record(), _record()]))
    assert total(traffic.figures().cells).requests == 3


def test_a_slow_reading_serves_longer(tmp_path: Path) -> None:
    """A lake that takes two seconds to read is read again after twenty, not after the minimum age."""
    moment = [0.0]

    class SlowLake(Lake):
        def read(self, *arguments: Any, **named: Any) -> pa.Table:
            moment[0] += 2
            return super().read(*arguments, **named)

    lake = SlowLake(tmp_path / "traffic")
    lake.append(to_table([_record()]))
    traffic = Traffic(lake, minimum_age_s=3, clock=lambda: moment[0])
    first = traffic.figures()
    lake.append(to_table([_record()]))
    moment[0] += 19
    assert traffic.figures() is first
    moment[0] += 2
    assert total(traffic.figures().cells).requests == 2


def test_a_figure_serves_again_while_it_is_young(tmp_path: Path) -> None:
    """Under steady traffic the lake is not read for every page."""
    lake = Lake(tmp_path / "traffic")
    lake.append(to_table([_record()]))
    traffic = Traffic(lake, minimum_age_s=60)
    first = traffic.figures()
    lake.append(to_table([_record()]))
    assert traffic.figures() is first
