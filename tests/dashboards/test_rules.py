"""The alert rules: each fires when it should and only then, names metrics that exist, and has a runbook."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dashboards.prometheus import rules
from gateway import errors
from gateway.errors import GatewayError, Refused, UpstreamRejected
from tests import metrics_table
from tests.conftest import ROOT

ALERTS = {alert.name: alert for alert in rules.alerts()}
RUNBOOKS = ROOT / rules.RUNBOOKS
PARTS = ("## What it means", "## How to see", "## What to do")


@dataclass(frozen=True)
class Case:
    """Series (in promtool's notation, a value every `interval`), and whether the alert fires at a time."""

    alert: str
    series: dict[str, str]
    at: str
    fires: bool
    interval: str = "1m"


def gauge(alert: str, series: str, quiet: float, firing: float) -> list[Case]:
    """Both cases of an alert on a gauge's value."""
    return [Case(alert, {series: f"{value}x60"}, "30m", fires) for value, fires in ((quiet, False), (firing, True))]


def shares(alert: str, bad: str, every: str, quiet: float, firing: float, at: str, interval: str) -> list[Case]:
    """Both cases of an alert on a share: `bad` grows by so much of what `every` grows by."""
    return [
        Case(alert, {bad: f"0+{share * 60:g}x400", every: "0+60x400"}, at, fires, interval)
        for share, fires in ((quiet, False), (firing, True))
    ]


FAILED = 'spiritsafe_refusals_total{reason="upstream_failed"}'
REFUSED = 'spiritsafe_refusals_total{reason="rate_limit_exceeded"}'
REQUESTS = 'spiritsafe_requests_total{status="2xx"}'
IN_TIME = 'gen_ai_server_time_to_first_token_seconds_bucket{le="2.5"}'
STREAMS = "gen_ai_server_time_to_first_token_seconds_count"
USED, BUDGET = "spiritsafe_disk_used_bytes", "spiritsafe_disk_budget_bytes"
LAG = "spiritsafe_spool_lag_bytes"
CASES = [
    *shares("RequestsFail", FAILED, REQUESTS, 0.004, 0.02, "90m", "1m"),
    *shares("RequestsFailSlowly", FAILED, REQUESTS, 0.0008, 0.004, "27h", "5m"),
    Case("RequestsFail", {REFUSED: "0+60x400", REQUESTS: "0+60x400"}, "90m", fires=False),
    # Nobody's key is known: no request is of a known key, and all fail.
    Case(
        "RequestsFail", {'spiritsafe_refusals_total{reason="control_state_unavailable"}': "0+60x400"}, "90m", fires=True
    ),
    *shares("FirstTokenLate", IN_TIME, STREAMS, 0.95, 0.8, "90m", "1m"),
    *shares("FirstTokenLateSlowly", IN_TIME, STREAMS, 0.995, 0.95, "27h", "5m"),
    *gauge("HouseUnreachable", 'up{job="spiritsafe"}', 1, 0),
    Case("HouseUnreachable", {}, "30m", fires=True),
    *gauge("ProcessDown", 'spiritsafe_process_up{process="ingester"}', 1, 0),
    Case("ProcessDown", {'spiritsafe_process_restarts_total{process="detector"}': "0+1x60"}, "30m", fires=True),
    Case("ProcessDown", {'spiritsafe_process_restarts_total{process="detector"}': "0 0 1+0x60"}, "30m", fires=False),
    *gauge("ProcessHangs", 'spiritsafe_metrics_age_seconds{process="gateway-w0"}', 2, 400),
    *gauge("ModelWithoutBackend", 'spiritsafe_backend_up{model="teacher",backend="a"}', 1, 0),
    Case("RecordsDropped", {'spiritsafe_spool_drops_total{policy="serve"}': "0x28 3x30"}, "30m", fires=True),
    Case("RecordsDropped", {'spiritsafe_spool_drops_total{policy="serve"}': "7x60"}, "30m", fires=False),
    Case("SpoolGrows", {LAG: "0+10000000x60"}, "40m", fires=True),
    Case("SpoolGrows", {LAG: "600000000-10000000x60"}, "40m", fires=False),
    *gauge("IngestionLags", "spiritsafe_spool_lag_seconds", 20, 600),
    Case("SpoolDamaged", {"spiritsafe_spool_damaged_bytes_total": "0x20 512x60"}, "30m", fires=True),
    Case("SpoolDamaged", {"spiritsafe_spool_damaged_bytes_total": "512x90"}, "90m", fires=False),
    Case("DiskBudgetRunsOut", {USED: "95x60", BUDGET: "100x60"}, "30m", fires=True),
    Case("DiskBudgetRunsOut", {USED: "80x60", BUDGET: "100x60"}, "30m", fires=False),
    Case("DiskBudgetRunsOut", {USED: "95x60", BUDGET: "0x60"}, "30m", fires=False),
    *gauge("DetectorLags", "spiritsafe_detector_lag_seconds", 10, 500),
    *gauge("DetectorLags", 'spiritsafe_metrics_age_seconds{process="detector"}', 40, 500),
    *gauge("CanaryMissed", "spiritsafe_detector_canaries_missed", 0, 1),
    *gauge("CanaryOld", "spiritsafe_detector_canary_age_seconds", 40 * 3600, 49 * 3600),
    *gauge("ControlStateOld", "spiritsafe_control_state_age_seconds", 0.4, 90),
    *gauge("ControlStateOld", "spiritsafe_control_state_age_seconds", 0.4, -1),
    *gauge("BudgetStoreDown", "spiritsafe_limit_store_up", 1, 0),
    *gauge("GateReportOld", 'spiritsafe_gate_report_age_seconds{model="s@1"}', 80 * 86400, 91 * 86400),
]


def test_the_file_is_what_the_code_makes() -> None:
    """What Prometheus reads is not edited by hand."""
    assert rules.FILE.read_text() == rules.render(), "run `python -m dashboards.prometheus.rules`"


def test_our_faults_are_the_errors_of_500_and_more() -> None:
    """Availability counts every error that is ours, and none that is the caller's or a backend's refusal of it."""
    tree = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]
    tree.remove(Refused)  # only its children are raised
    tree.remove(UpstreamRejected)  # its status and code are the backend's, which counts as a refusal
    ours = {kind.code or kind.type for kind in tree if kind.status >= 500}
    theirs = {kind.code or kind.type for kind in tree if kind.status < 500}
    assert set(rules.OUR_FAULTS.split("|")) == ours
    assert not ours & theirs


