"""The boards of what is spent and saved, and of the students who save it."""

from __future__ import annotations

from dashboards.grafana.panels import Board, Panel, Query
from dashboards.grafana.queries import PRICE, PRICED, REQUESTS, TEACHERS, dollars, rate

BY_STUDENTS = 'spiritsafe_requests_total{reason="adequate"}'
CHOOSING = 'spiritsafe_requests_total{reason!="pinned"}'

COST = Board(
    "cost",
    "Cost and savings",
    [
        Panel(
            "Spent an hour",
            "Tokens times the price of who answered.",
            [Query(dollars(PRICE))],
            "currencyUSD",
            kind="stat",
        ),
        Panel(
            "Saved an hour",
            "What the teacher would have cost, less what was spent.",
            [Query(dollars(f"{TEACHERS} - {PRICE}"))],
            "currencyUSD",
            kind="stat",
        ),
        Panel(
            "Saved share",
            "Of what the teacher alone would have cost.",
            [Query(f"1 - ({dollars(PRICE)}) / ({dollars(TEACHERS)})")],
            "percentunit",
            kind="stat",
        ),
        Panel(
            "Spent by model",
            "Dollars an hour.",
            [Query(dollars(PRICE, "gen_ai_response_model"), "{{gen_ai_response_model}}")],
            "currencyUSD",
            12,
            stacked=True,
        ),
        Panel(
            "With the teacher alone",
            "Dollars an hour, spent and what it would have been.",
            [Query(dollars(PRICE), "spent"), Query(dollars(TEACHERS), "teacher alone")],
            "currencyUSD",
            12,
        ),
        Panel(
            "Tokens",
            "By model and direction.",
            [Query(rate("gen_ai_client_token_usage_sum", PRICED), "{{gen_ai_response_model}} {{gen_ai_token_type}}")],
            "short",
            12,
        ),
        Panel(
            "Share of requests by model",
            "Who answers.",
            [
                Query(
                    f"{rate(REQUESTS, 'model')} / ignoring (model) group_left () {rate(REQUESTS)}",
                    "{{model}}",
                )
            ],
            "percentunit",
            12,
        ),
    ],
)


DISTILLER = Board(
    "distiller",
    "Distiller",
    [
        Panel("Students", "By state.", [Query("sum by (state) (spiritsafe_students)", "{{state}}")], kind="stat"),
        Panel(
            "Snapshots",
            "Waiting for approval, and approved.",
            [Query("sum by (state) (spiritsafe_snapshots)", "{{state}}")],
            kind="stat",
        ),
        Panel(
            "Gate reports",
            "Age of the report that each promoted student stands on.",
            [Query("max by (model) (spiritsafe_gate_report_age_seconds)", "{{model}}")],
            "s",
            kind="stat",
        ),
        Panel(
            "Answered by students",
            "Share of the requests that could choose (`auto`).",
            [
                Query(
                    f"({rate(BY_STUDENTS, zero=True)}) / ({rate(CHOOSING)} > 0 or vector(1))",
                    "adequate",
                )
            ],
            "percentunit",
            12,
        ),
        Panel(
            "Why not",
            "What kept `auto` from a student.",
            [
                Query(
                    rate('spiritsafe_requests_total{reason!~"pinned|adequate"}', "reason", zero=True),
                    "{{reason}}",
                )
            ],
            "reqps",
            12,
        ),
    ],
)
