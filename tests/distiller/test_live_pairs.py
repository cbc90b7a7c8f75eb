"""A rollout is watched on real requests: compared behind the scenes, and ended by itself when it is worse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from distiller.fixed_rules import as_training
from distiller.gate import Rule
from distiller.live_pairs import Watch, decide, look
from gateway.ledger import registry, rollouts
from gateway.ledger.distance import Distance
from gateway.ledger.errors import Forbidden
from gateway.ledger.identifiers import now, to_rfc3339
from gateway.ledger.registry import Student
from tests.distiller.house import House, record, records, tickets
from tests.distiller.test_evaluation import script
from tests.fakes import FakeVllm, fake_vllm
from tests.gateway.ledger.test_registry import student


class Live:
    """A house with a candidate whose gate found 95 % agreement, and models that are scripted."""

    def __init__(self, folder: Path, models: FakeVllm) -> None:
        self.models, self.house = models, House(folder, [models.url])
        path = folder / "distance.npz"
        texts = tickets(200, seed=8)
        Distance.fit(texts[:120]).calibrated(texts[120:]).save(path)
        made = student(
            "tickets", skeleton=record(0, "a")["fingerprint"]["skeleton"], url=models.url, adequacy=str(path),
            training=as_training(Rule(), "rows"),
        )  # fmt: skip
        with self.house.database.write() as connection:
            registry.add(connection, made, "test")
            registry.record_gate(connection, "tickets@1", True, {"agreement": 0.95}, (1, 1), "measured", "test")

    def advance(self) -> Student:
        with self.house.database.write() as connection:
            return rollouts.advance(connection, "tickets@1", "mara")

    def traffic(self, count: int, seed: int, **changes: Any) -> None:
        rows = records(count, seed)
        begin = now() + timedelta(seconds=1)
        for number, row in enumerate(rows):
            row |= {"id": f"{seed}-{number}", "time": to_rfc3339(begin + timedelta(seconds=number))} | changes
        self.house.log(rows)

    def look(self) -> Any:
        return look(Watch(self.house.settings, self.house.database), "tickets@1")

    def student(self) -> Student:
        with self.house.database.read() as connection:
            return registry.get(connection, "tickets@1")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with fake_vllm() as models:
        models.always(script(0.97))
        yield Live(tmp_path, models)


def test_from_the_shadow_to_the_next_stage(live: Live) -> None:
    """Adequate requests of the teacher's are put to the candidate, each once; what passes lets a person go on."""
    live.advance()
    live.traffic(160, seed=3)
    live.traffic(20, seed=4, messages=[{"role": "user", "content": "Write a sonnet about the sea in winter."}])
    taken = live.look()
    assert (taken.outcome, taken.stage, taken.looks) == ("passed", "shadow", 1)
    assert 120 <= taken.pairs <= 160
    asked = [received.body for received in live.models.received]
    assert {body["model"] for body in asked} == {"tickets@1"}
    assert live.look().pairs == taken.pairs
    assert len(live.models.received) == len(asked)
    notes = (live.house.settings.data_dir / "rollouts" / "tickets@1.jsonl").read_text().splitlines()
    assert set(json.loads(notes[0])) == {"id", "stage", "since", "agreed"}  # and no text
    assert rollouts.stage_of(live.advance()) == "1"


def test_half_a_line_of_a_killed_watch_is_asked_again(live: Live) -> None:
    """Nothing else is, and no pair counts twice."""
    live.advance()
    live.traffic(160, seed=3)
    taken = live.look()
    notes = live.house.settings.data_dir / "rollouts" / "tickets@1.jsonl"
    lines = notes.read_text()
    notes.write_text(lines[:-20])
    asked = len(live.models.received)
    assert live.look().pairs == taken.pairs
    assert len(live.models.received) == asked + 1
    notes.write_text(notes.read_text() + lines)
    assert live.look().pairs == taken.pairs


def test_what_stays_with_the_teacher_is_not_compared(live: Live) -> None:
    """A candidate is not judged by the slice that routing keeps from it."""
    with live.house.database.write() as connection:
        row = registry.get(connection, "tickets@1")
        gate = {**(row.gate or {}), "slices": [{"slice": "region=north", "stays_with_teacher": True}]}
        connection.execute(sa.update(registry.table).where(registry.table.c.version == row.version).values(gate=gate))
    live.advance()
    live.traffic(120, seed=3, metadata={"region": "north"})
    assert live.look().pairs == 0


def test_a_regression_is_rolled_back_by_itself(live: Live) -> None:
    """Students' answers that the teacher would not have given end the stage, and `auto` asks the candidate no more."""
    live.advance()
    with live.house.database.write() as connection:
        rollouts.record_look(connection, "tickets@1", {"outcome": "passed", "looks": 1})
    assert rollouts.share_of(live.advance()) == 0.01
    live.traffic(150, seed=5, model="tickets@1", model_role="student", response={"content": "nonsense", "choices": 1})
    taken = live.look()
    assert taken.outcome == "failed"
    assert {received.body["model"] for received in live.models.received} == {"teacher"}
    stopped = live.student()
    assert (stopped.state, rollouts.share_of(stopped)) == ("candidate", 0.0)
    assert "surely less than" in (stopped.rollout or {})["stopped"]
    with pytest.raises(Forbidden, match="no rollout"):
        live.look()


def test_few_pairs_decide_nothing(live: Live) -> None:
    """Below a hundred pairs there is no look, whatever they say."""
    live.advance()
    live.traffic(60, seed=6)
    taken = live.look()
    assert (taken.outcome, taken.looks) == ("undecided", 0)


def test_looks_that_are_right_at_the_margin_seldom_pass_or_fail() -> None:
    """Of 300 candidates exactly at the least agreement, looked at ten times each, at most a tenth pass, as few fail."""
    rng = np.random.default_rng(7)
    ends = {"passed": 0, "failed": 0, "undecided": 0}
    for _ in range(300):
        agreed = (rng.random(1000) < 0.9).tolist()
        outcomes = (decide(agreed[: 100 * k], 0.95, 0.05, k)[0] for k in range(1, 11))
        ends[next((outcome for outcome in outcomes if outcome != "undecided"), "undecided")] += 1
    assert ends["passed"] <= 30
    assert ends["failed"] <= 30
