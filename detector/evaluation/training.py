"""What the shipped model is fitted on: months of our own making, each account looked at as the service would.

Months are kept as states below a folder, so that another recipe, or other features, cost no second simulation. What
scores linked sets is learnt apart (`linking`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detector import columns, features, fitting, sketch
from detector.checkpoints import Follower
from detector.evaluation.attacks import attack_strategies
from detector.evaluation.benign import benign_profiles
from detector.evaluation.corpora import load_corpora
from detector.evaluation.planning import Plan, Size, World
from detector.evaluation.simulation import simulate
from detector.evaluation.traces import load_clients
from detector.fitting import Looks, Recipe
from detector.scoring import Model
from detector.sketch import States
from gateway.ledger.fingerprint import complete_all
from gateway.ledger.traffic import to_table

BLOCK_REQUESTS = 20_000
SEEDS = (111, 112)  # of the shipped model
SIZE = Size(1_200, 2, 20_000)  # of a month: with campaigns as large as the evaluation has
SHIPPED = Recipe()
NOT_LEARNT_FROM = frozenset({"dolly", "sgd"})  # CC-BY-SA
Progress = Callable[[str, int, int], None]


@dataclass
class _Gathered:
    """Looks of a block: states, and for each whose they are and what was true by then."""

    plans: Sequence[Plan]
    harvest: Sequence[npt.NDArray[np.bool_]]
    states: list[States] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # a plan that speaks for it
    harvested: list[bool] = field(default_factory=list)
    ends_day: list[bool] = field(default_factory=list)

    def look(self, states: States, at: npt.NDArray[np.int64]) -> None:
        """Take looks at accounts."""
        self.states.append(states[at].copy())
        for place in at.tolist():
            done = int(states["total"][place])
            self.names.append(self.plans[place].account)
            self.places.append(place)
            self.harvested.append(bool(self.harvest[place][:done].any()))
            self.ends_day.append(False)

    def end_of_day(self, _states: States, at: npt.NDArray[np.int64], _day: int) -> None:
        """Mark the newest looks as those that end a day."""
        for place in range(len(self.ends_day) - len(at), len(self.ends_day)):
            self.ends_day[place] = True


def fit_shipped(data: Path | None, seeds: Sequence[int], folder: Path, progress: Progress) -> Model:
    """Return the model of these months, those that are not in the folder yet simulated first."""
    world = permitted(data)
    paths = [folder / f"{seed}.npz" for seed in seeds]
    for seed, path in zip(seeds, paths, strict=True):
        if not path.exists():
            keep(path, month(world, world.plan(SIZE, seed), str(seed), progress))
    corpora = sorted(corpus.name for corpus in world.corpora)
    card = {"seeds": list(seeds), "corpora": corpora, "strategies": len(world.attacks), "profiles": len(world.benign)}
    return fitting.fit(kept(paths), SHIPPED, card)[0]


def permitted(data: Path | None) -> World:
    """Return a world without the corpora whose licence the model should not inherit."""
    corpora = [corpus for corpus in load_corpora(data) if corpus.name not in NOT_LEARNT_FROM]
    return World(corpora, load_clients(data), benign_profiles(), attack_strategies())


def month(world: World, plans: Sequence[Plan], label: str, progress: Progress) -> dict[str, npt.NDArray[Any]]:
    """Simulate accounts and return the looks at them as arrays; `label` tells months apart."""
    parts = []
    done = 0
    for block in _blocks(plans):
        parts.append(_looks(world, block, label))
        done += len(block)
        progress(f"month {label}", done, len(plans))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _looks(world: World, block: Sequence[Plan], label: str) -> dict[str, npt.NDArray[Any]]:
    histories = [simulate(plan, world) for plan in block]
    rows = columns.read(to_table(complete_all([record for one in histories for record in one.records])))
    place_of = {plan.account: place for place, plan in enumerate(block)}
    places = np.array([place_of[name] for name in rows.names], dtype=np.int64)[rows.account]
    gathered = _Gathered(block, [one.harvest for one in histories])
    states = sketch.empty(len(block))
    follower = Follower(gathered.look, gathered.end_of_day)
    for day, part in follower.days(rows):
        follower.begin(states, day)
        follower.advance(states, rows.take(part), places[part])
    follower.end_day(states)
    of = [block[place] for place in gathered.places]
    raw = np.frombuffer(sketch.to_bytes(sketch.stacked(gathered.states)), np.uint8)
    return {
        "states": raw.reshape(-1, sketch.STATE.itemsize),
        "account": np.array([f"{label} {name}" for name in gathered.names], dtype=np.str_),
        "group": np.array([f"{label} {plan.group}" for plan in of], dtype=np.str_),
        "kind": np.array([plan.code for plan in of], dtype=np.str_),
        "corpus": np.array([plan.corpus.name for plan in of], dtype=np.str_),
        "template": np.array([plan.template for plan in of], dtype=np.str_),
        "attack": np.array([plan.is_attack for plan in of], dtype=bool),
        "declared": np.array([plan.declared is not None for plan in of], dtype=bool),
        "harvests": np.array(gathered.harvested, dtype=bool),
        "ends_day": np.array(gathered.ends_day, dtype=bool),
    }


def _blocks(plans: Sequence[Plan]) -> Iterator[list[Plan]]:
    block: list[Plan] = []
    for _group, members in itertools.groupby(sorted(plans, key=lambda plan: plan.group), key=lambda plan: plan.group):
        block += members
        if sum(plan.requests for plan in block) >= BLOCK_REQUESTS:
            yield block
            block = []
    if block:
        yield block


def keep(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write a month's looks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def kept(paths: Sequence[Path]) -> Looks:
    """Return the looks of months that were kept."""
    months = [dict(np.load(path, allow_pickle=False)) for path in paths]
    of = {name: np.concatenate([one[name] for one in months]) for name in months[0]}
    values = features.matrix(sketch.from_bytes(of["states"].tobytes()))
    names = ("account", "group", "kind", "attack", "harvests", "ends_day", "declared")
    return Looks(values=values, **{name: of[name] for name in names})
