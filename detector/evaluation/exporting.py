"""A simulated month as files, in the forms that `spiritsafe accounts import` and `traffic import` take.

The truth stands in a file of its own and in no record: whoever measures a detector joins it by account and id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detector.evaluation.planning import Plan, World
from detector.evaluation.reading import Progress
from detector.evaluation.simulation import account_line, simulate


def write_month(plans: Sequence[Plan], world: World, folder: Path, progress: Progress) -> int:
    """Write `accounts.jsonl`, `traffic.jsonl` and `truth.jsonl`; returns the number of requests.

    A line of the truth: `account`, `type`, `group` (a campaign, or a company), `cell` (null for ordinary accounts),
    `campaign` and `harvested`, the ids of the requests that harvested.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    with (
        (folder / "accounts.jsonl").open("w", encoding="utf-8") as accounts,
        (folder / "traffic.jsonl").open("w", encoding="utf-8") as traffic,
        (folder / "truth.jsonl").open("w", encoding="utf-8") as truth,
    ):
        for number, plan in enumerate(plans, 1):
            history = simulate(plan, world)
            accounts.write(account_line(plan) + "\n")
            traffic.writelines(line + "\n" for line in history.lines())
            harvested = [one["id"] for one, true in zip(history.records, history.harvest.tolist(), strict=True) if true]
            truth.write(json.dumps(_truth(plan, harvested)) + "\n")
            written += len(history.records)
            progress("simulated", number, len(plans))
    return written


def _truth(plan: Plan, harvested: list[str]) -> dict[str, Any]:
    return {
        "account": plan.account, "type": plan.code, "group": plan.group, "cell": plan.cell or None,
        "campaign": plan.is_attack, "harvested": harvested,
    }  # fmt: skip
