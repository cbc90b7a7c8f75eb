"""A simulated month as files is what the imports take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from detector.commands import detector
from detector.evaluation import planning
from detector.evaluation.exporting import write_month
from detector.evaluation.planning import Plan, Size, World
from gateway.ledger.validation import validate


def _rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_truth_is_apart_and_joins_by_account_and_id(world: World, plans: list[Plan], tmp_path: Path) -> None:
    """Each account has a line; what harvested are ids of its own records; records are valid and say nothing of it."""
    chosen = [next(plan for plan in plans if plan.code == code) for code in ("A1", "A10", "B4", "B8")]
    requests = write_month(chosen, world, tmp_path, lambda *_: None)
    records, truth = _rows(tmp_path / "traffic.jsonl"), _rows(tmp_path / "truth.jsonl")
    assert len(records) == requests
    assert [problem for record in records for problem in validate(record)] == []
    assert [row["account"] for row in _rows(tmp_path / "accounts.jsonl")] == [row["account"] for row in truth]
    for row in truth:
        own = {record["id"] for record in records if record["account"] == row["account"]}
        assert set(row["harvested"]) <= own  # type: ignore[call-overload]
        assert row["campaign"] or not row["harvested"]
    assert truth[0]["harvested"]
    assert not any({"type", "group", "cell", "campaign", "harvested"} & set(record) for record in records)


def test_the_command_writes_three_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says how many accounts and requests there are."""
    monkeypatch.setattr(planning, "QUICK", Size(5, 1, 20, 20))
    settings = tmp_path / "spiritsafe.toml"
    settings.write_text('[[models]]\nname = "teacher"\nbackends = ["http://127.0.0.1:8001"]\n')
    out = tmp_path / "month"
    command = ["simulate", "--quick", "--json", "--out", str(out), "--config", str(settings)]
    result = CliRunner().invoke(detector, command)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["requests"] == len((out / "traffic.jsonl").read_text().splitlines())
    assert told["accounts"] == len((out / "truth.jsonl").read_text().splitlines())
