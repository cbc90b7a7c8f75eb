"""From a withdrawal to the successor of a student, and the end of the old one."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.ledger import consents, erasing, registry, retirements
from gateway.ledger.erasing import Surroundings
from gateway.ledger.identifiers import now
from tests.distiller.house import BEGIN, records
from tests.distiller.test_commands import Desk

OPTIONS = ("--layers", "4", "--seed", "1", "--margin", "0.04", "--attempts", "2")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A house in which `shop` and `other` both agreed, and a student that learnt from both."""
    desk = Desk(tmp_path)
    with desk.house.database.write() as connection:
        consents.grant(connection, "other", "test", time=BEGIN - timedelta(days=1))
    desk.house.log([row | {"id": f"o{row['id']}", "account": "other"} for row in records(40, seed=2)])
    desk.json("train", desk.approved(), "--name", "tickets", *OPTIONS)
    return desk


def withdraw(desk: Desk) -> None:
    around = Surroundings(desk.settings, desk.house.database, lambda: None, 0.0, 0.0)
    erasing.withdraw(around, "other", "test")


def test_from_a_withdrawal_to_the_successor(desk: Desk) -> None:
    """Rows without the account wait for a person, and are trained on by the old student's recipe and rule."""
    withdraw(desk)
    command = ("retrain", "tickets@1", "--without", "other", "--requested-by", "ada")
    digest = desk.json(*command)["hash"]
    assert desk.json(*command)["hash"] == digest  # it waits
    assert "somebody else must approve" in desk("approve", digest, "--operator", "ada").stderr
    desk.json("approve", digest, "--operator", "bo")
    desk.house.log([row | {"id": f"late{row['id']}"} for row in records(5, seed=3)])  # changes nothing any more
    successor = desk.json(*command)
    assert (successor["reference"], successor["state"], successor["snapshot"]) == ("tickets@2", "trained", digest)
    training = successor["training"]
    assert (training["layers"], training["gate_margin"], training["gate_attempts"]) == (4, 0.04, 2)
    manifest = json.loads((desk.settings.data_dir / "snapshots" / digest / "manifest.json").read_text())
    assert list(manifest["report"]["accounts"]) == ["shop"]
    assert manifest["settings"]["without"] == ["other"]
    assert manifest["report"]["left_out"]["no_consent"] == 40


def test_an_account_can_be_left_out_before_it_withdraws(desk: Desk) -> None:
    """Nobody need wait for the withdrawal: its rows are left out whatever its rights, evaluation rows included."""
    digest = desk.json("retrain", "tickets@1", "--without", "other", "--requested-by", "ada")["hash"]
    manifest = json.loads((desk.settings.data_dir / "snapshots" / digest / "manifest.json").read_text())
    assert list(manifest["report"]["accounts"]) == ["shop"]


def test_the_old_student_retires_by_its_date(desk: Desk) -> None:
    """It is marked with the date that policy gives, goes on until then, and is retired by the night's maintenance."""
    withdraw(desk)
    [mark] = desk.json("show", "tickets@1")["marks"]
    with desk.house.database.write() as connection:
        student = registry.get(connection, "tickets@1")
        until = retirements.deadline(connection, student, 30)
        assert until is not None
        assert mark["retire_by"][:10] == f"{until:%Y-%m-%d}"
        assert retirements.retire_due(connection, 30, "maintenance") == []
        assert retirements.retire_due(connection, 30, "maintenance", now() + timedelta(days=31)) == ["tickets@1"]
        assert registry.get(connection, "tickets@1").state == "retired"
        assert retirements.retire_due(connection, 0, "maintenance") == []


def test_a_student_whose_rows_are_whole_stays(desk: Desk) -> None:
    """No mark, no date."""
    with desk.house.database.write() as connection:
        assert retirements.deadline(connection, registry.get(connection, "tickets@1"), 0) is None
        assert retirements.retire_due(connection, 0, "maintenance") == []
