"""The demo's people and accounts."""

from __future__ import annotations

from typing import Any

from demo.history import PROFILES
from demo.narration import say
from demo.world import World

REQUESTER, APPROVER = "ada", "bela"
TRAINS = "nightly-tickets"  # The one account that agreed to training.
HARVESTS = "quillworks"


def move_in(world: World) -> dict[str, Any]:
    """Create the operators and the accounts; each account gets a key."""
    operators = world.kept.setdefault("operators", {})
    for name in (REQUESTER, APPROVER):
        if name not in operators:
            operators[name] = world.house.command("operators", "create", name)[0]
            world.save()
    logins = " and ".join(f"{name} / {operators[name]['password']}" for name in operators)
    say(f"{REQUESTER} asks and {APPROVER} decides. Their log-ins for the console at {world.house.operators}: {logins}")
    world.house.wait_operators()
    keys = world.kept.setdefault("keys", {})
    for profile in PROFILES:
        if profile.account not in keys:
            operator = world.operator(REQUESTER)
            operator.post("/accounts", name=profile.account, consent=profile.account == TRAINS)
            keys[profile.account] = operator.post("/keys", account=profile.account)["key"]
            world.save()
    say(
        f"Five accounts have a key each: {', '.join(keys)}. Only {TRAINS} has consented to training. "
        "vLLM loads the teacher meanwhile."
    )
    return {"accounts": sorted(keys)}
