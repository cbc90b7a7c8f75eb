"""The boards of harvesting and of the records that it is found in."""

from __future__ import annotations

from dashboards.grafana.panels import Board, Panel, Query
from dashboards.grafana.queries import REQUESTS, quantiles, rate

HARVESTING = Board(
    "harvesting",
    "Harvesting",
    [
        Panel(
            "Open alerts",
            "By severity.",
            [Query("sum by (severity) (spiritsafe_open_alerts)", "{{severity}}")],
            kind="stat",
        ),
        Panel(
            "Leaked tokens of open alerts",
            "Tokens of answers new to their account, drawn by accounts that wait for a decision.",
            [Query("sum by (severity) (spiritsafe_open_alerts_leaked_tokens)", "{{severity}}")],
            kind="stat",
        ),
        Panel("Suspects", "Accounts above the threshold.", [Query("sum(spiritsafe_detector_suspects)")], kind="stat"),
        Panel(
            "Alerts raised",
            "In the last day.",
            [Query("sum by (severity) (increase(spiritsafe_detector_alerts_raised_total[1d]))", "{{severity}}")],
        ),
        Panel(
            "Diverted",
            "Requests that a decision sent to a student.",
            [Query(rate('spiritsafe_requests_total{reason="policy"}', zero=True), "diverted")],
            "reqps",
        ),
        Panel(
            "Suspended",
            "Requests refused to accounts and keys that may not.",
            [Query(rate('spiritsafe_refusals_total{reason="permission_denied"}', zero=True), "refused")],
            "reqps",
        ),
        Panel(
            "Detector's lag",
            "Age of its view of the lake.",
            [Query("max(spiritsafe_detector_lag_seconds)", "lag")],
            "s",
        ),
        Panel(
            "Detector's rounds",
            "CPU seconds of each.",
            quantiles("spiritsafe_detector_round_seconds"),
            "s",
        ),
        Panel("Accounts kept", "In the detector's memory.", [Query("sum(spiritsafe_detector_accounts)", "accounts")]),
    ],
)


LEDGER = Board(
    "ledger",
    "Ledger and ingestion",
    [
        Panel(
            "Recorded and ingested",
            "Two lines that should be one.",
            [
                Query(rate(REQUESTS), "requests"),
                Query(rate("spiritsafe_ingested_rows_total"), "rows in the lake"),
            ],
            "reqps",
            12,
        ),
        Panel(
            "Behind",
            "Time since a slot was last read up.",
            [Query("max(spiritsafe_spool_lag_seconds)", "lag")],
            "s",
            12,
        ),
        Panel(
            "Waiting in the spool", "Bytes not read yet.", [Query("sum(spiritsafe_spool_lag_bytes)", "bytes")], "bytes"
        ),
        Panel("Frames waiting", "Frames not read yet.", [Query("sum(spiritsafe_spool_lag_frames)", "frames")]),
        Panel(
            "Disk",
            "What spool and lake take, and may take (0: no bound).",
            [
                Query("sum(spiritsafe_disk_used_bytes)", "used"),
                Query("sum(spiritsafe_disk_budget_bytes)", "budget"),
            ],
            "bytes",
        ),
        Panel(
            "Lost or refused",
            "Records that the spool did not take, in an hour.",
            [Query("sum by (policy) (increase(spiritsafe_spool_drops_total[1h]))", "{{policy}}")],
        ),
        Panel(
            "Failures",
            "Of syncing and of ingesting, in an hour.",
            [
                Query("sum(increase(spiritsafe_spool_sync_failures_total[1h]))", "sync"),
                Query("sum(increase(spiritsafe_ingest_failures_total[1h]))", "ingest"),
            ],
        ),
        Panel(
            "Damaged",
            "Bytes of the spool that made no frame, in a day.",
            [Query("sum(increase(spiritsafe_spool_damaged_bytes_total[1d]))", "bytes")],
            "bytes",
        ),
        Panel(
            "Age of what is shown here",
            "Seconds since each process published its metrics.",
            [Query("max by (process) (spiritsafe_metrics_age_seconds)", "{{process}}")],
            "s",
            12,
        ),
        Panel(
            "Store of the limits",
            "1: it answers.",
            [Query("min by (process) (spiritsafe_limit_store_up)", "{{process}}")],
            columns=12,
        ),
    ],
)
