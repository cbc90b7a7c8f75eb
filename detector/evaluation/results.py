"""A whole run: the world, the audit, every split, and what an operator would live through, against the targets."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detector.evaluation.attacks import attack_strategies
from detector.evaluation.audit import Audit, Finding
from detector.evaluation.benign import benign_profiles
from detector.evaluation.calibration import Calibration, calibration
from detector.evaluation.contenders import Contender
from detector.evaluation.corpora import load_corpora
from detector.evaluation.figures import (
    Figure,
    Floats,
    Ranking,
)
from detector.evaluation.hydra import Hydras, hydras, sets_of
from detector.evaluation.learnt import Fits, LearntDetector
from detector.evaluation.linked import LinkReader, SetFits, find_sets
from detector.evaluation.measuring import PREVALENCES, Judged, SplitFigures, Table, figures_of, judge
from detector.evaluation.operating import (
    HARD,
    NAIVE,
    Campaigns,
    HeldOut,
    Hydra,
    Leak,
    abstained,
    by_language,
    by_size,
    false_alerts,
    held_out,
    look_alikes,
)
from detector.evaluation.planning import Plan, Size, World
from detector.evaluation.reading import Progress, Reading, bring_in, read_back
from detector.evaluation.rivals import (
    Distances,
    IsolationAlone,
    MmdAgainstOwnHistory,
    MmdAgainstPool,
    Moments,
    Prada,
    RequestRate,
    Seat,
)
from detector.evaluation.splits import every_split
from detector.evaluation.traces import load_clients
from detector.sketch import STATE

DRAWS = 200  # resamplings for the intervals
SHIPPED = "as shipped"
APART = ("B4 undeclared", "B11 undeclared", "B14 undeclared")  # nothing but the register tells them from harvesters


@dataclass(frozen=True)
class Setup:
    """What a run is given. `data` may be None (our own prompts and rates), `additions` adds corpora and profiles."""

    data: Path | None
    size: Size
    seed: int = 0
    additions: Path | None = None
    draws: int = DRAWS


@dataclass(frozen=True)
class Operating:
    """A contender's alerts: as the detector ships them, or of a threshold frozen at a false-positive rate."""

    contender: str
    alerts_of: str
    naive: Leak
    hard: Leak
    by_strategy: dict[str, Leak]
    hydra: Hydra
    false_alerts: Figure  # per 1,000 active benign account-days
    look_alikes: dict[str, tuple[Figure, int]]
    by_size: dict[str, tuple[Figure, int]]
    by_language: dict[str, tuple[Figure, int]]

    def worst_look_alike(self) -> tuple[str, Figure]:
        """Return the look-alike flagged most often among those of ten accounts or more, undeclared ones apart."""
        known = {
            name: figure for name, (figure, count) in self.look_alikes.items() if count >= 10 and name not in APART
        }
        name = max(known, key=lambda each: known[each].value, default="–")
        return name, known.get(name, Figure(float("nan"), float("nan"), float("nan")))


@dataclass(frozen=True)
class Cost:
    """What replaying costs."""

    microseconds_a_request: float  # of CPU
    bytes_an_account: float


@dataclass
class Results:
    """All figures of a run."""

    setup: Setup
    world: dict[str, int]
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_mib: float = 0.0
    audit: list[Finding] = field(default_factory=list)
    abstained: dict[str, float] = field(default_factory=dict)
    splits: list[SplitFigures] = field(default_factory=list)
    headline: dict[str, bool] = field(default_factory=dict)
    curves: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    leaks: dict[str, list[tuple[float, bool]]] = field(default_factory=dict)  # by strategy: `Campaigns.points`
    operating: list[Operating] = field(default_factory=list)
    calibration: Calibration | None = None
    hydras: Hydras | None = None
    cost: Cost | None = None

    def split(self, split: str, contender: str = "detector") -> SplitFigures:
        """Return a contender's figures in a split."""
        return next(one for one in self.splits if (one.split, one.contender) == (split, contender))

    def shipped(self) -> Operating:
        """Return the detector's alerts as it ships."""
        return next(one for one in self.operating if one.alerts_of == SHIPPED)


