"""History and live traffic: five applications at once, and the two operators watching."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from demo import apps, tickets
from demo.history import DAYS, PROFILES, write_history
from demo.house import DemoError, wait_for
from demo.narration import say, table, update
from demo.people import APPROVER, HARVESTS, REQUESTER
from demo.world import DATA, World

TICKETS, TICKET_SEED = 1650, 2026
HARVEST_LIMIT = 480
KNOCKS = 16


def bring_history(world: World) -> dict[str, Any]:
    """Import every account's fourteen days, and let the detector read them."""
    path = DATA / "history.jsonl"
    rows = write_history(path)
    say(f"{rows:,} records of {DAYS} days, imported with `spiritsafe traffic import`; they are never trained on.")
    world.house.command("traffic", "import", str(path))
    world.house.wait_models(world.operator(REQUESTER), "teacher")
    scores = {row["account"]: row["severity"] for row in world.house.command("detector", "score")}
    say("The detector has read them: " + ", ".join(f"{name} {severity}" for name, severity in scores.items()) + ".")
    if alerts := world.operator(REQUESTER).get("/alerts"):
        raise DemoError(f"the history alone raised alerts: {[alert['account'] for alert in alerts]}")
    return {"rows": rows}


@dataclass
class Watch:
    """What the operators saw while traffic was live."""

    suspended_at: float | None = None
    alert: dict[str, Any] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)


def go_live(world: World) -> dict[str, Any]:
    """Run the five applications at once; the approver suspends the account that the detector names."""
    say(
        "A chat app, a RAG pipeline, a nightly classification job, an evaluation job and an account that collects "
        "answers send what they send, all through the stock OpenAI client, at most 8 requests open each."
    )
    world.operator(APPROVER).post(
        "/enforcement", account=HARVESTS, action="clear", note="The demo begins its live phase."
    )
    tallies, watch, knocked = asyncio.run(_live(world))
    table(
        ("account", "answered", "refused", "tokens"),
        [(tally.account, tally.answered, tally.refused, tally.tokens) for tally in tallies.values()],
    )
    for tally in tallies.values():
        if tally.failures:
            raise DemoError(f"{len(tally.failures)} requests of {tally.account} failed, such as: {tally.failures[0]}")
    _check_alert(tallies, watch, knocked)
    world.kept["answers"] = [(name, label) for name, _, label in tallies["nightly-tickets"].answers]
    return {
        "alert": watch.alert,
        "requests": {tally.account: tally.answered for tally in tallies.values()},
        "tokens": {tally.account: tally.tokens for tally in tallies.values()},
        "refused_after_suspension": knocked.refused,
        "thresholds_flag": _thresholds(tallies),
    }


async def _live(world: World) -> tuple[dict[str, apps.Tally], Watch, apps.Tally]:
    tallies = {profile.account: apps.Tally(profile.account) for profile in PROFILES}
    drawn = tickets.tickets(TICKET_SEED, TICKETS)
    work = {
        "kettle-chat": lambda client, tally: apps.chat_app(client, tally, 60, 1),
        "harbour-rag": lambda client, tally: apps.rag_pipeline(client, tally, 150, 1),
        "nightly-tickets": lambda client, tally: apps.classification_job(client, tally, drawn),
        "model-evals": lambda client, tally: apps.evaluation_job(client, tally, 12),
        HARVESTS: lambda client, tally: apps.harvester(client, tally, HARVEST_LIMIT, 1),
    }

    async def run_app(account: str) -> None:
        async with apps.client_for(world.base_url, world.key(account)) as client:
            await work[account](client, tallies[account])

    watch, ended = Watch(), asyncio.Event()
    watcher = asyncio.create_task(_watch(world, tallies, watch, ended))
    await asyncio.gather(*(run_app(account) for account in work))
    await _settle(world, watch)
    ended.set()
    await watcher
    knocked = await apps.knock(world.base_url, world.key(HARVESTS), KNOCKS)
    return tallies, watch, knocked


async def _settle(world: World, watch: Watch) -> None:
    # The last requests take a moment through spool, lake and detector.
    for _ in range(15):
        if watch.suspended_at is not None:
            return
        world.house.check_alive()
        await asyncio.sleep(1)