def test_rules_name_metrics_and_labels_that_exist() -> None:
    """A metric that was renamed makes no alert silent."""
    made = {recording.name for recording in rules.recordings()}
    known = {series: row for row in metrics_table.rows() for series in row.series}
    for text in [*(item.expression for item in rules.recordings()), *(item.expression for item in rules.alerts())]:
        for name, labels in re.findall(r"\b((?:spiritsafe[_:]|gen_ai_)[\w:]+)(\{[^}]*\})?", text):
            assert name in made | known.keys(), name
            wanted = set(re.findall(r"(\w+)(?:=~|!=|=)", labels)) - {"le", "process"}
            assert wanted <= (set(known[name].labels) if name in known else set()), text


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_runbook(name: str) -> None:
    """Its page says what it means, how to see it and what to do, and docs/monitoring.md lists it with a link."""
    alert = ALERTS[name]
    page = (RUNBOOKS / f"{alert.runbook}.md").read_text()
    assert f"`{name}`" in page
    assert [part for part in PARTS if part not in page] == []
    assert f"| `{name}` |" in (monitoring := (ROOT / "docs/monitoring.md").read_text())
    assert f"(runbooks/{alert.runbook}.md)" in monitoring


def test_every_runbook_has_an_alert() -> None:
    """No page is left of an alert that is gone."""
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {alert.runbook for alert in ALERTS.values()}


def test_every_alert_is_tried_both_ways() -> None:
    """There is a case in which it fires and one in which it does not."""
    assert {(case.alert, case.fires) for case in CASES} == {(name, fires) for name in ALERTS for fires in (True, False)}


def document(cases: list[Case], evaluated_every: str) -> str:
    """The cases as promtool wants them; JSON is YAML."""
    tests = [
        {
            "name": f"{case.alert} {case.series}",
            "interval": case.interval,
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}})',
                    "eval_time": case.at,
                    "exp_samples": [{"labels": "{}", "value": 1}] if case.fires else [],
                }
            ],
        }
        for case in cases
    ]
    return json.dumps({"rule_files": [str(rules.FILE)], "evaluation_interval": evaluated_every, "tests": tests})


@pytest.mark.prometheus
def test_promtool_finds_that_they_fire(tmp_path: Path, require_program: Callable[[str, str], str]) -> None:
    """Prometheus's own tool plays every case."""
    program = require_program("promtool", "prometheus")
    minutes, days = tmp_path / "minutes.yml", tmp_path / "days.yml"
    minutes.write_text(document([case for case in CASES if case.interval == "1m"], "1m"))
    days.write_text(document([case for case in CASES if case.interval != "1m"], "15m"))
    command = [program, "test", "rules", str(minutes), str(days)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