class Clock:
    """Measures the stages of a run."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._began = seconds, time.perf_counter()

    def lap(self, name: str) -> None:
        """Note the seconds since the last lap."""
        now = time.perf_counter()
        self._seconds[name] = round(now - self._began, 1)
        self._began = now


def make_world(setup: Setup) -> World:
    """Load what a world is made from."""
    return World(
        load_corpora(setup.data, setup.additions),
        load_clients(setup.data),
        benign_profiles(setup.additions),
        attack_strategies(setup.additions),
    )


def evaluate(setup: Setup, folder: Path, progress: Progress) -> Results:
    """Simulate, audit, import, read and measure; `folder` takes the lake."""
    world = make_world(setup)
    plans = world.plan(setup.size, setup.seed)
    results = Results(setup, _counts(plans, world))
    clock = Clock(results.seconds)
    audit = Audit()
    truth = bring_in(plans, world, folder, progress, audit.see)
    clock.lap("simulate and import")
    results.audit = audit.findings(setup.seed, setup.draws)
    clock.lap("audit")
    fits = Fits()
    detectors = [
        LearntDetector(fits),
        *(LearntDetector(fits, f"detector, {lost} off", lost) for lost in ("sets", "text", "content", "network")),
    ]
    readings = read_back(plans, truth, folder, [detectors[0], LinkReader(), Distances(), Moments()], progress)
    results.world["requests, read"] = sum(len(reading.times) for reading in readings)
    clock.lap("read")
    fits.linked = SetFits(find_sets(readings), readings)
    clock.lap("link")
    rivals: list[Contender] = [
        RequestRate(), IsolationAlone(), Prada(), Seat(), MmdAgainstPool(), MmdAgainstOwnHistory(),
    ]  # fmt: skip
    measure(results, [*detectors, *rivals], readings, progress)
    clock.lap("measure")
    results.cost = _cost(detectors[0])
    results.peak_memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return results


def measure(results: Results, contenders: Sequence[Contender], readings: Sequence[Reading], progress: Progress) -> None:
    """Put every contender through every split and note its figures; the first contender is the one under test."""
    table = Table(readings, results.setup.draws, results.setup.seed)
    results.abstained = abstained(table)
    splits = every_split(table.plans)
    results.headline = {split.name: split.headline for split in splits}
    done = 0
    for contender in contenders:
        by_split: dict[str, list[Judged]] = {}
        for split in splits:
            cache: dict[object, Judged] = {}
            by_split[split.name] = judge(contender, split, table, cache)
            results.splits.append(figures_of(contender, split, by_split[split.name], table))
            done += 1
            progress("measured", done, len(contenders) * len(splits))
        _operate(results, contender, by_split, table, contender is contenders[0])


def _operate(
    results: Results, contender: Contender, by_split: Mapping[str, list[Judged]], table: Table, under_test: bool
) -> None:
    folds = by_split["leave-attack-type-out"], by_split["leave-benign-type-out"]
    shipped = folds[0][0].alerts is not None
    ways: list[float | None] = [None, 0.01] if shipped else [0.01]
    for rate in ways:
        found = held_out(*folds, table, rate)
        campaigns = Campaigns(table, found)
        name = SHIPPED if rate is None else f"threshold at {rate:.0%} FPR"
        if rate is not None or contender.name != "detector":
            name = f"{contender.name}: {name}"
        results.operating.append(_operating(contender.name, name, campaigns, found, table))
        if under_test and rate is None:
            results.leaks = campaigns.points()
            results.calibration = calibration(found, table)
            results.hydras = hydras(table, found.alert, sets_of(contender, table.readings))
    results.curves[contender.name] = _curve(held_out(*folds, table, 0.01), table)


def _operating(contender: str, name: str, campaigns: Campaigns, found: HeldOut, table: Table) -> Operating:
    return Operating(
        contender=contender,
        alerts_of=name,
        naive=campaigns.leak(NAIVE),
        hard=campaigns.leak(HARD),
        by_strategy={code: campaigns.leak([code]) for code in sorted(set(campaigns.code), key=lambda c: int(c[1:]))},
        hydra=campaigns.hydra(found),
        false_alerts=false_alerts(table, found),
        look_alikes=look_alikes(table, found),
        by_size=by_size(table, found),
        by_language=by_language(table, found),
    )


def _curve(found: HeldOut, table: Table) -> tuple[Floats, Floats]:
    rows = np.flatnonzero(~np.isnan(found.peak))
    weights = table.account_weights(~np.isnan(found.peak))
    return Ranking(found.peak[rows], table.attack[rows]).precision_recall(weights[rows], PREVALENCES[0])


def _cost(detector: LearntDetector) -> Cost:
    each = detector.cost.seconds / max(1, detector.cost.requests)
    return Cost(1e6 * each, float(STATE.itemsize))


def _counts(plans: Sequence[Plan], world: World) -> dict[str, int]:
    return {
        "corpora": len(world.corpora),
        "clients": len(world.clients),
        "benign profiles": len(world.benign),
        "strategies": len(world.attacks),
        "benign accounts": sum(not plan.is_attack for plan in plans),
        "benign requests": sum(plan.total for plan in plans if not plan.is_attack),
        "campaigns": len({plan.group for plan in plans if plan.is_attack}),
        "cells": len({plan.cell for plan in plans if plan.is_attack}),
        "accounts of campaigns": sum(plan.is_attack for plan in plans),
        "requests of campaigns": sum(plan.total for plan in plans if plan.is_attack),
    }
