"""The boards of what is served, and by whom."""

from __future__ import annotations

from dashboards.grafana.panels import Board, Panel, Query
from dashboards.grafana.queries import DURATION, REQUESTS, TTFT, quantile, quantiles, rate

SERVICE = Board(
    "service",
    "Service",
    [
        Panel("Requests", "By endpoint.", [Query(rate(REQUESTS, "endpoint"), "{{endpoint}}")], "reqps"),
        Panel(
            "Answers",
            "By class of status; a stream that fails in the middle has sent 200 and is an error all the same.",
            [Query(rate(REQUESTS, "status"), "{{status}}")],
            "reqps",
            stacked=True,
        ),
        Panel(
            "Errors",
            "By code, the callers' own included: docs/errors.md says what each means.",
            [Query(rate("spiritsafe_refusals_total", "reason", zero=True), "{{reason}}")],
            "reqps",
        ),
        Panel("Time to first token", "Of streams, from arrival.", quantiles(TTFT), "s"),
        Panel(
            "Time to first token by model",
            "What 19 of 20 streams stay under.",
            [Query(quantile(0.95, TTFT, "gen_ai_response_model"), "{{gen_ai_response_model}}")],
            "s",
        ),
        Panel("Duration", "Of whole requests, from arrival to last byte.", quantiles(DURATION), "s"),
        Panel(
            "Our own time",
            "What the gateway adds until the request goes out.",
            quantiles("spiritsafe_overhead_seconds"),
            "s",
        ),
        Panel(
            "Queue",
            "How long requests waited because their model was full; empty without gateway.max_in_flight.",
            [Query(f"({quantile(0.95, 'spiritsafe_queue_seconds', 'lane')}) or vector(0)", "{{lane}} p95")],
            "s",
        ),
        Panel(
            "Waiting and under way",
            "Of all workers.",
            [
                Query("sum(spiritsafe_requests_in_flight)", "under way"),
                Query("sum(spiritsafe_queue_length) or vector(0)", "waiting"),
            ],
        ),
        Panel(
            "Refused by a limit",
            "By what was used up.",
            [Query(rate("spiritsafe_limit_refusals_total", "quantity", zero=True), "{{quantity}}")],
            "reqps",
        ),
        Panel(
            "Why this model",
            "Route reasons: pinned, adequate, or why the teacher had to.",
            [Query(rate(REQUESTS, "reason"), "{{reason}}")],
            "reqps",
            stacked=True,
        ),
        Panel(
            "What workers know",
            "Age of the control plane's state; at snapshot_max_age_s nothing is served.",
            [Query("max by (process) (spiritsafe_control_state_age_seconds)", "{{process}}")],
            "s",
        ),
    ],
)


FLEET = Board(
    "fleet",
    "Fleet",
    [
        Panel(
            "Backends up",
            "By model.",
            [Query("sum by (model) (max by (model, backend) (spiritsafe_backend_up))", "{{model}}")],
        ),
        Panel(
            "Breakers",
            "0 closed, 1 recovering, 2 half-open, 3 open: the worst of all workers.",
            [Query("max by (model, backend) (spiritsafe_backend_state)", "{{model}} {{backend}}")],
        ),
        Panel(
            "Taken out",
            "Backends that an operator drained.",
            [Query("max by (model, backend) (spiritsafe_backend_drained)", "{{model}} {{backend}}")],
        ),
        Panel(
            "Running in vLLM",
            "As it reports.",
            [Query('max by (backend) (spiritsafe_backend_requests{state="running"})', "{{backend}}")],
        ),
        Panel(
            "Waiting in vLLM",
            "Anything but zero is time to first token.",
            [Query('max by (backend) (spiritsafe_backend_requests{state="waiting"})', "{{backend}}")],
        ),
        Panel(
            "Open from here",
            "Requests that our workers have with a backend.",
            [Query("sum by (backend) (spiritsafe_backend_requests_in_flight)", "{{backend}}")],
        ),
        Panel(
            "KV cache",
            "How full; near one, vLLM puts requests off.",
            [Query("max by (backend) (spiritsafe_backend_kv_cache_ratio)", "{{backend}}")],
            "percentunit",
        ),
        Panel(
            "Prefix hits",
            "Share of prompt tokens found in the prefix cache since the backend began.",
            [
                Query(
                    'max by (backend) (spiritsafe_backend_prefix_tokens{result="hit"})'
                    ' / max by (backend) (spiritsafe_backend_prefix_tokens{result="queried"})',
                    "{{backend}}",
                )
            ],
            "percentunit",
        ),
        Panel(
            "Second tries",
            "Made, and refused because the retry budget was spent.",
            [Query(rate("spiritsafe_upstream_retries_total", "model, outcome"), "{{model}} {{outcome}}")],
            "reqps",
        ),
        Panel("Models served here", "1: ready.", [Query("max by (model) (spiritsafe_model_healthy)", "{{model}}")]),
        Panel("Processes", "1: ready.", [Query("max by (process) (spiritsafe_process_up)", "{{process}}")]),
        Panel(
            "Restarts",
            "In the last hour.",
            [Query("sum by (process) (increase(spiritsafe_process_restarts_total[1h]))", "{{process}}")],
        ),
    ],
)