async def _watch(world: World, tallies: dict[str, apps.Tally], watch: Watch, ended: asyncio.Event) -> None:
    approver = world.operator(APPROVER)
    shown = 0.0
    while not ended.is_set():
        alerts = await asyncio.to_thread(_alerts, world)
        for alert in alerts:
            if alert["account"] != HARVESTS:
                watch.others.add(alert["account"])
            elif watch.suspended_at is None:
                await asyncio.to_thread(_suspend, approver, alert, watch, tallies[HARVESTS])
        if time.monotonic() - shown > 15:
            shown = time.monotonic()
            update("answered so far: " + ", ".join(f"{tally.account} {tally.answered}" for tally in tallies.values()))
        await asyncio.sleep(0.5)


def _alerts(world: World) -> list[dict[str, Any]]:
    try:
        alerts: list[dict[str, Any]] = world.operator(REQUESTER).get("/alerts?state=open")
    except httpx.TimeoutException:  # Two cores under full load; the next look is half a second away.
        return []
    return alerts


def _suspend(approver: Any, alert: dict[str, Any], watch: Watch, tally: apps.Tally) -> None:
    approver.post(
        f"/alerts/{alert['id']}/decide", decision="suspend", note="Collects answers in bulk.", **{"for": "7d"}
    )
    watch.suspended_at = time.monotonic()
    watch.alert = {
        "account": alert["account"],
        "severity": alert["severity"],
        "score": alert["score"],
        "reasons": [reason["text"] for reason in alert["reasons"]],
        "live_requests_before_alert": alert["evidence"]["live_requests_before_alert"],
        "teacher_tokens_before_alert": alert["evidence"]["teacher_tokens_before_alert"],
        "answers_before_suspension": tally.answered,
    }
    print(flush=True)
    say(f"{alert['account']} raised a {alert['severity']} alert after {tally.answered} live answers, because it:")
    for reason in alert["reasons"][:4]:
        say(f"– {reason['text']}")
    say(f"{approver.name} suspends it for seven days; the decision is a row and binds every worker within a second.")


def _check_alert(tallies: dict[str, apps.Tally], watch: Watch, knocked: apps.Tally) -> None:
    if watch.suspended_at is None:
        raise DemoError(f"{HARVESTS} was not flagged within {tallies[HARVESTS].answered} live requests")
    if watch.others:
        raise DemoError(f"accounts that harvest nothing were flagged: {sorted(watch.others)}")
    if knocked.refused != KNOCKS:
        raise DemoError(f"after the suspension {knocked.answered} of {KNOCKS} requests were still answered")
    say(f"{KNOCKS} more requests of {HARVESTS}, each on a connection of its own, all got 403.")
    rank = {name: sum(other.answered > tally.answered for other in tallies.values()) for name, tally in tallies.items()}
    say(
        f"By requests it was number {rank[HARVESTS] + 1} of 5: a threshold on requests or tokens that catches it also "
        f"catches {', '.join(_thresholds(tallies))}."
    )


def _thresholds(tallies: dict[str, apps.Tally]) -> list[str]:
    harvest = tallies[HARVESTS]
    bigger = [
        tally.account
        for tally in tallies.values()
        if tally.account != HARVESTS and tally.answered > harvest.answered and tally.tokens > harvest.tokens
    ]
    if len(bigger) < 2:
        raise DemoError("fewer than two look-alikes sent more requests and more tokens than the harvester")
    return bigger


def check_ledger(world: World) -> dict[str, Any]:
    """Compare what workers completed with what the lake holds."""

    def caught_up() -> list[dict[str, Any]]:
        rows = world.house.command("traffic", "verify")
        return rows if all(row["completed"] == row["recorded"] for row in rows) else []

    rows = wait_for(caught_up, 60, "the lake did not catch up with the spool: see `spiritsafe traffic verify`")
    table(
        ("worker", "completed", "recorded", "interrupted"),
        [(row["stream"], row["completed"], row["recorded"], row["interrupted"]) for row in rows],
    )
    return {"workers": rows}
