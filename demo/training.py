"""From the classification account's rows to a promoted student."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from demo import apps, tickets
from demo.house import DemoError
from demo.narration import say
from demo.people import APPROVER, REQUESTER, TRAINS
from demo.world import DATA, World

TASK = "tickets"
STUDENT, UNTRAINED = "tickets-student", "tickets-untrained"
LATER_TICKETS, LATER_SEED, FOREIGN = 200, 2027, 100


def freeze(world: World) -> dict[str, Any]:
    """Select, freeze, and have the hash approved by the one who did not ask."""
    example = world.kept["answers"][0][0]
    selected = world.house.command("distill", "select", "--task", TASK, "--like", example, "--requested-by", REQUESTER)
    snapshot = selected[0]
    say(f"Snapshot {snapshot['hash'][:12]}… holds {snapshot['report']['rows']} rows of the task {TASK!r}.")
    left_out = ", ".join(f"{count} {reason}" for reason, count in snapshot["report"]["left_out"].items()) or "nothing"
    say(f"Left out, with the reason for each: {left_out}.")
    try:
        world.operator(REQUESTER).post(f"/snapshots/{snapshot['hash']}/approve", note="I asked for it myself.")
    except DemoError:
        say(f"{REQUESTER} asked for it and may not approve it: refused, as it should be.")
    else:
        raise DemoError("the requester could approve a snapshot of their own")
    world.operator(APPROVER).post(
        f"/snapshots/{snapshot['hash']}/approve", note="Only consented tickets; looked through."
    )
    say(f"{APPROVER} approves exactly this hash; training refuses any other bytes.")
    return {"hash": snapshot["hash"], "report": snapshot["report"]}


def train(world: World) -> dict[str, Any]:
    """Train the student, and register the untrained baseline likewise."""
    digest = world.results["snapshot"]["hash"]
    say("No traffic now: training has the machine to itself. First the baseline: the same layers, not trained.")
    baseline = world.house.long_command("distill", "train", digest, "--name", UNTRAINED, "--untrained")[-1]
    student = world.house.long_command("distill", "train", digest, "--name", STUDENT)[-1]
    loss = student["training"]
    say(f"Loss {loss['loss_first']:.2f} → {loss['loss_last']:.3f}; `up` serves both on ports of their own.")
    return {"student": student["reference"], "untrained": baseline["reference"], "training": loss}


def evaluate(world: World) -> dict[str, Any]:
    """Send the held-out requests to both students; the gate passes one and refuses the other."""
    answers = DATA / "answers.jsonl"
    with answers.open("w") as file:
        for name, label in world.kept["answers"]:
            file.write(json.dumps({"id": name, "answer": label}) + "\n")
    verdicts = {}
    for role in ("untrained", "student"):
        reference = world.results["train"][role]
        world.house.wait_models(world.operator(REQUESTER), reference)
        verdicts[role] = world.house.long_command("distill", "evaluate", reference, "--answers", str(answers))[-1]
        say(f"{reference}: {verdicts[role]['state']}. {verdicts[role]['gate']['verdict']}")
    if verdicts["untrained"]["state"] != "refused":
        raise DemoError("the gate let the untrained student through")
    if verdicts["student"]["state"] != "candidate":
        raise DemoError("the trained student did not pass the gate")
    return verdicts


def promote_and_use(world: World) -> dict[str, Any]:
    """Promote the candidate and send the task, and foreign requests under its system prompt, with `auto`."""
    reference = world.results["train"]["student"]
    approver = world.operator(APPROVER)
    if _state(world, reference) != "promoted":
        approver.post(f"/models/{reference}/promote", note="The gate's report is convincing.")
        say(f"{approver.name} promotes {reference}: its state changes, its process does not.")
    task, foreign = asyncio.run(_later(world))
    share, taken = task.models[reference] / task.answered, foreign.models[reference]
    right = sum(answer == label for _, answer, label in task.answers) / task.answered
    say(f"Of {task.answered} new tickets the student took {share:.0%} ({right:.1%} of all answers were right).")
    say(f"Of {foreign.answered} foreign requests under the same system prompt it took {taken}.")
    if share < 0.8:
        raise DemoError(f"the student took only {share:.0%} of its task: {dict(task.reasons)}")
    if taken > 5 or foreign.answered != FOREIGN:
        raise DemoError(f"of {foreign.answered} foreign requests the student took {taken}")
    return {"share": share, "correct": right, "foreign": foreign.answered, "foreign_taken": taken}


async def _later(world: World) -> tuple[apps.Tally, apps.Tally]:
    task, foreign = apps.Tally("task"), apps.Tally("foreign")
    strangers = [tickets.Ticket(text, "") for text in tickets.FOREIGN_TEST[:FOREIGN]]
    async with apps.client_for(world.base_url, world.key(TRAINS)) as client:
        await asyncio.gather(
            apps.classification_job(client, task, tickets.tickets(LATER_SEED, LATER_TICKETS)),
            apps.classification_job(client, foreign, strangers, store=False),
        )
    return task, foreign


def _state(world: World, reference: str) -> str:
    return str(_row(world, reference)["state"])


def _row(world: World, reference: str) -> dict[str, Any]:
    models = world.operator(REQUESTER).get("/models")
    return next(row for row in models if row.get("reference") == reference)
