"""The simulated month in the lake is what an import of its records would have made."""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.planning import Plan, World
from detector.evaluation.reading import bring_in
from detector.evaluation.simulation import simulate
from gateway.ledger.importing import import_traffic
from gateway.ledger.lake import Lake
from gateway.settings import Settings


def test_the_lake_is_that_of_an_import(world: World, plans: list[Plan], tmp_path: Path) -> None:
    """Every column of every row, fingerprints included, for one account of each type."""
    chosen = list({plan.code: plan for plan in plans}.values())
    truth = bring_in(chosen, world, tmp_path / "direct", lambda *_: None)
    lines = (line for plan in chosen for line in simulate(plan, world).lines())
    report = import_traffic(lines, Settings(data_dir=tmp_path / "imported"))
    made, imported = (
        Lake(tmp_path / name / "lake" / "traffic").read().sort_by("id") for name in ("direct", "imported")
    )
    assert report.refused == 0
    assert made.num_rows == imported.num_rows == sum(len(harvest) for harvest in truth.values())
    assert made.equals(imported)
