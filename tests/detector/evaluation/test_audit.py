"""The simulator does not tell the label away, and the audit would notice if it did."""

from __future__ import annotations

from dataclasses import replace

import pytest

from detector.evaluation.audit import PROBES, Audit, Probe
from detector.evaluation.planning import Plan, Size, World
from detector.evaluation.simulation import simulate


def _probe(name: str) -> list[Probe]:
    return [probe for probe in PROBES if probe.name.startswith(name)]


@pytest.fixture(scope="module")
def short(world: World) -> list[Plan]:
    """Return a few hundred accounts of thirty requests each."""
    plans = [plan for plan in world.plan(Size(150, 2, 60), 2) if not plan.is_attack or plan.campaign.rank < 2]  # type: ignore[union-attr]
    return [replace(plan, requests=30, beside=()) for plan in plans]


@pytest.mark.parametrize("giveaway", ["user agent", "hour"])
def test_a_giveaway_is_noticed(world: World, short: list[Plan], giveaway: str) -> None:
    """A user agent or an hour that only campaigns have takes its probe far beyond the limit."""
    audit = Audit()
    for plan in short:
        told = plan
        if plan.is_attack and giveaway == "user agent":
            client = plan.habits.client | {"user_agent": "harvester/1.0"}
            told = replace(plan, habits=replace(plan.habits, client=client))
        elif plan.is_attack:
            told = replace(plan, timing=replace(plan.timing, pace="nightly", hour=3.0))
        audit.see(simulate(told, world))
    probes = _probe("client software" if giveaway == "user agent" else "hours")
    (finding,) = audit.findings(draws=30, probes=probes)
    assert finding.auc.value > 0.8
    assert finding.gives_away


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_simulator_gives_nothing_away(world: World) -> None:
    """Metadata, one single prompt, recurrence and the rest stay at or below 0.60 on prompts of our own."""
    audit = Audit()
    for plan in world.plan(Size(600, 4, 400), 0):
        audit.see(simulate(plan, world))
    told = {finding.probe.name: str(finding.auc) for finding in audit.findings() if not finding.passed}
    assert told == {}
