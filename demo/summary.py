"""The demo's end: what it cost against teacher-only, what was stopped, what was proven, and where to look."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from demo.house import wait_for
from demo.narration import say, table
from demo.people import REQUESTER
from demo.world import World

NANO = 1_000_000_000


def report(world: World) -> dict[str, Any]:
    """Add up the live usage by model and print the end of the story."""
    usage = wait_for(lambda: _settled(world), 30, "the lake did not show the last requests")
    by_model: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in usage:
        for name in ("requests", "input_tokens", "output_tokens", "cost", "counterfactual_cost"):
            by_model[row["model"]][name] += row[name] or 0
    table(
        ("model", "requests", "tokens in", "tokens out", "cost $", "teacher-only $"),
        [
            (model, row["requests"], row["input_tokens"], row["output_tokens"], *_dollars(row))
            for model, row in by_model.items()
        ],
    )
    cost, teacher_only = (sum(row[name] for row in by_model.values()) for name in ("cost", "counterfactual_cost"))
    say(f"Cost ${cost / NANO:.4f} against ${teacher_only / NANO:.4f} if the teacher had answered everything.")
    student = world.results["gate"]["student"]
    say(f"The student's price is the demo's own: {student['price_basis']}")
    alert = world.results["live"]["alert"]
    say(f"One alert: {alert['account']}, {alert['severity']}, suspended; nothing of the others.")
    say(f"Gate: {student['gate']['verdict']}")
    say(f"The console: {world.house.operators} (log-ins above). The endpoint: {world.base_url}")
    return {
        "by_model": {model: dict(row) for model, row in by_model.items()},
        "cost": cost,
        "teacher_only": teacher_only,
    }


def figures(world: World) -> dict[str, Any]:
    """Return the object that the demo's last line prints; money in nano-dollars, times in seconds."""
    results = world.results
    return {
        "by_model": results["finish"]["by_model"],
        "cost": results["finish"]["cost"],
        "teacher_only_cost": results["finish"]["teacher_only"],
        "alert": results["live"]["alert"],
        "refused_after_suspension": results["live"]["refused_after_suspension"],
        "thresholds_flag": results["live"]["thresholds_flag"],
        "gate": results["gate"]["student"]["gate"],
        "untrained_gate": results["gate"]["untrained"]["gate"],
        "student_share": results["auto"]["share"],
        "foreign_taken": results["auto"]["foreign_taken"],
        "console": world.house.operators,
        "peak_memory_bytes": world.kept["peak_memory_bytes"],
        "seconds": world.seconds,
        "total_seconds": round(sum(world.seconds.values()), 1),
    }


def _settled(world: World) -> list[dict[str, Any]]:
    usage: list[dict[str, Any]] = [
        row for row in world.operator(REQUESTER).get("/usage") if row.get("origin", "live") == "live"
    ]
    expected = sum(world.results["live"]["requests"].values())
    return usage if sum(row["requests"] for row in usage) >= expected else []


def _dollars(row: dict[str, int]) -> tuple[float, float]:
    return row["cost"] / NANO, row["counterfactual_cost"] / NANO
