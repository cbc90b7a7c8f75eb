"""What the steps of the demo share, kept in `demo-data/demo.json` so that a run goes on at the step that failed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import Any

from demo.house import ROOT, House, Operator

DATA = ROOT / "demo-data"
STATE = DATA / "demo.json"


@dataclass
class World:
    """The house, and what finished steps left: `results` by step, `seconds` by step, `kept` for secrets and ids."""

    house: House
    results: dict[str, dict[str, Any]]
    seconds: dict[str, float]
    kept: dict[str, Any]

    def operator(self, name: str) -> Operator:
        """Return one of the demo's two operators."""
        return Operator(name, self.kept["operators"][name]["token"], self.house.operators)

    def key(self, account: str) -> str:
        """Return the account's API key."""
        return str(self.kept["keys"][account])

    @property
    def base_url(self) -> str:
        """What an app developer sets as `base_url`."""
        return f"{self.house.gateway}/v1"

    def save(self) -> None:
        """Write the state; readable by its owner only, for it holds the demo's keys."""
        DATA.mkdir(parents=True, exist_ok=True)
        temporary = STATE.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"results": self.results, "seconds": self.seconds, "kept": self.kept}, file)
        temporary.rename(STATE)


def open_world() -> World:
    """Take up an unfinished run where it stopped, or begin a new one on an empty folder."""
    house = House(DATA / "up.log")
    if STATE.exists():
        state = json.loads(STATE.read_text())
        if "finish" not in state["results"]:
            return World(house, state["results"], state["seconds"], state["kept"])
    shutil.rmtree(DATA, ignore_errors=True)
    return World(house, {}, {}, {})
