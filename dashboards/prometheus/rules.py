"""The alert rules of a house, few and each with a runbook; `python -m dashboards.prometheus.rules` writes `rules.yml`.

Two objectives over 30 days have multi-window, multi-burn-rate alerts (Google's SRE workbook, chapter 5, "Alerting on
SLOs"): a fast burn over 1 h and 5 min, or 6 h and 30 min, pages; a slow one over a day and 2 h, or 3 days and 6 h, is a
ticket. The others are for what loses records or money, or would soon, whether anybody sends requests or not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FILE = Path(__file__).with_name("rules.yml")
RUNBOOKS = "docs/runbooks"

AVAILABLE, IN_TIME = 0.999, 0.99  # shares of requests, of streams
FIRST_TOKEN_S = "2.5"  # a bucket's bound of the histogram
CANARY_HOURS = 48
GATE_REPORT_DAYS = 90
# The errors that are ours: those of the tree in gateway/errors.py whose status is 500 and more.
OUR_FAULTS = (
    "internal_error|server_error|service_unavailable|upstream_error|upstream_protocol_error|upstream_disconnected"
    "|upstream_failed|upstream_timeout|no_healthy_backend|backend_busy|control_state_unavailable|draining|not_recorded"
    "|budget_store_unavailable"
)
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
# Times the rate at which the budget would last 30 days, long window, short window.
FAST = ((14.4, "1h", "5m"), (6.0, "6h", "30m"))
SLOW = ((3.0, "1d", "2h"), (1.0, "3d", "6h"))

Severity = Literal["page", "ticket"]


@dataclass(frozen=True)
class Recording:
    """A query that is kept under a name."""

    name: str
    expression: str


@dataclass(frozen=True)
class Alert:
    """An alert: `lasting` is how long its expression must hold; `page` wakes somebody, a `ticket` waits for the day.

    `says` may quote the alert's own labels and value. `runbook` is the page's name without its folder.
    """

    name: str
    expression: str
    lasting: str
    severity: Severity
    says: str
    runbook: str


def failures(window: str) -> str:
    """Return the share of requests that failed by our fault; those that came while no key was known are in it."""
    ours = f'sum(rate(spiritsafe_refusals_total{{reason=~"{OUR_FAULTS}"}}[{window}]))'
    unknown = f'sum(rate(spiritsafe_refusals_total{{reason="control_state_unavailable"}}[{window}]))'
    known = f"sum(rate(spiritsafe_requests_total[{window}]))"
    return f"({ours} or vector(0)) / (({known} or vector(0)) + ({unknown} or vector(0)))"


def slow_first_tokens(window: str) -> str:
    """Return the share of streams whose first token took longer than the objective allows."""
    metric = "gen_ai_server_time_to_first_token_seconds"
    in_time = f'sum(rate({metric}_bucket{{le="{FIRST_TOKEN_S}"}}[{window}]))'
    return f"1 - {in_time} / sum(rate({metric}_count[{window}]))"


def recordings() -> list[Recording]:
    """Return the shares over every window."""
    found = [Recording(f"spiritsafe:failures:ratio_rate{window}", failures(window)) for window in WINDOWS]
    return found + [
        Recording(f"spiritsafe:slow_first_tokens:ratio_rate{window}", slow_first_tokens(window)) for window in WINDOWS
    ]


def _burns(share: str, allowed: float, speeds: tuple[tuple[float, str, str], ...]) -> str:
    name = f"spiritsafe:{share}:ratio_rate"
    return " or ".join(
        f"({name}{long} > {speed * allowed:.4g} and {name}{short} > {speed * allowed:.4g})"
        for speed, long, short in speeds
    )


def alerts() -> list[Alert]:
    """Return every alert."""
    unavailable, late = 1 - AVAILABLE, 1 - IN_TIME
    return [
        Alert(
            "RequestsFail",
            _burns("failures", unavailable, FAST),
            "2m",
            "page",
            "{{ $value | humanizePercentage }} of requests fail by our fault: the month's budget burns in days.",
            "requests-fail",
        ),
        Alert(
            "RequestsFailSlowly",
            _burns("failures", unavailable, SLOW),
            "15m",
            "ticket",
            "{{ $value | humanizePercentage }} of requests fail by our fault: more than the month's budget allows.",
            "requests-fail",
        ),
        Alert(
            "FirstTokenLate",
            _burns("slow_first_tokens", late, FAST),
            "2m",
            "page",
            "{{ $value | humanizePercentage }} of streams wait longer than "
            + FIRST_TOKEN_S
            + " s for the first token.",
            "first-token-late",
        ),
        Alert(
            "FirstTokenLateSlowly",
            _burns("slow_first_tokens", late, SLOW),
            "15m",
            "ticket",
            "{{ $value | humanizePercentage }} of streams wait longer than "
            + FIRST_TOKEN_S
            + " s for the first token.",
            "first-token-late",
        ),
        Alert(
            "HouseUnreachable",
            'up{job="spiritsafe"} == 0 or absent(up{job="spiritsafe"})',
            "2m",
            "page",
            "The operator process does not answer Prometheus: nothing below is known any more.",
            "house-unreachable",
        ),
        Alert(
            "ProcessDown",
            "spiritsafe_process_up == 0 or increase(spiritsafe_process_restarts_total[15m]) > 3",
            "2m",
            "page",
            "{{ $labels.process }} is down, or was started again more than three times in a quarter of an hour.",
            "process-down",
        ),
        Alert(
            "ProcessHangs",
            'spiritsafe_metrics_age_seconds{process!="detector"} > 60',
            "2m",
            "page",
            "{{ $labels.process }} has published nothing for {{ $value | humanizeDuration }}, and still exists.",
            "process-hangs",
        ),
        Alert(
            "ModelWithoutBackend",
            "max by (model) (spiritsafe_backend_up) == 0",
            "1m",
            "page",
            "No backend of {{ $labels.model }} is up.",
            "model-without-backend",
        ),
        Alert(
            "RecordsDropped",
            "sum by (policy) (increase(spiritsafe_spool_drops_total[5m])) > 0",
            "0m",
            "page",
            "{{ $value | humanize }} records were not taken by the spool ({{ $labels.policy }}).",
            "records-dropped",
        ),
        Alert(
            "SpoolGrows",
            "spiritsafe_spool_lag_bytes > 64e6 and delta(spiritsafe_spool_lag_bytes[15m]) > 0",
            "10m",
            "ticket",
            "{{ $value | humanize1024 }}B wait in the spool, and it grows: the ingester does not keep up.",
            "ingestion-lags",
        ),
        Alert(
            "IngestionLags",
            "spiritsafe_spool_lag_seconds > 300",
            "5m",
            "page",
            "The lake is {{ $value | humanizeDuration }} behind: the detector does not see what leaves meanwhile.",
            "ingestion-lags",
        ),
        Alert(
            "SpoolDamaged",
            "increase(spiritsafe_spool_damaged_bytes_total[1h]) > 0",
            "0m",
            "ticket",
            "{{ $value | humanize1024 }}B of the spool made no frame.",
            "spool-damaged",
        ),
        Alert(
            "DiskBudgetRunsOut",
            "spiritsafe_disk_used_bytes > 0.9 * spiritsafe_disk_budget_bytes and spiritsafe_disk_budget_bytes > 0",
            "5m",
            "page",
            "Spool and lake take {{ $value | humanize1024 }}B, over nine tenths of spool.budget_bytes.",
            "disk-budget-runs-out",
        ),
        Alert(
            "DetectorLags",
            'spiritsafe_detector_lag_seconds > 300 or spiritsafe_metrics_age_seconds{process="detector"} > 300',
            "5m",
            "page",
            "The detector's view of the lake is {{ $value | humanizeDuration }} old: harvesting goes unseen.",
            "detector-lags",
        ),
        Alert(
            "CanaryMissed",
            "spiritsafe_detector_canaries_missed > 0",
            "0m",
            "page",
            "A canary harvested and no alert came: harvesting goes unseen.",
            "canary-missed",
        ),
        Alert(
            "CanaryOld",
            f"spiritsafe_detector_canary_age_seconds > {CANARY_HOURS * 3600}",
            "0m",
            "ticket",
            "The last canary that was found is {{ $value | humanizeDuration }} old: nothing shows that alerts come.",
            "canary-missed",
        ),
        Alert(
            "ControlStateOld",
            "spiritsafe_control_state_age_seconds > 60 or spiritsafe_control_state_age_seconds < 0",
            "1m",
            "page",
            "{{ $labels.process }} has not seen the control plane for {{ $value | humanizeDuration }}: revocations do "
            "not bind, and after snapshot_max_age_s nothing is served.",
            "control-state-old",
        ),
        Alert(
            "BudgetStoreDown",
            "spiritsafe_limit_store_up == 0",
            "1m",
            "page",
            "{{ $labels.process }} can't ask the store of the limits: budgets run dry.",
            "budget-store-down",
        ),
        Alert(
            "GateReportOld",
            f"spiritsafe_gate_report_age_seconds > {GATE_REPORT_DAYS * 86400}",
            "10m",
            "ticket",
            f"{{{{ $labels.model }}}} serves on a gate report older than {GATE_REPORT_DAYS} days.",
            "gate-report-old",
        ),
    ]


def render() -> str:
    """Return `rules.yml`: YAML whose scalars are quoted as JSON quotes them."""
    lines = ["# Made by `python -m dashboards.prometheus.rules`.", "groups:"]
    # One group: its rules run one after the other, so that alerts see the shares of the same moment.
    lines += ["  - name: spiritsafe", "    rules:"]
    for recording in recordings():
        lines += [f"      - record: {recording.name}", f"        expr: {json.dumps(recording.expression)}"]
    for alert in alerts():
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {json.dumps(alert.expression)}",
            f"        for: {alert.lasting}",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.says)}",
            f"          runbook: {RUNBOOKS}/{alert.runbook}.md",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(render())
